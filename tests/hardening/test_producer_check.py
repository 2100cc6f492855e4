"""The check of producers' keys is dead, before the start or while it runs: nobody may come in. The daemon's own sockets, in process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any

import pytest
import zmq

from sse_daemon import zmq_zap
from sse_daemon.appender import Appender, Outcome
from sse_daemon.backend import Stored
from sse_daemon.census import Census
from sse_daemon.curve_key import generate
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds
from sse_daemon.errors import KeyCheckDead
from sse_daemon.event import Record
from sse_daemon.ingest import Ingest
from sse_daemon.producer_keys import ProducerKeys
from sse_daemon.rights import Rights
from sse_daemon.zmq_zap import KeyCheck
from tests.conftest import LogWatch
from tests.hardening.curve import Dealer, raw
from tests.integration.peers import event

Until = Callable[..., Awaitable[Any]]
KEY = generate()
OWN = generate()
ANY = ["tcp://127.0.0.1:0"]


class Log:
    """Takes everything."""

    async def append(self, records: Sequence[Record]) -> Sequence[Outcome]:
        return [Stored((1,) * len(record), False) for record in records]


@pytest.fixture
async def ingest() -> AsyncIterator[Ingest]:
    """The daemon's sockets, without the rest of it."""
    directory = Directory((), (), max_groups=1, max_topics=1)
    appender = Appender(Log(), directory, Bounds(), 1 << 20, time.time, lambda: None, lambda _: None)
    keys = ProducerKeys(OWN, {KEY.public: Rights("known")}, lambda: ({}, []))
    made = Ingest(appender, Census(1), "0" * 12, 0, asyncio.get_running_loop(), time.time, keys, 10)
    yield made
    made.close()


def check_of(ingest: Ingest) -> KeyCheck:
    assert ingest.key_check is not None
    return ingest.key_check


def producer(ingest: Ingest) -> Dealer:
    """One that is authorized, on the acked socket."""
    return Dealer(ingest.addresses[-1], OWN.public, KEY)


@pytest.mark.parametrize("death", ["deaf", "in other hands", "lets all in"])
async def test_nothing_is_bound_before_the_check_has_shown_that_it_works(
    ingest: Ingest, death: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = check_of(ingest)
    prove = check.prove
    monkeypatch.setattr(check, "prove", lambda: prove(0.2))
    other = ingest._context.socket(zmq.ROUTER)
    try:
        if death == "in other hands":
            other.bind("inproc://zeromq.zap.01")
        elif death == "deaf":
            monkeypatch.setattr(check, "_answer", lambda: None)
        else:
            monkeypatch.setattr(check, "_user", lambda request: KEY.public)
        with pytest.raises(KeyCheckDead):
            await ingest.bind(ANY, ANY)
        assert ingest.addresses == []
    finally:
        other.close(linger=0)


@pytest.mark.parametrize("death", ["closed", "deaf", "lets all in"])
async def test_when_the_check_dies_nobody_comes_in_and_nobody_stays(
    ingest: Ingest, death: str, until: Until, monkeypatch: pytest.MonkeyPatch, expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.ingest", "the check of producers' keys does not answer")
    expect_log("sse_daemon.ingest", "a producer's handshake failed", required=False)  # if the late one was that early
    await ingest.bind(ANY, ANY)
    ingest.start()
    check = check_of(ingest)
    with producer(ingest) as before:
        before.send(event(["a"]))
        await until(lambda: ingest._appender.bytes)
        if death == "closed":
            check._handler.close(linger=0)
        elif death == "deaf":
            asyncio.get_running_loop().remove_reader(check._fd)
        else:
            monkeypatch.setattr(check, "_user", lambda request: KEY.public)
        queued = ingest._appender.bytes
        watching = asyncio.ensure_future(ingest.watch())
        with producer(ingest) as late:
            if death != "lets all in":
                late.send(event(["a"]))
            await until(lambda: ingest.fault)
        before.send(event(["a"]))
        for address in ingest.addresses:
            await until(lambda address=address: refused(address))
        assert ingest._appender.bytes == queued
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


def refused(address: str) -> bool:
    """Nobody listens there."""
    try:
        with raw(address):
            return False
    except ConnectionRefusedError:
        return True


async def test_a_loop_that_stood_still_is_not_taken_for_a_dead_check(
    ingest: Ingest, until: Until, monkeypatch: pytest.MonkeyPatch, expect_log: LogWatch
) -> None:
    expect_log("sse_daemon.ingest", "a producer's handshake failed", required=False)  # of whoever knocked at the loop that stood
    monkeypatch.setattr(zmq_zap, "PROBE_EVERY", 0.1)
    await ingest.bind([], ANY)
    ingest.start()
    questions = counted(check_of(ingest), monkeypatch)
    watching = asyncio.ensure_future(ingest.watch())
    await until(lambda: questions)
    stand_still(ingest)
    before = len(questions)
    with producer(ingest) as late:
        late.send(event(["a"]))
        await until(lambda: ingest._appender.bytes)
        await until(lambda: len(questions) > before + 3)
        assert ingest.fault is None
    watching.cancel()
    await asyncio.gather(watching, return_exceptions=True)


def counted(check: KeyCheck, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The questions that the check asks itself from here on."""
    questions: list[str] = []
    ask = check._ask

    def asking(key: str) -> None:
        questions.append(key)
        ask(key)

    monkeypatch.setattr(check, "_ask", asking)
    return questions


def stand_still(ingest: Ingest) -> None:
    """Keeps the loop for four times as long as a peer waits to be let in, which is as long as two questions are apart."""
    with zmq.Context() as context, context.socket(zmq.DEALER) as peer:
        peer.setsockopt(zmq.LINGER, 0)
        peer.setsockopt(zmq.HANDSHAKE_IVL, 100)
        peer.setsockopt(zmq.CURVE_SERVERKEY, OWN.public.encode())
        peer.setsockopt(zmq.CURVE_PUBLICKEY, KEY.public.encode())
        peer.setsockopt(zmq.CURVE_SECRETKEY, KEY.secret.encode())
        with peer.get_monitor_socket(zmq.EVENT_HANDSHAKE_FAILED_NO_DETAIL) as monitor:
            peer.connect(ingest.addresses[-1])
            for _ in range(4):
                assert monitor.poll(30_000), "the peer did not give up"
                monitor.recv_multipart()
            peer.disable_monitor()
