"""A record as tables: `python -m bench.report [--markdown] [FOLDER]`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.plan import OWN
from bench.record import FILE, Medians, load
from bench.targets import Verdict, verdicts
from sse_daemon.bench.words import figure, unit

Rows = list[list[str]]

TARGETS = ["target", "limit", "measured", "peer", "ratio", "met"]
SHOWN = (
    *("deliveries_per_second", "events_per_second", "streams_per_second", "cpu_us_per_delivery", "cpu_us_per_event"),
    *("cpu_us_per_stream", "memory_bytes_per_stream", "p50_us", "p99_us", "p999_us", "seconds"),
    *("without_p99_us", "beside_p99_us", "p99_ratio"),
)
"""The figures that the long table has; the others of a record are what they were made from."""


def targets(medians: Medians, chosen: bool) -> Rows:
    """The table of the project's targets, its head first; `chosen`: of a few cases only, so without those that were not measured."""
    return [TARGETS, *(_verdict(verdict) for verdict in verdicts(medians) if verdict.met is not None or not chosen)]


def _verdict(verdict: Verdict) -> list[str]:
    goal = verdict.goal
    limit = f"{'>=' if goal.least else '<='} {figure(goal.limit)}" + (
        f" x {goal.peer}" if goal.peer else f" {goal.unit}".rstrip()
    )
    met = {True: "yes", False: "NO", None: "not measured"}[verdict.met]
    return [goal.what, limit, _with(verdict.measured, goal.unit), _with(verdict.peer, goal.unit), _with(verdict.ratio, ""), met]


def _with(value: float | None, unit: str) -> str:
    return "-" if value is None else f"{figure(value)} {unit}".rstrip()


def everything(medians: Medians) -> Rows:
    """A row for each figure of each measurement, a column for each server: the median, and the daemon's ratio to the first peer."""
    servers = medians.servers()
    head = ["measured", "figure", *servers, *(f"to {other}" for other in servers if _is_peer(other))]
    return [head, *(row for name in medians.names() for row in _rows(medians, name, servers))]


def _rows(medians: Medians, name: str, servers: Sequence[str]) -> Iterator[list[str]]:
    for each in SHOWN:
        values = [medians.value(name, server, each) for server in servers]
        if any(value is not None for value in values):
            ratios = [medians.ratio(name, OWN, other, each) for other in servers if _is_peer(other)]
            yield [name, unit(each), *(_with(value, "") for value in values), *(_with(ratio, "") for ratio in ratios)]


def _is_peer(server: str) -> bool:
    return not server.startswith(OWN)


def shares(medians: Medians) -> Rows:
    """How busy the generator was, and the server that it loaded: shares of a core."""
    head = ["measured", "server", "server's CPU", "generator's CPU"]
    return [
        head,
        *(
            [name, server, *_shares(medians, name, server)]
            for name in medians.names()
            for server in medians.servers()
            if medians.rounds(name, server)
        ),
    ]


def _shares(medians: Medians, name: str, server: str) -> list[str]:
    return ["-" if (share := medians.share(name, server, of)) is None else f"{share:.0%}" for of in ("server", "generator")]


def markdown(rows: Rows) -> str:
    """A table of Markdown."""
    head, *body = rows
    right = ["---" if place < 2 else "---:" for place in range(len(head))]
    return "\n".join("| " + " | ".join(row) + " |" for row in (head, right, *body))


def plain(rows: Rows) -> str:
    """A table whose columns are aligned."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return "\n".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows)


def machine(document: Mapping[str, Any]) -> str:
    """Where and with what it was measured, on one line."""
    facts = ", ".join(f"{name} {value}" for name, value in document["machine"].items())
    servers = ", ".join(f"{name} {version}" for name, version in document["servers"].items())
    return f"{facts}; {servers}" if servers else facts


def report(document: Mapping[str, Any], as_markdown: bool) -> str:
    """All tables of a record, and what is to be said about it."""
    medians, table = Medians(document["results"]), markdown if as_markdown else plain
    parts = [machine(document)]
    if document["plan"] != "peers":
        parts.append(table(targets(medians, bool(document["cases"]))))
    parts += [table(everything(medians)), table(shares(medians))] if document["results"] else []
    said = [
        *medians.faults(),
        *(f"{each['target']}, {each['case']}: not measured: {each['reason']}" for each in document["skipped"]),
    ]
    if not document["complete"]:
        said.insert(0, "the run is not complete")
    parts += ["\n".join(f"- {line}" for line in said)] if said else []
    return "\n\n".join(parts)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.report", description="Shows what was measured.")
    parser.add_argument("folder", nargs="?", type=Path, default=Path("bench/out"))
    parser.add_argument("--markdown", action="store_true")
    given = parser.parse_args()
    if not (given.folder / FILE).exists():
        print(f"bench.report: {given.folder / FILE} is not there: make bench", file=sys.stderr)
        return 1
    print(report(load(given.folder / FILE), given.markdown))
    return 0


if __name__ == "__main__":
    sys.exit(main())
