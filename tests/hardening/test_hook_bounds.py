"""Mode "hook": the application is never asked more than it may be, nor waited for longer, and no answer is good for longer than it is."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.hardening.application import AWAY, SETTINGS, Application, Asked, Piece, answer, by_token, fresh, named, outcomes
from tests.hardening.pages import SAME
from tests.hardening.signing import Visitor, code, host_of
from tests.hardening.tokens import bearer
from tests.integration.client import Client, Header, Publisher, Response
from tests.integration.daemon import RunningDaemon

DOORS = True

Until = Callable[..., Any]


@pytest.fixture(scope="module")
def daemon(application: Application) -> Iterator[RunningDaemon]:
    with RunningDaemon(application.config(hook_timeout=1.0) + SETTINGS, dev=False) as daemon:
        yield daemon


# An application in trouble


def test_one_that_hangs_holds_nobody_else_up(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    stuck = fresh("stuck")

    def answers(asked: Asked) -> list[Piece]:
        return [app.held, named("stuck")] if asked.token == stuck else by_token(asked)

    app.answers = answers
    before = outcomes(daemon).get("timeout", 0)
    healthy = visitor.ask("/events", bearer(fresh("alice")))
    with Client(daemon.http_port) as waiting, Publisher(daemon.acked) as publisher:
        waiting.ask("/events", bearer(stuck))
        later = visitor.ask("/events", bearer(fresh("alice")))
        last = publisher.event("meanwhile", to=["alice"])
        for stream in (healthy, later):
            assert [message.data for message in stream.until(last)][1:] == ["meanwhile"]
        assert code(Response(waiting)) == AWAY
    assert outcomes(daemon)["timeout"] == before + 1


def test_one_that_dribbles_is_not_waited_for(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    def slowly(asked: Asked) -> Iterator[Piece]:
        for byte in named("alice"):
            yield bytes([byte])
            yield lambda: app.go.wait(0.1) and None

    app.answers = slowly
    before = outcomes(daemon).get("timeout", 0)
    assert visitor.refused("/events", bearer(fresh("alice"))) == AWAY
    assert outcomes(daemon)["timeout"] == before + 1


def test_one_that_dies_keeps_new_ones_out_until_it_is_back(visitor: Visitor, app: Application, daemon: RunningDaemon) -> None:
    stream = visitor.ask("/events", bearer(fresh("alice")))
    app.stop()
    try:
        before = outcomes(daemon).get("failed", 0)
        assert visitor.refused("/events", bearer(fresh("alice"))) == AWAY
        assert outcomes(daemon)["failed"] == before + 1
        assert httpx.get(daemon.http + "/readyz").status_code == 200, "who is there is served"
        with Publisher(daemon.acked) as publisher:
            last = publisher.event("still here", to=["alice"])
        assert [message.data for message in stream.until(last)][1:] == ["still here"]
    finally:
        app.start()
    assert visitor.ask("/events", bearer(fresh("alice"))).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_one_that_is_not_there_yet_keeps_the_daemon_unready(until_blocking: Until, workers: int) -> None:
    app = Application()
    app.reserve()
    app.answers = lambda _: [answer(500)]  # anything is a sign of life
    with RunningDaemon(app.config() + f"[daemon]\nworkers = {workers}\n", dev=False) as daemon, Visitor(daemon) as visitor:
        ready = daemon.http + "/readyz"
        assert not daemon.lines("ready")
        (line,) = daemon.lines("started")
        assert line["ready"] == "no" and "hook_url" in line["reason"]
        assert httpx.get(ready).status_code == 503
        assert "hook_url" in httpx.get(ready).json()["detail"]
        stats = daemon.ask("stats")
        assert "hook_url" in stats["not_ready"]
        assert (stats["metrics"]["ready"], stats["metrics"]["hook_waiting"]) == (0.0, workers)
        assert httpx.get(daemon.http + "/healthz").status_code == 200
        assert visitor.refused("/events", bearer("alice.1")) == AWAY
        with app:
            until_blocking(lambda: httpx.get(ready).status_code == 200, "ready")
            until_blocking(lambda: daemon.ask("stats")["metrics"]["hook_waiting"] == 0, "everybody has seen it")
            assert daemon.ask("stats")["not_ready"] is None
            (line,) = until_blocking(lambda: daemon.lines("ready"), "it to be said")
            assert line["http"] == daemon.ready["http"]
            app.answers = by_token
            assert visitor.ask("/events", bearer("alice.1")).status == 200


# How much it is asked


@pytest.mark.parametrize("workers", [1, 2])
def test_a_crowd_asks_no_more_than_it_may(until_blocking: Until, workers: int) -> None:
    with Application() as app, ExitStack() as opened:
        config = app.config(hook_concurrency=2, hook_queue=4, hook_timeout=10) + f"[daemon]\nworkers = {workers}\n"
        daemon = opened.enter_context(RunningDaemon(config, dev=False))
        app.answers = lambda asked: [app.held, *by_token(asked)]
        app.at_once = 0
        crowd = [opened.enter_context(Client(daemon.http_port)) for _ in range(40)]
        for number, client in enumerate(crowd):
            client.ask("/events", bearer(f"p{number}.x"))
        until_blocking(lambda: outcomes(daemon).get("crowded", 0) >= 34, "the others are turned away at once")
        app.go.set()
        ends = [Response(client) for client in crowd]
        served = [end for end in ends if end.status == 200]
        assert len(served) == 6
        assert {code(end) for end in ends if end.status != 200} == {AWAY}
        assert app.at_once <= 2
        app.answers = by_token
        with Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("after.1")).status == 200


def test_the_same_question_is_asked_once_at_a_time(
    visitor: Visitor, app: Application, daemon: RunningDaemon, until_blocking: Until
) -> None:
    one, other = fresh("alice"), fresh("bob")
    app.answers = lambda asked: [app.held, *by_token(asked)]
    with ExitStack() as opened:
        clients = [opened.enter_context(Client(daemon.http_port)) for _ in range(11)]
        for client in clients[:-1]:
            client.ask("/events", bearer(one), host=host_of(daemon))
        clients[-1].ask("/events", bearer(other), host=host_of(daemon))
        until_blocking(lambda: app.of(one) and app.of(other), "both questions")
        app.go.set()
        streams = [Response(client) for client in clients]
        assert {stream.next()[0].data.partition('"participant":')[2] for stream in streams[:-1]} == {'"alice"}'}
        assert '"participant":"bob"' in streams[-1].next()[0].data
    assert (app.of(one), app.of(other)) == (1, 1)


def test_who_asks_too_fast_asks_later() -> None:
    with Application() as app:
        config = app.config(verify_rate_address=1) + "[http]\nshared_addresses = []\n"
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            got = [visitor.ask("/events", bearer(f"alice.{n}"), source="127.0.0.2") for n in range(6)]
            assert (429, "too_many_questions") in [code(each) for each in got]
            assert visitor.ask("/events", bearer("alice.0"), source="127.0.0.2").status == 200, "nobody has to be asked"
            assert visitor.ask("/events", bearer("alice.9"), source="127.0.0.3").status == 200


# What is remembered


def test_an_answer_is_good_for_the_same_question_for_a_moment(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    for _ in range(3):
        assert visitor.ask("/events", bearer(token)).status == 200
    assert app.of(token) == 1
    assert visitor.ask("/events?types=a", bearer(token)).status == 200
    assert visitor.ask("/events", bearer(token), method="HEAD").status == 200
    assert visitor.ask("/events", bearer(token), host="localhost").status == 200
    assert visitor.ask("/events", bearer(token), ("Cookie", "other=1"), SAME).status == 200
    assert visitor.ask("/events", bearer(token), source="127.0.0.4").status == 200
    assert app.of(token) == 6, "each of these is another question"


@pytest.mark.parametrize(
    ("mine", "theirs"),
    [
        ([("Cookie", "session=alice.A")], [("Cookie", "session=bob.A")]),
        ([("Cookie", "session=alice.B")], [bearer("bob.B")]),
        ([bearer("alice.C")], [bearer("alice.C1")]),
        ([bearer("alice.D"), ("Cookie", "c")], [bearer("alice.D"), ("Cookie", "d")]),
        ([bearer("alice.E")], [bearer("alice.E"), ("Cookie", "")]),
        ([], [bearer("alice.F")]),
    ],
)
def test_an_answer_is_for_nobody_elses_cookie(
    visitor: Visitor, app: Application, door: str, mine: list[Header], theirs: list[Header]
) -> None:
    """Each question gets a name of its own: who is given the name of another question was given its answer."""

    def answers(asked: Asked) -> list[Piece]:
        return [named(f"q{len(app.asked)}")]

    app.answers = answers
    target = f"/open?x={door}"
    first = visitor.ask(target, *mine, SAME).next()[0].data
    second = visitor.ask(target, *theirs, SAME).next()[0].data
    assert json.loads(first)["participant"] != json.loads(second)["participant"]
    again = visitor.ask(target, *mine, SAME).next()[0].data
    assert json.loads(again)["participant"] == json.loads(first)["participant"]


def test_who_has_just_logged_in_is_not_kept_out_by_an_older_answer(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    for said, expected in ((answer(401), 401), (answer(403), 403), (answer(404), 404), (named(None), 401), (answer(500), 503)):
        app.answers = lambda _, said=said: [said]  # type: ignore[misc]
        assert visitor.ask("/events", bearer(token)).status == expected
    app.answers = by_token
    assert visitor.ask("/events", bearer(token)).status == 200


def test_what_is_remembered_is_forgotten(until_blocking: Until) -> None:
    with Application() as app:
        with RunningDaemon(app.config(hook_cache=0.2), dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).status == 200
            until_blocking(
                lambda: visitor.ask("/events", bearer("alice.1")).status == 200 and app.of("alice.1") > 1, "asked anew"
            )
        with RunningDaemon(app.config(hook_cache=0), dev=False) as daemon, Visitor(daemon) as visitor:
            for _ in range(3):
                assert visitor.ask("/events", bearer("alice.2")).status == 200
            assert app.of("alice.2") == 3


@pytest.mark.parametrize("workers", [1, 2])
def test_who_is_kicked_is_asked_about_anew(workers: int) -> None:
    with Application() as app:
        config = app.config(hook_cache=60) + f"[daemon]\nworkers = {workers}\n"
        with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
            streams = [visitor.ask("/events", bearer("alice.1")) for _ in range(8)]
            other = visitor.ask("/events", bearer("bob.1"))
            assert {stream.status for stream in (*streams, other)} == {200}
            app.answers = lambda _: [answer(403)]
            assert len(daemon.ask("kick", "--participant", "alice")["closed"]) == 8
            assert {stream.rest()[-1].type for stream in streams} == {"bye"}
            assert {visitor.refused("/events", bearer("alice.1")) for _ in range(8)} == {(403, "forbidden")}


def test_what_was_asked_before_a_kick_is_asked_again(
    visitor: Visitor, app: Application, daemon: RunningDaemon, until_blocking: Until
) -> None:
    token = fresh("carol")
    said = [named("carol"), answer(403)]

    def answers(asked: Asked) -> list[Piece]:
        return [app.held, said.pop(0)]

    app.answers = answers
    with Client(daemon.http_port) as waiting:
        waiting.ask("/events", bearer(token))
        until_blocking(lambda: app.of(token) == 1, "the question")
        daemon.command("kick", "--participant", "carol")  # who has no stream yet
        app.go.set()
        assert code(Response(waiting)) == (403, "forbidden")


def test_a_stream_ends_and_its_client_is_asked_about_again(visitor: Visitor, app: Application) -> None:
    token = fresh("alice")
    app.answers = lambda _: [named("alice", max_age=0.5)]
    stream = visitor.ask("/events", bearer(token))
    assert stream.rest()[-1].type == "bye"
    app.answers = lambda _: [answer(401)]
    assert visitor.refused("/events", bearer(token)) == (401, "participant_required")


def test_no_answer_holds_for_longer_than_the_daemon_says() -> None:
    with Application() as app:
        app.answers = lambda _: [named("alice", max_age=1e9)]
        with RunningDaemon(app.config(hook_lifetime=1), dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/events", bearer("alice.1")).rest()[-1].type == "bye"
        app.answers = lambda _: [named(None)]
        with RunningDaemon(app.config(hook_lifetime=1) + SETTINGS, dev=False) as daemon, Visitor(daemon) as visitor:
            assert visitor.ask("/open").rest()[-1].type == "bye", "anonymous ones too: they may have logged in"


# What is left behind


def test_memory_and_files_are_as_before(app: Application, daemon: RunningDaemon, until_blocking: Until) -> None:
    def files() -> int:
        return len(list(Path(f"/proc/{daemon.pid}/fd").iterdir()))

    before = files()
    for said in (named("alice"), answer(500), b"", answer(200, b" " * 100_000)):
        app.answers = lambda _, said=said: [said]  # type: ignore[misc]
        for _ in range(50):
            with Visitor(daemon) as visitor:
                visitor.ask("/events", bearer(fresh("alice")))
    until_blocking(lambda: files() <= before + 2, "the files are closed")
