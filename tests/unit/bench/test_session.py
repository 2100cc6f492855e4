"""Sizes that fit, keys, and the steps of a run."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sse_daemon.bench import process
from sse_daemon.bench.daemon import target
from sse_daemon.bench.result import Result, Skipped
from sse_daemon.bench.session import SPARE, Session, Sizes
from sse_daemon.bench.suite import ABOUT, measured, run, steps
from tests.unit.bench.fanout import FanOut

DAEMON = target(host="127.0.0.1", port=1, pubsub="tcp://127.0.0.1:2", acked="tcp://127.0.0.1:3")
SMALL = Sizes(n=(3,), w=(1, 2), seconds=0.05, events=5)


def test_two_runs_never_meet() -> None:
    again = target(host="127.0.0.1", port=1, pubsub="tcp://127.0.0.1:2")
    assert DAEMON.key(0) != again.key(0)
    assert DAEMON.key(0).startswith("bench-")


def test_what_is_for_one_reaches_every_key_and_in_the_same_order_each_time() -> None:
    session = Session(target=DAEMON)
    aim = session.to_one(10)
    assert set(aim.keys) == set(session.own_keys(10))
    assert list(session.to_one(10).keys) == list(aim.keys)
    assert aim.each == 1
    assert session.to_all(10).each == 10


def test_only_as_many_streams_as_files_and_it_says_whose() -> None:
    session = Session(target=DAEMON)
    room = process.own_files() - SPARE
    fitting, why = session.fitting([10, room - 10, room + 1000])
    assert fitting == [10, room - 10]
    assert why is not None
    assert "the limit of open files of the generator" in why
    assert session.fitting([10]) == ([10], None)


def test_a_step_that_does_not_fit_is_skipped_with_its_reason() -> None:
    session = Session(target=DAEMON, sizes=replace(SMALL, n=(10_000_000,)))
    (step, *_) = steps(session, ["to-all"])
    (found,) = measured(step, session)
    assert isinstance(found, Skipped)
    assert "open files" in found.reason


def test_steps_come_in_the_order_of_the_document_and_only_the_chosen() -> None:
    session = Session(target=DAEMON, sizes=SMALL)
    assert list(dict.fromkeys(step.case for step in steps(session, list(ABOUT)))) == [
        case
        for case in ABOUT
        if case != "participants"  # the smallest of these is ten
    ]
    assert [step.case for step in steps(session, ["idle", "to-one"])] == ["to-one", "idle"]


def test_what_a_server_cannot_do_is_no_step_for_it() -> None:
    session = Session(target=replace(DAEMON, acked=None, separator=None), sizes=SMALL)
    assert not {"acked", "recipients"} & {step.case for step in steps(session, list(ABOUT))}


def test_a_run_measures_one_after_another_and_tells_how_far_it_is() -> None:
    told: list[tuple[str, float]] = []
    with FanOut().running() as server:
        session = Session(target=server.target, sizes=SMALL)
        found = list(run(session, ["to-all", "idle"], lambda what, done: told.append((what, done))))
    assert [each.name for each in found if isinstance(each, Result)] == ["to-all n=3 w=1", "to-all n=3 w=2", "idle"]
    assert all(each.received == each.expected > 0 for each in found if isinstance(each, Result))
    assert [done for _, done in told] == sorted(done for _, done in told)
    assert told[0][1] == 0


def test_a_server_that_is_gone_ends_the_step_and_not_the_run() -> None:
    with FanOut().running() as server:
        gone = server.target
    found = list(run(Session(target=gone, sizes=SMALL), ["to-all", "idle"], lambda what, done: None))
    assert [each.case for each in found] == ["to-all", "idle"]
    assert all(isinstance(each, Skipped) and "no connection" in each.reason for each in found)


@pytest.mark.parametrize("case", ["storm"])
def test_a_server_that_forgets_shows_holes(case: str) -> None:
    # Nothing is kept for whoever comes back: everything that was missed is a hole.
    from sse_daemon.bench import streams

    with FanOut().running() as server, pytest.MonkeyPatch.context() as patch:
        patch.setattr(streams, "GRACE", 0.3)
        found = streams.storm(Session(target=server.target, sizes=SMALL), 3)
    assert found.lost == 3 * streams.MISSED
    assert found.faults[0] == f"{3 * streams.MISSED} events are missing after the storm"
