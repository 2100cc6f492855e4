"""`make bench` in small: servers that are started, measured in turn, put down, shown."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from bench import curves, plan, run
from bench.peers import FLOOR, Daemon, PeerError, Running
from bench.peers.process import alive
from bench.record import FILE, Record, load
from bench.report import report
from bench.servers import Servers, target
from sse_daemon.bench import cases, streams
from sse_daemon.bench.session import Session, Sizes
from sse_daemon.bench.target import ZmqPublish

TINY = Sizes(seconds=0.1, events=10)


def item(name: str, *servers: str, n: int = 20) -> plan.Item:
    """One of the real items, small."""
    if name == "workers":
        (found,) = plan._workers(name, servers, [(cases.TO_ONE, n, (1, 4))])
        return found
    measure = plan._of(cases.to_all, n, (1, 4)) if name == "to-all" else plan._of(streams.opening, n)
    return plan.Item(case=name, name=f"{name} {n}", n=n, servers=servers, measure=measure, fresh=name == "opening")


def small(*items: plan.Item) -> plan.Plan:
    return plan.Plan(name="small", items=items, rounds=2, seconds=TINY.seconds, events=TINY.events)


def measured(chosen: plan.Plan, servers: Servers, folder: Path) -> list[str]:
    """Runs the plan into the folder; what was told."""
    told: list[str] = []
    record = Record(folder, chosen.name, [])
    run._measure(chosen, servers, record, lambda what, done: told.append(what))
    record.finish()
    return told


@dataclass(frozen=True)
class Broken:
    """A peer that never starts."""

    name: str = "broken"

    def missing(self) -> str | None:
        return None

    def start(self, *, core: int | None, directory: Path) -> Running:
        raise PeerError("it has no legs")


def test_a_run_measures_every_server_in_every_round_and_draws_its_curves(tmp_path: Path) -> None:
    with Servers({plan.OWN: Daemon(), "broken": Broken()}, None) as servers:
        told = measured(small(item("to-all", plan.OWN, "broken"), item("opening", plan.OWN)), servers, tmp_path)
        running = servers.target(plan.OWN).pids
        assert all(map(alive, running))
    assert not any(map(alive, running))
    document = load(tmp_path / FILE)
    assert document["complete"]
    assert sorted((row["name"], row["round"]) for row in document["results"]) == sorted(
        (name, number) for name in ("to-all n=20 w=1", "to-all n=20 w=4", "opening n=20") for number in (0, 1)
    )
    assert all(row["received"] == row["expected"] for row in document["results"])
    assert document["skipped"] == [{"case": "to-all 20", "target": "broken", "reason": "it has no legs"}]
    assert told[0] == "round 1 of 2: to-all 20 on sse-daemon"
    assert "it has no legs" in report(document, as_markdown=False)
    said: list[str] = []
    drawn = curves.draw(document, tmp_path, said.append)
    assert (drawn and all(path.stat().st_size > 1000 for path in drawn)) or "matplotlib is not installed" in said[0]


def test_one_process_and_two_workers_are_measured_side_by_side(tmp_path: Path) -> None:
    two = Daemon(options=("--workers", "2"), name=plan.WORKERS)
    with Servers({plan.OWN: Daemon(), plan.WORKERS: two, "broken": Broken()}, None) as servers:
        chosen = small(item("workers", plan.OWN, plan.WORKERS), item("workers", plan.OWN, "broken", n=10))
        told = measured(chosen, servers, tmp_path)
    document = load(tmp_path / FILE)
    assert sorted((row["name"], row["target"], row["round"]) for row in document["results"]) == sorted(
        (f"workers to=one n=20 w={w}", server, number) for w in (1, 4) for server in (plan.OWN, plan.WORKERS) for number in (0, 1)
    )
    assert all(row["received"] == row["expected"] > 0 for row in document["results"])
    assert set(document["servers"]) == {plan.OWN, plan.WORKERS}
    assert told[0] == "round 1 of 2: workers to-one 20 on sse-daemon and sse-daemon two workers"
    reason = {"case": "workers to-one 10", "target": "sse-daemon and broken", "reason": "it has no legs"}
    assert document["skipped"] == [reason]


def test_what_was_measured_before_a_run_was_cut_short_is_not_measured_again(tmp_path: Path) -> None:
    chosen = small(item("to-all", plan.OWN))
    with Servers({plan.OWN: Daemon()}, None) as servers:
        record = Record(tmp_path, "small", [])
        record.add("0 to-all 20 sse-daemon", {}, [], [])
        measured(chosen, servers, tmp_path)
    document = json.loads((tmp_path / FILE).read_text())
    assert {row["round"] for row in document["results"]} == {1}


def test_a_fresh_server_is_another_process(tmp_path: Path) -> None:
    with Servers({plan.OWN: Daemon()}, None) as servers:
        first = servers.target(plan.OWN)
        assert servers.target(plan.OWN).pids == first.pids
        again = servers.target(plan.OWN, fresh=True)
        assert again.pids != first.pids
        assert not any(map(alive, first.pids))


def test_the_sqlite_log_answers_every_event(tmp_path: Path) -> None:
    running = Daemon(backend="sqlite", name=plan.SQLITE).start(core=None, directory=tmp_path)
    try:
        assert isinstance(target(running).acked, ZmqPublish)
        found = cases.acked(Session(target=target(running), sizes=TINY), 8)
        assert found.received == found.expected > 8
        assert found.lost == 0
        assert (tmp_path / "log.db").stat().st_size > 0
    finally:
        running.stop()


@pytest.mark.may_skip("a C compiler is not needed for anything else")
def test_the_floor_delivers_everything_to_everybody(tmp_path: Path) -> None:
    if missing := FLOOR.missing():
        pytest.skip(missing)
    running = FLOOR.start(core=None, directory=tmp_path)
    try:
        for found in cases.to_all(Session(target=target(running), sizes=TINY), 50, (1, 16)):
            assert found.received == found.expected > 0
            assert not [fault for fault in found.faults if "generator" not in fault]
    finally:
        running.stop()
    assert not any(map(alive, running.pids))


@pytest.mark.parametrize("arguments", [["everything"], ["--full", "nothing"]])
def test_a_case_that_does_not_exist_is_wrong_usage(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        run.main(arguments)
    assert ended.value.code == 2
    assert "no case" in capsys.readouterr().err
