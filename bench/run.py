"""`python -m bench.run`: the daemon beside its peers, round by round, on this machine. `make bench` and `make bench-peers` call it."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from bench import curves, plan, report
from bench.peers import FLOOR, PEERS, CompiledDaemon, Daemon, Peer, PeerError
from bench.record import Record
from bench.servers import Servers, cores
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.result import Result
from sse_daemon.bench.session import Session, Sizes

CASES = (
    *("to-all", "to-one", "workers", "scaling", "idle", "opening", "storm", "stalled", "acked", "latency"),
    *("participants", "kept", "recipients"),
)
BUSY = 0.3
"""Load of the machine from which on it is said that others work on it."""

Tell = Callable[[str, float], object]


def main(argv: Sequence[str] | None = None) -> int:
    """The exit status: 1 if the daemon itself could not be measured."""
    given = _arguments(argv)
    own = {peer.name: peer for peer in _own()}
    compared = PEERS if given.peers else [peer for peer in (*PEERS, FLOOR) if peer.name in plan.ALL]
    usable, missing = _usable([CompiledDaemon(), *compared])
    chosen = _plan(given, list(usable))
    record = Record(given.out, chosen.name, given.cases)
    core, rest = cores()
    os.sched_setaffinity(0, rest)
    _say_before(core, missing)
    with Servers({**own, **usable}, core) as servers, _progress() as tell:
        _measure(chosen, servers, record, tell)
    record.finish()
    _show(record, given.json, missing)
    return 1 if any(each["target"].startswith(plan.OWN) for each in record.document["skipped"]) else 0


def _own() -> tuple[Daemon, ...]:
    """This daemon as it is measured: with a log in memory or in a file, with one process that holds streams or with two."""
    two = ("--workers", "2")
    return (
        Daemon(),
        Daemon(backend="sqlite", name=plan.SQLITE),
        Daemon(options=two, name=plan.WORKERS),
        Daemon(name=plan.SPREAD, everywhere=True),
        Daemon(options=two, name=plan.SPREAD_WORKERS, everywhere=True),
    )


def _arguments(argv: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.run", description="Measures the daemon beside its peers.")
    parser.add_argument("--full", action="store_true", help="every size, five rounds (about 23 minutes)")
    parser.add_argument("--peers", action="store_true", help="one load on every peer instead")
    parser.add_argument("--out", type=Path, default=Path("bench/out"), help="the folder for results.json and the curves")
    parser.add_argument("--json", action="store_true", help="print the record instead of tables")
    parser.add_argument("cases", nargs="*", metavar="CASE", help=f"only these: {', '.join(CASES)}")
    given = parser.parse_args(argv)
    if unknown := set(given.cases) - set(CASES):
        parser.error(f"no case {', '.join(sorted(unknown))}; there are {', '.join(CASES)}")
    return given


def _plan(given: argparse.Namespace, usable: Sequence[str]) -> plan.Plan:
    if given.peers:
        return plan.peers(usable, given.cases)
    return plan.full(given.cases) if given.full else plan.quick(given.cases)


def _usable(peers: Sequence[Peer]) -> tuple[dict[str, Peer], dict[str, str]]:
    """Those that can be started, and why the others cannot."""
    missing = {peer.name: why for peer in peers if (why := peer.missing()) is not None}
    return {peer.name: peer for peer in peers if peer.name not in missing}, missing


def _say_before(core: int | None, missing: dict[str, str]) -> None:
    if core is None:
        _note("there is one core: servers and generator share it, and no figure means much")
    if os.getloadavg()[0] > BUSY:
        _note(f"the machine is busy (load {os.getloadavg()[0]:.1f}): the ratios bear that better than the figures")
    for name, why in missing.items():
        _note(f"without {name}: {why}")


def _measure(chosen: plan.Plan, servers: Servers, record: Record, tell: Tell) -> None:
    turns = [turn for turn in chosen.turns() if all(server in servers.peers for server in turn[2])]
    sizes = Sizes(seconds=chosen.seconds, events=chosen.events)
    for place, (number, item, measured) in enumerate(turns):
        who = " and ".join(sorted(measured, key=item.servers.index))
        key = f"{number} {item.name} {who}"
        if not record.has(key):
            tell(f"round {number + 1} of {chosen.rounds}: {item.name} on {who}", place / len(turns))
            try:
                versions, results = _turn(item, measured, servers, sizes)
                record.add(key, versions, [{**result.document(), "round": number} for result in results], [])
            except (Broken, PeerError) as error:
                for server in measured:
                    servers.drop(server)  # it may be what broke
                record.add(key, {}, [], [{"case": item.name, "target": who, "reason": str(error)}])
    tell("", 1.0)


def _turn(item: plan.Item, measured: Sequence[str], servers: Servers, sizes: Sizes) -> tuple[dict[str, str], list[Result]]:
    """One measurement: the versions of the servers, and what came of it. Raises Broken, PeerError."""
    targets = [replace(servers.target(server, fresh=item.fresh), name=server) for server in measured]
    sessions = [Session(target=target, sizes=sizes) for target in targets]
    fitting, why = sessions[0].fitting([item.n * len(sessions)])  # the generator has the streams of all of them
    if not fitting:
        raise Broken(str(why))
    return {target.name: target.version for target in targets}, item.measure(sessions)


def _show(record: Record, as_json: bool, missing: dict[str, str]) -> None:
    if as_json:
        print(json.dumps(record.document))
        return
    print(report.report(record.document, as_markdown=False))
    for name, why in missing.items():
        print(f"- without {name}: {why}")
    _note(f"the record is {record.path}")
    for path in curves.draw(record.document, record.path.parent, _note):
        _note(f"drawn: {path}")


def _note(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


@contextmanager
def _progress() -> Iterator[Tell]:
    """A bar on standard error; where that is no terminal, a line for each measurement."""
    if not sys.stderr.isatty():
        yield lambda what, done: _note(f"{done:4.0%} {what}") if what else None
        return
    columns = (BarColumn(), TaskProgressColumn(), TimeElapsedColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=1.0)
        yield lambda what, done: bar.update(task, description=what, completed=done)


if __name__ == "__main__":
    sys.exit(main())
