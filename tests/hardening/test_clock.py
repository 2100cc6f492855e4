"""The machine's clock jumps an hour while the daemon runs: nobody is thrown out, no signature is good twice, nothing is stored twice.

The daemon is the real one; libfaketime, which is loaded into it, tells it another time of day. What only counts seconds
(CLOCK_MONOTONIC) is as ever, as the kernel has it where a clock is set.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any

import pytest

from tests.hardening.pages import SAME
from tests.hardening.signing import ALICE, Key, Visitor, code, host_of, signed
from tests.hardening.test_sessions import cookie, opened
from tests.integration.client import Response
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import Acked, ask, connect, event, metrics, wait

FAKETIME = next(Path("/usr/lib").glob("*/faketime/libfaketime.so.1"), None)
HOUR = 3600

pytestmark = pytest.mark.skipif(FAKETIME is None, reason="libfaketime is not installed (Debian: faketime)")


class Jumping(RunningDaemon):
    """A daemon whose clock can be set."""

    def __init__(self, config: str = "", **options: Any) -> None:
        env = {"LD_PRELOAD": str(FAKETIME), "FAKETIME_NO_CACHE": "1", "DONT_FAKE_MONOTONIC": "1"}
        super().__init__(config, env=env, **options)
        self._file = self.directory / "clock"
        self._file.write_text("+0")
        self._environ["FAKETIME_TIMESTAMP_FILE"] = str(self._file)

    def jump(self, ahead: int) -> None:
        """Its clock is so many seconds ahead of ours from now on."""
        new = self._file.with_suffix(".new")
        new.write_text(f"{ahead:+}")
        new.replace(self._file)
        wait(lambda: abs(self.ahead() - ahead) < HOUR / 2, "it to know the new time")

    def ahead(self) -> float:
        """By how much, as its answers say."""
        with Visitor(self) as visitor:
            date = visitor.ask("/healthz").header("Date")
        return parsedate_to_datetime(date or "").timestamp() - time.time()


def go_on(streams: list[Response]) -> None:
    """Each gets some heartbeats more: the timers go on, and nobody is ended."""
    for stream in streams:
        stream.blocks(3)


@pytest.mark.parametrize(("workers", "jumps"), [(1, (HOUR, 0)), (1, (-HOUR, 0)), (1, (HOUR, -HOUR)), (2, (HOUR, -HOUR))], ids=str)
def test_nobody_is_thrown_out_and_no_signature_is_good_twice(workers: int, jumps: tuple[int, ...]) -> None:
    config = f"[daemon]\nworkers = {workers}\n[streams]\nheartbeat = 0.2\n"
    with Jumping(config, dev=False) as daemon, Visitor(daemon) as visitor:
        streams = [visitor.sign(Key.of(number)) for number in range(1, 9)]
        session = opened(visitor)
        streams.append(visitor.ask("/events", cookie(session), SAME))
        assert {stream.status for stream in streams} == {200}
        used = [signed(ALICE, host=host_of(daemon), lasts=60) for _ in range(3)]
        assert {visitor.ask("/events", *headers).status for headers in used} == {200}
        for ahead in jumps:
            daemon.jump(ahead)
            go_on(streams)
            assert {visitor.refused("/events", *headers)[0] for headers in used} == {401}
            used.append(signs_by_what_it_is_told(daemon, visitor))
            assert visitor.ask("/events", cookie(session), SAME).status == 200, "a session lasts by the seconds that pass"
        assert {visitor.refused("/events", *headers)[0] for headers in used} == {401}
        go_on(streams)
        found = metrics(daemon)
        assert not sum(found["streams_closed_total"].values()), found["streams_closed_total"]
        assert found["workers_replaced_total"] == 0


def signs_by_what_it_is_told(daemon: Jumping, visitor: Visitor) -> Any:
    """The headers of a request that was accepted after at most one `sign_again`, as our clients do it."""
    headers = signed(ALICE, host=host_of(daemon), lasts=60)
    response = visitor.ask("/events", *headers)
    if response.status != 200:
        assert code(response) == (401, "sign_again")
        told = parsedate_to_datetime(response.header("Date") or "").timestamp()
        headers = signed(ALICE, host=host_of(daemon), created=int(told), lasts=60)
        response = visitor.ask("/events", *headers)
    assert response.status == 200, response.json()
    return headers


BACKENDS = ("memory://", "sqlite://{directory}/log.db")


@pytest.fixture(params=BACKENDS, ids=["memory", "sqlite"])
def keeper(request: pytest.FixtureRequest) -> Iterator[Jumping]:
    """One whose log holds for half an hour what is not older, and remembers numbers for ten minutes. It sends nobody away: a disk
    that stands still for seconds, as those of test machines do, is not what is looked at here.
    """
    config = "[backend]\nretention_age = 1800.0\n[streams]\nwindow_bytes = 1048576\nshed_lag = 0.0\n"
    with Jumping(config, backend=request.param) as daemon:
        yield daemon


def numbered(n: int, **members: Any) -> bytes:
    return event(["a"], str(n), sender="p/1", n=n, **members)


def test_set_back_the_log_keeps_for_longer_what_it_has(keeper: Jumping) -> None:
    with Acked(keeper.acked) as acked, connect(keeper, "a") as live:
        first, second = (acked.store(numbered(n, ttl=600)) for n in (1, 2))
        keeper.jump(-HOUR)
        assert acked.store(numbered(2)) == second, "a repeat is known"
        acked.store(numbered(3))
        assert live.wait_events(3) == ["1", "2", "3"]
        with connect(keeper, "a", last_id=first[0]) as returning:
            assert returning.wait_events(2) == ["2", "3"]
            assert returning.of("resync") == []


def test_set_back_an_event_is_waited_for_on_streams_from_before(keeper: Jumping) -> None:
    with connect(keeper, "a") as live:
        keeper.jump(-HOUR)
        answer = keeper.ask("inject", "x", "--to", "a", "--wait=5s")
        # The rest says what was wrong, if it was: which streams there are and were, and what this one was told.
        seen = keeper.ask("clients"), keeper.ask("clients", "--closed"), live.parser.retry, live.of("bye")
        assert [row["written"] for row in answer["streams"]] == [True], (answer, seen)
        assert live.wait_events(1) == ["x"]


def test_set_forward_the_log_stores_nothing_twice_and_tells_of_the_hole(keeper: Jumping) -> None:
    with Acked(keeper.acked) as acked, connect(keeper, "a") as live:
        first, _ = acked.store(numbered(1)), acked.store(numbered(2, ttl=600))
        live.wait_events(2)
        keeper.jump(HOUR)
        for _ in range(3):  # so that the window, which knows no time, has forgotten
            acked.store(event(["b"], "x" * 600_000))
        assert acked.refused(numbered(2))[0] == "too_old"
        acked.store(numbered(3))
        assert live.wait_events(3) == ["1", "2", "3"]
        with connect(keeper, "a", last_id=first[0]) as returning:
            wait(lambda: returning.of("resync"), "to be told", [returning])
            assert returning.of("resync")[0]["reason"] == "expired"


def test_what_was_set_right_again_is_as_before(keeper: Jumping) -> None:
    """Between the jumps nothing was stored, so that nothing was given up."""
    with Acked(keeper.acked) as acked:
        first = acked.store(numbered(1, ttl=600))
        last = acked.store(numbered(2, ttl=600))
        keeper.jump(HOUR)
        with connect(keeper, "a", last_id=first[0]) as meanwhile:
            assert ask(keeper, "GET", "/readyz").status == 200
            keeper.jump(0)
            assert acked.store(numbered(2)) == last
            acked.store(numbered(3))
            assert meanwhile.wait_events(1)[-1] == "3"
        with connect(keeper, "a", last_id=first[0]) as returning:
            assert returning.wait_events(2) == ["2", "3"]
