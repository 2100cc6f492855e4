"""The producers against small peers on real sockets: a ROUTER that misbehaves on purpose, and a SUB."""

from __future__ import annotations

import asyncio
import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Self

import pytest
import zmq

from sse_daemon.producer import (
    AckedProducer,
    AsyncAckedProducer,
    AsyncProducer,
    Envelope,
    Producer,
    ProducerClosed,
    PublishError,
    PublishRefused,
    PublishTimeout,
)

DEADLINE = 20.0
Behaviour = Callable[[int, list[str]], list[bytes]]
"""(number of the attempt over all requests, from 1; the ids it would get) -> the answers to give."""


def ok(_: int, ids: list[str]) -> list[bytes]:
    return [json.dumps({"ok": True, "ids": ids}).encode()]


def refuse(code: str) -> bytes:
    return json.dumps({"ok": False, "code": code, "detail": "no", "index": 0}).encode()


class Peer:
    """A ROUTER that stores each (from, n) once, as the daemon does, and answers as `behave` says."""

    def __init__(self, behave: Behaviour = ok, address: str = "tcp://127.0.0.1:*") -> None:
        self.behave = behave
        self.stored: dict[tuple[str, int], str] = {}
        self.order: list[int] = []
        self.attempts = 0
        self.most_waiting = 0
        self.hold = threading.Event()
        self.hold.set()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._bind(address)
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _bind(self, address: str) -> None:
        # The port of a peer that has just gone may take a moment to be free again.
        deadline = time.monotonic() + DEADLINE
        while True:
            try:
                self._socket.bind(address)
                return
            except zmq.ZMQError:
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.01)

    def _serve(self) -> None:
        waiting: list[list[bytes]] = []
        while not self._stop.is_set():
            if self._socket.poll(10):
                waiting.append(self._socket.recv_multipart())
                self.most_waiting = max(self.most_waiting, len(waiting))
            elif self.hold.is_set():
                for message in waiting:
                    self._answer(*message)
                waiting = []

    def _answer(self, peer: bytes, request: bytes, *frames: bytes) -> None:
        self.attempts += 1
        headers = [json.loads(frame.split(b"\n")[0]) for frame in frames]
        ids = [f"id-{len(self.stored) + i}" for i in range(len(headers))]
        ids = [self.stored.get((h["from"], h["n"]), new) for h, new in zip(headers, ids, strict=True)]
        answers = self.behave(self.attempts, ids)
        if not answers or b'"ok": true' in answers[0]:
            self.order += [h["n"] for h in headers if (h["from"], h["n"]) not in self.stored]
            self.stored.update(zip(((h["from"], h["n"]) for h in headers), ids, strict=True))
        for answer in answers:
            self._socket.send_multipart([peer, request, answer])


@contextmanager
def peer(behave: Behaviour = ok, address: str = "tcp://127.0.0.1:*") -> Iterator[Peer]:
    it = Peer(behave, address)
    try:
        yield it
    finally:
        it.close()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.005)


async def auntil(condition: Callable[[], bool]) -> None:
    await asyncio.to_thread(until, condition)


@pytest.fixture
def unused() -> str:
    """An address that nobody listens on."""
    with zmq.Context() as context, context.socket(zmq.ROUTER) as socket:
        socket.bind("tcp://127.0.0.1:*")
        return socket.getsockopt_string(zmq.LAST_ENDPOINT)


# Acked


def test_acked_returns_ids_in_order() -> None:
    with peer() as it, AckedProducer(it.address, name="t") as producer:
        assert producer.publish("a", to=["alice"]) == "id-0"
        assert producer.publish_batch([Envelope(i, to="*") for i in range(3)]) == ["id-1", "id-2", "id-3"]
        assert producer.set_group("g", ["a"]) == "id-4"
        assert producer.declare_topic("t") == "id-5"
        assert producer.publish_batch([]) == []
        assert list(it.stored) == [(producer.sender, n) for n in range(1, 7)]


def test_lost_answers_store_nothing_twice() -> None:
    def drop_every_third(attempt: int, ids: list[str]) -> list[bytes]:
        return [] if attempt % 3 == 0 else ok(attempt, ids)

    with peer(drop_every_third) as it, AckedProducer(it.address, name="t", answer_timeout=0.05) as producer:
        assert [producer.publish(i, to="*") for i in range(9)] == [f"id-{i}" for i in range(9)]
        assert it.attempts > 9
        assert len(it.stored) == 9


def test_repeated_answers_are_ignored() -> None:
    with peer(lambda n, ids: ok(n, ids) * 3) as it, AckedProducer(it.address, name="t") as producer:
        assert [producer.publish(i, to="*") for i in range(5)] == [f"id-{i}" for i in range(5)]


def test_late_answers_count_once_and_for_their_own_request() -> None:
    with peer() as it, AckedProducer(it.address, name="t", answer_timeout=0.03) as producer, ThreadPoolExecutor() as pool:
        it.hold.clear()
        first = pool.submit(producer.publish, "a", to="*")
        until(lambda: it.most_waiting >= 3)  # by now it was sent three times, and will be answered three times
        it.hold.set()
        assert first.result(DEADLINE) == "id-0"
        assert producer.publish("b", to="*") == "id-1"
        assert len(it.stored) == 2


def test_passing_refusals_are_retried() -> None:
    codes = ["overloaded", "storage_full", "unavailable", "draining"]

    def behave(attempt: int, ids: list[str]) -> list[bytes]:
        return [refuse(codes[attempt - 1])] if attempt <= 4 else ok(attempt, ids)

    with peer(behave) as it, AckedProducer(it.address, name="t") as producer:
        assert producer.publish("a", to="*") == "id-0"
        assert it.attempts == 5
        assert list(it.stored) == [(producer.sender, 1)]


def test_final_refusal_is_raised_with_its_place() -> None:
    with peer(lambda n, ids: [refuse("unknown_group")]) as it, AckedProducer(it.address, name="t") as producer:
        with pytest.raises(PublishRefused) as raised:
            producer.publish("a", group="nobody")
        assert (raised.value.code, raised.value.detail, raised.value.index) == ("unknown_group", "no", 0)
        assert it.attempts == 1


@pytest.mark.parametrize("answer", [b"not json", b'{"ok": true, "ids": []}'])
def test_nonsense_answer_is_an_error_and_not_a_timeout(answer: bytes) -> None:
    with peer(lambda n, ids: [answer]) as it, AckedProducer(it.address, name="t") as producer:
        with pytest.raises(PublishError) as raised:
            producer.publish("a", to="*")
        assert not isinstance(raised.value, PublishTimeout)


def test_overload_that_stays_ends_in_the_timeout() -> None:
    with peer(lambda n, ids: [refuse("overloaded")]) as it, AckedProducer(it.address, name="t", timeout=0.3) as producer:
        with pytest.raises(PublishTimeout, match=r"last answer: overloaded: no\.") as raised:
            producer.publish("a", to="*")
        assert it.attempts > 1
    # It was reached, and says itself why not: nobody is to look for it in the network.
    assert "running" not in str(raised.value) and "CURVE" not in str(raised.value)
    assert raised.value.refusal is not None and raised.value.refusal.code == "overloaded"


def test_daemon_that_is_away_ends_in_the_timeout_and_nothing_piles_up(unused: str) -> None:
    with AckedProducer(unused, name="t", timeout=0.3, answer_timeout=0.02) as producer:
        with pytest.raises(PublishTimeout, match=r"acked addresses") as raised:
            producer.publish("lost", to="*")
        assert raised.value.refusal is None
        with peer(address=unused) as it:
            until(lambda: _published(producer))
            # Attempts from while the daemon was away were never queued: it sees only what was sent since.
            assert (producer.sender, 1) not in it.stored


def _published(producer: AckedProducer) -> bool:
    try:
        return bool(producer.publish("again", to="*"))
    except PublishTimeout:
        return False


def test_restart_on_the_same_port_loses_nothing() -> None:
    with AckedProducer("tcp://127.0.0.1:1", name="x", timeout=0.01) as no:  # a producer that never connects harms nobody
        first = Peer()
        with AckedProducer(first.address, name="t", timeout=DEADLINE, answer_timeout=0.05) as producer:
            assert producer.publish("a", to="*") == "id-0"
            first.close()
            with ThreadPoolExecutor() as pool:
                during = [pool.submit(producer.publish, i, to="*") for i in range(5)]
                with peer(address=first.address) as second:
                    assert sorted(f.result(DEADLINE) for f in during) == [f"id-{i}" for i in range(5)]
                    assert set(second.stored) == {(producer.sender, n) for n in range(2, 7)}
        with pytest.raises(PublishTimeout):
            no.publish("x", to="*")


def test_many_threads_share_one_producer() -> None:
    with peer() as it, AckedProducer(it.address, name="t") as producer, ThreadPoolExecutor(8) as pool:
        ids = list(pool.map(lambda i: producer.publish(i, to="*"), range(100)))
        assert len(set(ids)) == 100
        assert set(it.stored) == {(producer.sender, n) for n in range(1, 101)}


def test_one_thread_keeps_its_order() -> None:
    with peer() as it, AckedProducer(it.address, name="t") as producer:
        for i in range(30):
            producer.publish(i, to="*")
        assert it.order == list(range(1, 31))


def test_close_ends_calls_of_other_threads() -> None:
    with peer() as it, ThreadPoolExecutor() as pool:
        it.hold.clear()
        producer = AckedProducer(it.address, name="t", max_in_flight=1, timeout=DEADLINE)
        calls = [pool.submit(producer.publish, i, to="*") for i in range(3)]  # one in flight, two waiting for their turn
        until(lambda: it.most_waiting == 1)
        producer.close()
        producer.close()
        for call in calls:
            with pytest.raises(ProducerClosed):
                call.result(DEADLINE)
        with pytest.raises(ProducerClosed):
            producer.publish("x", to="*")


def test_forked_child_is_refused_and_may_close() -> None:
    with peer() as it, AckedProducer(it.address, name="t") as producer, Producer(it.address, name="u") as other:
        child = os.fork()
        if child == 0:
            os._exit(_refused(producer) + 2 * _refused(other))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
        assert producer.publish("still here", to="*")


def _refused(producer: Producer | AckedProducer) -> bool:
    try:
        producer.publish("x", to="*")
    except PublishError as error:
        producer.close()
        return "fork" in str(error)
    return False


async def test_async_bounds_what_is_in_flight() -> None:
    with peer() as it:
        it.hold.clear()
        async with AsyncAckedProducer(it.address, name="t", max_in_flight=4, answer_timeout=DEADLINE) as producer:
            calls = [asyncio.ensure_future(producer.publish(i, to="*")) for i in range(20)]
            await auntil(lambda: it.most_waiting == 4)
            it.hold.set()
            assert len(set(await asyncio.gather(*calls))) == 20
        assert it.most_waiting <= 4
        assert it.attempts == 20


async def test_async_cancelled_call_leaves_the_others_and_its_turn() -> None:
    with peer() as it:
        it.hold.clear()
        async with AsyncAckedProducer(it.address, name="t", max_in_flight=2, answer_timeout=DEADLINE) as producer:
            calls = [asyncio.ensure_future(producer.publish(i, to="*")) for i in range(4)]
            await auntil(lambda: it.most_waiting == 2)
            calls[0].cancel()
            calls[3].cancel()
            it.hold.set()
            done = await asyncio.gather(*calls, return_exceptions=True)
            assert [isinstance(d, asyncio.CancelledError) for d in done] == [True, False, False, True]
            assert await producer.publish("after", to="*")
            assert not producer._answers


async def test_async_close_ends_everything_under_way() -> None:
    with peer() as it:
        it.hold.clear()
        producer = AsyncAckedProducer(it.address, name="t", max_in_flight=2, timeout=1000, answer_timeout=1000)
        calls = [asyncio.ensure_future(producer.publish(i, to="*")) for i in range(5)]
        await auntil(lambda: it.most_waiting == 2)
        await asyncio.gather(producer.close(), producer.close())
        assert {type(r) for r in await asyncio.gather(*calls, return_exceptions=True)} == {ProducerClosed}
        with pytest.raises(ProducerClosed):
            await producer.publish("x", to="*")


async def test_async_timeout_holds_for_those_who_wait_their_turn(unused: str) -> None:
    async with AsyncAckedProducer(unused, name="t", max_in_flight=1, timeout=0.1) as producer:
        done = await asyncio.gather(*(producer.publish(i, to="*") for i in range(3)), return_exceptions=True)
        assert {type(d) for d in done} == {PublishTimeout}


def test_async_producer_belongs_to_one_loop() -> None:
    async def use(producer: AsyncAckedProducer) -> None:
        await producer.publish_batch([])

    with peer() as it:
        producer = AsyncAckedProducer(it.address, name="t")
        first, second = asyncio.new_event_loop(), asyncio.new_event_loop()
        first.run_until_complete(use(producer))
        with pytest.raises(RuntimeError, match="one event loop"):
            second.run_until_complete(use(producer))
        first.run_until_complete(producer.close())
        first.run_until_complete(first.shutdown_default_executor())
        first.close()
        second.close()


# PUB/SUB


class Sub:
    """What the daemon has: a bound SUB, polled from the start (it subscribes at a new peer only when it is)."""

    def __init__(self, address: str = "tcp://127.0.0.1:*", rcvhwm: int = 1000) -> None:
        self.reads = threading.Event()
        self.reads.set()
        self._messages: queue.SimpleQueue[list[bytes]] = queue.SimpleQueue()
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.SUB)
        self._socket.setsockopt(zmq.RCVHWM, rcvhwm)
        self._socket.setsockopt(zmq.SUBSCRIBE, b"")
        try:
            self._socket.bind(address)
        except zmq.ZMQError:
            self._context.destroy(linger=0)
            raise
        self.address = self._socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def read(self) -> list[tuple[int, bytes]]:
        """One message: number and data of each of its events."""
        frames = [frame.partition(b"\n") for frame in self._messages.get(timeout=DEADLINE)]
        return [(json.loads(head)["n"], data) for head, _, data in frames]

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._context.destroy(linger=0)

    def _serve(self) -> None:
        while not self._stop.is_set():
            if self._socket.poll(10) and self.reads.is_set():
                self._messages.put(self._socket.recv_multipart())
            elif not self.reads.is_set():
                self.reads.wait(0.01)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_first_event_arrives_without_a_sleep() -> None:
    with Sub() as sub:
        for _ in range(5):
            with Producer(sub.address, name="t") as producer:
                producer.publish("first", to="*")
                assert sub.read() == [(1, b"first")]


def test_batch_is_one_message() -> None:
    with Sub() as sub, Producer(sub.address, name="t") as producer:
        producer.publish_batch([])
        producer.publish_batch([Envelope(i, to="*") for i in range(3)])
        producer.declare_topic("t")
        assert sub.read() == [(1, b"0"), (2, b"1"), (3, b"2")]
        assert sub.read() == [(4, b"")]


def test_nobody_subscribed_is_a_timeout_that_costs_no_number(unused: str) -> None:
    with Producer(unused, name="t", connect_timeout=0.05) as producer:
        with pytest.raises(PublishTimeout, match="nothing was sent"):
            producer.publish("lost", to="*")
        with Sub(unused) as sub:
            producer.wait_subscribed(DEADLINE)
            producer.publish("found", to="*")
            assert sub.read() == [(1, b"found")]


def test_publish_waits_for_a_daemon_that_starts_later(unused: str) -> None:
    with Producer(unused, name="t", connect_timeout=DEADLINE) as producer, ThreadPoolExecutor() as pool:
        call = pool.submit(producer.publish, "x", to="*")
        with Sub(unused) as sub:
            assert sub.read() == [(1, b"x")]
            call.result(DEADLINE)


def test_close_sends_what_is_queued() -> None:
    with Sub(rcvhwm=1) as sub, ThreadPoolExecutor() as pool:
        producer = Producer(sub.address, name="t", linger=DEADLINE)
        producer.wait_subscribed()
        sub.reads.clear()
        for _ in range(300):  # more than the kernel's buffers hold
            producer.publish("x" * 100_000, to="*")
        closing = pool.submit(producer.close)
        sub.reads.set()
        assert [sub.read()[0][0] for _ in range(300)] == list(range(1, 301))
        closing.result(DEADLINE)


def test_threads_share_the_numbers_in_the_order_sent() -> None:
    with Sub() as sub, Producer(sub.address, name="t") as producer, ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda i: producer.publish(i, to="*"), range(200)))
        assert [sub.read()[0][0] for _ in range(200)] == list(range(1, 201))


def test_full_queue_drops_counts_and_leaves_a_gap() -> None:
    with Sub(rcvhwm=1) as sub, Producer(sub.address, name="t", hwm=10, linger=0) as producer:
        sub.reads.clear()
        big = "x" * 1_000_000
        for _ in range(200):  # more than the peer's kernel buffers and both queues together can hold
            producer.publish(big, to="*")
        dropped = producer.dropped
        assert dropped > 0
        sub.reads.set()
        numbers = [sub.read()[0][0] for _ in range(200 - dropped)]
        producer.publish("last", to="*")
        numbers.append(sub.read()[0][0])
        assert numbers[-1] == 201
        assert len(numbers) == 201 - dropped


def test_close_ends_a_waiting_call(unused: str) -> None:
    producer = Producer(unused, name="t", connect_timeout=DEADLINE)
    started = threading.Event()

    def call() -> None:
        started.set()
        producer.publish("x", to="*")

    with ThreadPoolExecutor() as pool:
        waiting = pool.submit(call)
        started.wait(DEADLINE)
        producer.close()
        producer.close()
        with pytest.raises(ProducerClosed):
            waiting.result(DEADLINE)


def test_address_that_is_none() -> None:
    for kind in (Producer, AckedProducer):
        with pytest.raises(ValueError, match="cannot connect"):
            kind("127.0.0.1:5556", name="t")


async def test_async_first_event_arrives_without_a_sleep() -> None:
    with Sub() as sub:
        async with AsyncProducer(sub.address, name="t") as producer:
            await asyncio.gather(*(producer.publish(i, to="*") for i in range(20)))
            read = [await asyncio.to_thread(sub.read) for _ in range(20)]
        assert [r[0][0] for r in read] == list(range(1, 21))


async def test_events_wait_in_the_queue_while_the_daemon_restarts() -> None:
    first = Sub()
    async with AsyncProducer(first.address, name="t") as producer:
        await producer.publish("a", to="*")
        assert await asyncio.to_thread(first.read) == [(1, b"a")]
        await asyncio.to_thread(first.close)
        # The socket learns of the end a moment later, and what it wrote until then is lost: at most once.
        for i in range(2, 52):
            await producer.publish(str(i), to="*")
            await asyncio.sleep(0.002)
        with await asyncio.to_thread(_sub_again, first.address) as second:
            numbers = [0]
            while numbers[-1] < 51:
                numbers.append((await asyncio.to_thread(second.read))[0][0])
        assert len(numbers) > 10
        assert producer.dropped == 0


def _sub_again(address: str) -> Sub:
    deadline = time.monotonic() + DEADLINE
    while True:
        try:
            return Sub(address)
        except zmq.ZMQError:
            assert time.monotonic() < deadline
            time.sleep(0.01)


async def test_async_nobody_subscribed(unused: str) -> None:
    producer = AsyncProducer(unused, name="t", connect_timeout=0.05)
    with pytest.raises(PublishTimeout, match="nothing was sent"):
        await producer.publish("lost", to="*")
    waiting = asyncio.ensure_future(producer.wait_subscribed(DEADLINE))
    cancelled = asyncio.ensure_future(producer.publish("x", to="*"))
    await asyncio.sleep(0)
    cancelled.cancel()
    await producer.close()
    await producer.close()
    with pytest.raises(ProducerClosed):
        await waiting
    assert cancelled.cancelled() or await asyncio.wait([cancelled])
