"""What a log has to remember to answer a record; imported as sse_daemon.backends.ledger, never under the bare name.

Pure, and shared by the logs that decide in this process: `decide` says what a record would become, `apply` makes it so. What they
decide from is bounded by `Limits`: the senders' numbers (producers.py) and how full the snapshots' slots are.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeAlias, TypeGuard

from sse_daemon.backend import Limits, Stored
from sse_daemon.backends.producers import Producers, Run
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Item, Record, Repeat, Storable

SLOT_BYTES = 300
"""What a slot costs beside its texts and data: names, tuple, dictionary entries."""

Slot: TypeAlias = tuple[str, "str | None", str]
"""(channel, topic, type): the place of one snapshot."""


def slots_of(draft: Draft) -> list[Slot]:
    """The slots that a retained event fills or clears: one for each of its channels."""
    return [(channel, draft.topic, draft.type) for channel in draft.channels]


def slot_cost(slot: Slot, draft: Draft) -> int:
    """Bytes that `draft` takes as the snapshot of `slot`; 0 when it clears the slot."""
    if not draft.data:
        return 0
    texts = sum(len(name) + sum(map(len, value)) for name, value in draft.attrs)
    return SLOT_BYTES + len(draft.data) + texts + sum(len(part or "") for part in slot)


class Plan:
    """What a record becomes: the answer, its new items in order with their positions, and what its slots will cost."""

    __slots__ = ("answer", "fresh", "slots")

    def __init__(
        self, answer: Stored, fresh: tuple[tuple[int, Storable], ...], slots: dict[Slot, tuple[int, float | None]]
    ) -> None:
        self.answer = answer
        self.fresh = fresh
        self.slots = slots


class Slots:
    """How full the snapshots are: what each slot costs and when it expires."""

    def __init__(self, limits: Limits) -> None:
        self._max_bytes = limits.retained_bytes
        self._max_slots = limits.retained_slots
        self._slots: dict[Slot, tuple[int, float | None]] = {}
        self._expiry = float("inf")
        self.bytes = 0

    def __len__(self) -> int:
        return len(self._slots)

    def cost(self, slot: Slot) -> int:
        """Bytes that the slot takes now."""
        return self._slots.get(slot, (0, None))[0]

    def set(self, slot: Slot, cost: int, expires: float | None) -> None:
        """The slot costs `cost` from now on; 0: it is empty."""
        self.bytes += cost - self.cost(slot)
        if not cost:
            self._slots.pop(slot, None)
            return
        self._slots[slot] = (cost, expires)
        if expires is not None:
            self._expiry = min(self._expiry, expires)

    def fits(self, extra_bytes: int, extra_slots: int) -> bool:
        """Whether there is room for so much more."""
        return self.bytes + extra_bytes <= self._max_bytes and len(self) + extra_slots <= self._max_slots

    def expired(self, now: float) -> list[Slot]:
        """The slots whose snapshot has expired. Looks at all of them, but only if one may have."""
        if now < self._expiry:
            return []
        gone = [slot for slot, (_, expires) in self._slots.items() if expires is not None and expires <= now]
        left = (expires for _, expires in self._slots.values() if expires is not None and expires > now)
        self._expiry = min(left, default=float("inf"))
        return gone


class Ledger:
    """The head of a log and what decides over its next record."""

    def __init__(self, limits: Limits, head: int = 0) -> None:
        self.head = head
        self.producers = Producers(limits.dedupe_window, limits.max_producers)
        self.slots = Slots(limits)

    def decide(self, record: Record, now: float) -> Plan | Refusal:
        """What `record` would become; nothing changes."""
        if len(record) == 1 and self._is_plain(item := record[0]):
            position = self.head + 1
            return Plan(Stored((position,)), ((position, item),), {})
        draft = _Planning(self, now)
        for index, item in enumerate(record):
            try:
                draft.add(item)
            except Refusal as refusal:
                return refusal.at(index)
        return draft.plan()

    def apply(self, plan: Plan, now: float) -> list[str]:
        """The record of `plan` is stored. Returns the senders that had to be forgotten for its own."""
        self.head += len(plan.fresh)
        for slot, (cost, expires) in plan.slots.items():
            self.slots.set(slot, cost, expires)
        forgotten = [self.producers.add(sender, run, now) for sender, run in runs_of(plan.fresh)]
        return [sender for sender in forgotten if sender is not None]

    def take(self, record: Record, now: float) -> Draft | None:
        """Applies nearly every record at once, one event for which there is nothing to weigh, and gives it; it stands at the head.

        None, and nothing has changed, where there is something to `decide`.
        """
        if len(record) != 1 or not self._is_plain(item := record[0]):
            return None
        self.head += 1
        if item.sender is not None and item.n is not None:
            self.producers.add(item.sender, Run(item.n, item.n, self.head), now)
        return item

    def _is_plain(self, item: Item) -> TypeGuard[Draft]:
        """Whether it is news and takes no slot; not where it may be a repeat, its sender needs a place, or it is a snapshot."""
        if not isinstance(item, Draft) or item.retain:
            return False
        return item.sender is None or item.n is None or self.producers.is_news(item.sender, item.n)


def runs_of(fresh: Iterable[tuple[int, Storable]]) -> list[tuple[str, Run]]:
    """The numbers of new items, consecutive ones of one sender as one run."""
    runs: list[tuple[str, Run]] = []
    for position, item in fresh:
        if item.sender is None or item.n is None:
            continue
        if runs and runs[-1][0] == item.sender:
            run = runs[-1][1]
            if run.last == item.n - 1 and run.position + item.n - run.first == position:
                runs[-1] = (item.sender, run._replace(last=item.n))
                continue
        runs.append((item.sender, Run(item.n, item.n, position)))
    return runs


class _Planning:
    """One record on its way to a plan: what the ledger says, and what the record's own earlier items add to it."""

    def __init__(self, ledger: Ledger, now: float) -> None:
        self._ledger = ledger
        self._now = now
        self._positions: list[int] = []
        self._fresh: list[tuple[int, Storable]] = []
        self._numbers: dict[tuple[str, int], int] = {}
        self._senders: set[str] = set()
        self._slots: dict[Slot, tuple[int, float | None]] = {}
        self._extra_bytes = 0
        self._extra_slots = 0

    def add(self, item: Item) -> None:
        """Raises Refusal if the item cannot be stored."""
        position = self._known(item)
        if position is None:
            if isinstance(item, Repeat):
                raise Refusal(item.code, item.detail)
            position = self._ledger.head + len(self._fresh) + 1
            if isinstance(item, Draft) and item.retain:
                self._retain(item)
            if item.sender is not None and item.n is not None:
                self._numbers[item.sender, item.n] = position
            self._fresh.append((position, item))
        self._positions.append(position)

    def plan(self) -> Plan:
        repeated = bool(self._positions) and not self._fresh
        return Plan(Stored(tuple(self._positions), repeated), tuple(self._fresh), self._slots)

    def _known(self, item: Item) -> int | None:
        if item.sender is None or item.n is None:
            return None
        if (item.sender, item.n) in self._numbers:
            return self._numbers[item.sender, item.n]
        producers = self._ledger.producers
        if item.sender not in self._senders and not producers.knows(item.sender):
            producers.check_room(len(self._senders) + 1, self._now)
            self._senders.add(item.sender)
        return producers.find(item.sender, item.n)

    def _retain(self, draft: Draft) -> None:
        for slot in slots_of(draft):
            before = self._slots[slot][0] if slot in self._slots else self._ledger.slots.cost(slot)
            cost = slot_cost(slot, draft)
            self._extra_bytes += cost - before
            self._extra_slots += bool(cost) - bool(before)
            if cost > before and not self._ledger.slots.fits(self._extra_bytes, self._extra_slots):
                raise Refusal("retained_full", "there is no room for another snapshot")
            self._slots[slot] = (cost, draft.expires)
