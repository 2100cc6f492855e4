"""What a case hands back, and how it is put down: as JSON, and as rows of a table."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from sse_daemon.bench.figures import Latency
from sse_daemon.bench.load import Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """One measurement. at: what it was measured at, such as {"n": 1000, "w": 16}; figures: name -> number, the unit in the name.

    faults: why it is not sound, if so. sent, received, expected: events, and deliveries of them. generator, server: shares of a core that
    they used, 1.0 is all of one; of the server None if its processes are not known.
    """

    case: str
    target: str
    at: Mapping[str, int | float | str] = field(default_factory=dict)
    figures: Mapping[str, float] = field(default_factory=dict)
    sent: int = 0
    received: int = 0
    expected: int = 0
    generator: float = 0.0
    server: float | None = None
    faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The case and where it was measured, on one line: the same in every run."""
        return " ".join([self.case, *(f"{key}={value}" for key, value in self.at.items())])

    @property
    def lost(self) -> int:
        """Deliveries that never came."""
        return max(0, self.expected - self.received)

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return {**asdict(self), "name": self.name, "lost": self.lost}


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped:
    """A case that could not be measured, and why."""

    case: str
    target: str
    reason: str

    def document(self) -> dict[str, Any]:
        """As JSON has it."""
        return asdict(self)


def result(case: str, target: str, outcome: Outcome, at: Mapping[str, int | float | str], **figures: float | None) -> Result:
    """A result from a load; figures that are None were not measured."""
    return Result(
        case=case,
        target=target,
        at=at,
        figures={name: value for name, value in figures.items() if value is not None},
        sent=outcome.events,
        received=outcome.received,
        expected=outcome.expected,
        generator=outcome.generator,
        server=outcome.server_share,
        faults=tuple(outcome.faults()),
    )


def of_latency(latency: Latency | None, prefix: str = "") -> dict[str, float]:
    """Its percentiles as figures, in microseconds."""
    if latency is None:
        return {}
    return {f"{prefix}{name}_us": getattr(latency, name) for name in ("p50", "p99", "p999")}
