"""What every case works with: the target, sizes, and loads that end well. Only as many streams as files may be open."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from sse_daemon.bench import process
from sse_daemon.bench.crowd import Crowd
from sse_daemon.bench.load import Aim, Load
from sse_daemon.bench.sender import Sender, connected
from sse_daemon.bench.target import Target

SPARE = 200
"""Files that are left to either process: listeners, the publisher, what a library opens."""
SAMPLES = 100
"""Subscribers whose payloads are read one by one; those between them are counted."""
OPENING = 0.3
"""Of a case's progress, for its opening."""
SETTLE = 0.2
WARM_UP = 0.15
"""Of the measured time, spent on the same load before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How large and how long. seconds: of one load. size: bytes of an event's data. events: of cases that count instead of time."""

    n: Sequence[int] = (100, 1000, 5000, 10000)
    w: Sequence[int] = (1, 16, 64)
    seconds: float = 2.0
    size: int = 100
    events: int = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One target under measurement. progress: what is under way, and how much of it is done, 0 to 1."""

    target: Target
    sizes: Sizes = field(default_factory=Sizes)
    progress: Callable[[str, float], object] = lambda what, done: None

    def room(self) -> tuple[int, str | None]:
        """How many streams can be open, and whose limit of open files that is."""
        here = process.own_files() - SPARE
        there = [limit - used - SPARE for used, limit in map(process.files, process.family(self.target.pids))]
        if there and min(there) < here:
            return min(there), f"the limit of open files of {self.target.name}"
        return here, "the limit of open files of the generator"

    def fitting(self, numbers: Sequence[int]) -> tuple[list[int], str | None]:
        """Those of the numbers of streams that are possible, and what is said of the others."""
        room, why = self.room()
        left_out = [number for number in numbers if number > room]
        said = f"stopped below {min(left_out):,} streams: {why} leaves room for {room:,}" if left_out else None
        return [number for number in numbers if number <= room], said

    @contextmanager
    def crowd(self, keys: Sequence[str], **how: int | str | None) -> Iterator[Crowd]:
        """Open subscribers of these keys; closed at the end. how: as for Crowd.open."""
        with Crowd(self.target) as crowd:
            self.open(crowd, keys, **how)
            # A response's head says that the stream is open; some servers subscribe it to its channel only after that.
            time.sleep(SETTLE)
            yield crowd

    def open(self, crowd: Crowd, keys: Sequence[str], **how: int | str | None) -> None:
        """Opens subscribers with progress."""
        sample = {"sample": max(1, len(keys) // SAMPLES)}
        crowd.open(keys, progress=lambda done: self.progress("opening", OPENING * done / len(keys)), **{**sample, **how})  # type: ignore[arg-type]

    @contextmanager
    def load(self, crowd: Crowd, sender: Sender, aim: Aim) -> Iterator[Load]:
        """A publisher on that crowd; ended at the end."""
        load = Load(crowd, sender, aim)
        try:
            yield load
        finally:
            load.close()

    # Whom events go to.

    def all_keys(self, n: int) -> list[str]:
        """n subscribers that share one key."""
        return [self.target.key(0)] * n

    def own_keys(self, n: int) -> list[str]:
        """n subscribers with a key each."""
        return [self.target.key(number) for number in range(n)]

    def to_all(self, n: int) -> Aim:
        """Events that reach all n."""
        return Aim(keys=self.all_keys(1), each=n, size=self.sizes.size)

    def to_one(self, n: int) -> Aim:
        """Events for one of n each, in an order that is the same every time but follows no pattern."""
        return Aim(keys=random.Random(n).choices(self.own_keys(n), k=20_011), each=1, size=self.sizes.size)

    def sender(self) -> Sender:
        """A publisher to keys."""
        return connected(self.target.publish, self.sizes.size)

    def sender_to_all(self, size: int | None = None) -> Sender:
        """A publisher to all who share a key."""
        return connected(self.target.publish_all or self.target.publish, size or self.sizes.size)
