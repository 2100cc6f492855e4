"""The port between the daemon and a log.

A backend is one log that daemons append to and follow. `sse_daemon/backends/memory.py` is the reference implementation; read it
first. `sse_daemon/backends/conformance.py` has one check for every promise written here. A third party's backend is found by the
entry point group `sse_daemon.backends` under the scheme of its URL.

What holds for every method:

* It is called on the daemon's event loop, and never blocks it: no file, socket or lock is waited for on the loop's thread.
* Its arguments were validated; it need not look again.
* It may be called while another call is waiting, except `open`, which is alone, and `close`, after which everything raises
  BackendUnavailable. `close` twice is fine.
* A cancelled `append` may still be stored, whole or not at all.
* Faults are raised as BackendError and nothing else; the log stays usable after StorageFull and BackendUnavailable.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Literal, NamedTuple, Protocol, TypeAlias

from sse_daemon.errors import Refusal
from sse_daemon.event import Event, Logged, Record

Deliver: TypeAlias = Callable[[Sequence[Logged], int, int], None]
"""deliver(batch, after, last): the log's items after position `after`, through `last`, in order.

`after` is the `last` of the call before (or the head that `open` gave), and last - after == len(batch).
"""


PAGE_BYTES = 256 * 1024
"""Bytes of data after which `read` ends a page: what a reader throws away when its client's socket is full stays small."""


class Stored(NamedTuple):
    """A record is in the log: the position of each of its items. `repeated`: all of them had been stored before."""

    positions: tuple[int, ...]
    repeated: bool = False


class Page(NamedTuple):
    """What the asked channels hold in (after, through], complete and in order."""

    events: Sequence[Event]
    through: int


class Gap(NamedTuple):
    """The log cannot say what came after the asked position.

    expired: some of it is no longer kept. unknown_cursor: the position is beyond the log's end.
    """

    reason: Literal["expired", "unknown_cursor"]


class Snapshots(NamedTuple):
    """The retained events of the asked channels as they stood at position `at`, oldest first."""

    events: Sequence[Event]
    at: int


class Opened(NamedTuple):
    """What a daemon needs to know of the log it begins to follow.

    incarnation: 12 hexadecimal digits that change whenever positions start anew; head: the last position; groups and topics:
    what Group and Topic items up to the head come to.
    """

    incarnation: str
    head: int
    groups: Mapping[str, tuple[str, ...]]
    topics: frozenset[str]


class Backend(Protocol):
    """One log. Constructed with the backend's URL and a `Limits`; nothing is touched before `open`."""

    @property
    def durable(self) -> bool:
        """What append has stored survives kill -9 of every process. A constant of the class."""

    @property
    def shared(self) -> bool:
        """Several daemons may use it at once. A constant of the class."""

    async def open(self, deliver: Deliver) -> Opened:
        """Begins to follow the log.

        From here on every item beyond the returned head reaches `deliver` once, in order, on the loop, and never before it is
        as safe as this backend promises. An exception of `deliver` is the daemon's defect: it is not caught.

        Raises BackendUnusable (corrupt, newer, held by another daemon), BackendUnavailable, StorageFull.
        """

    async def append(self, records: Sequence[Record]) -> Sequence[Stored | Refusal]:
        """Stores each record whole or not at all, in the order given, and answers for each in that order.

        When it returns, what it answered `Stored` is as safe as the backend promises, and this daemon's `deliver` has seen it.
        An item whose (sender, n) is remembered is not stored again: its first position is answered. It is remembered in the
        same transaction that stores it, for at least `dedupe_window` seconds; a number of a remembered sender that may
        have been stored once and is not remembered any more is refused as `too_old`. A sender is remembered for as long, and longer
        while there is room. What is refused is not remembered. A `Repeat` is never stored: it is answered like any
        item that is remembered, or refused as it says.

        Refusals: `too_old`, `too_many_producers`, `retained_full`, each with the index of the item.
        Raises StorageFull: nothing of all the records was stored. Raises BackendUnavailable: whether they are is not known; if it
        turns out that they are, they are delivered then, and a numbered retry gets their positions.
        """

    async def read(self, channels: Collection[str], after: int, limit: int) -> Page | Gap:
        """What `channels` hold after position `after`.

        The page is complete for (after, through]; through > after unless the log ends at `after`. `limit` bounds how many
        events of these channels one page has; a page also ends once its data is more than PAGE_BYTES. A caller goes on from
        `through`. An event on several of the channels comes once.
        """

    async def retained(self, channels: Collection[str] | None) -> Snapshots:
        """The snapshots in the slots of `channels` (None: all of them) and the position that they represent.

        Expired snapshots are left out. What is later than `at` is not in them, what is up to `at` is.
        """

    async def check(self) -> None:
        """Returns when an append would be stored now; raises StorageFull or BackendUnavailable when it would not."""

    async def close(self) -> None:
        """Stops following; what was answered `Stored` stays so. Waits for appends in flight."""


class Limits(NamedTuple):
    """The bounds that every backend keeps.

    retention_bytes, retention_age: how much of the log, and how many seconds of it, is kept for clients that come back.
    retained_bytes, retained_slots: how much the snapshots may take together, and how many there may be.
    dedupe_window: seconds for which (sender, n) is remembered; max_producers: how many senders are remembered.
    """

    retention_bytes: int = 256 * 1024 * 1024
    retention_age: float = 24 * 3600.0
    retained_bytes: int = 64 * 1024 * 1024
    retained_slots: int = 100_000
    dedupe_window: float = 600.0
    max_producers: int = 10_000
