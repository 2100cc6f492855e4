"""The producer's and the client's library against the real daemon, a process of its own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.consumer import Message, Resync, SubscribeRefused, Subscription, subscribe
from sse_daemon.producer import AckedProducer, AsyncAckedProducer, AsyncProducer, Envelope, Producer, PublishRefused

ROOT = Path(__file__).parents[2]
DEADLINE = 30.0


class Daemon:
    """`sse-daemon serve --dev` with its sockets in one directory and one TCP port: it comes back under the same addresses."""

    def __init__(self, home: Path, backend: str) -> None:
        self.pubsub, self.acked = f"ipc://{home}/pub", f"ipc://{home}/ack"
        self.uds, self.log, self.http = home / "http", home / "log", "127.0.0.1:0"
        self._command = [sys.executable, "-m", "sse_daemon.cli", "serve", "--dev", "--http", f"unix:{self.uds}"]
        self._command += ["--pubsub", self.pubsub, "--acked", self.acked, "--admin", f"{home}/admin", "--backend", backend]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, **environment: str) -> None:
        command = [*self._command, "--http", self.http]
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(command, cwd=ROOT, stderr=log, env={**os.environ, **environment})
        deadline = time.monotonic() + DEADLINE
        while (ready := re.search(r"msg=ready .*(127\.0\.0\.1:\d+)", self.log.read_text())) is None:
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < deadline, self.log.read_text()
            time.sleep(0.01)
        self.http = ready[1]

    def stop(self, how: signal.Signals = signal.SIGTERM) -> None:
        if self._process is not None:
            process, self._process = self._process, None
            process.send_signal(how)
            try:
                process.wait(DEADLINE)
            finally:
                process.kill()
                process.wait()

    def follow(self, participant: str | None, **options: Any) -> Subscription:
        return subscribe(f"http://{self.http}/events", participant, **{"retry_min": 0.05, "retry_max": 0.2, **options})


Start = Callable[..., Daemon]


@pytest.fixture
def start() -> Iterator[Start]:
    """start(backend="memory") -> a running Daemon."""
    daemons: list[Daemon] = []
    # Not tmp_path: the path of a Unix socket has at most 107 bytes.
    with tempfile.TemporaryDirectory(prefix="sse") as home:

        def run(backend: str = "memory", **environment: str) -> Daemon:
            daemon = Daemon(Path(home), "memory://" if backend == "memory" else f"sqlite://{home}/log.db")
            daemons.append(daemon)
            daemon.start(**environment)
            return daemon

        try:
            yield run
        finally:
            for daemon in daemons:
                daemon.stop(signal.SIGKILL)


async def take(stream: Subscription, count: int) -> list[Message | Resync]:
    async with asyncio.timeout(DEADLINE):
        return [await anext(stream) for _ in range(count)]


async def begun(stream: Subscription) -> asyncio.Task[list[Message | Resync]]:
    """Waits for the stream's first event in the background; returns when it is open, so that it will see what comes."""
    task = asyncio.ensure_future(take(stream, 1))
    while stream.client_id is None and not task.done():
        await asyncio.sleep(0.005)
    return task


async def test_every_producer_reaches_the_right_participant(start: Start) -> None:
    daemon = start()

    def threads() -> list[str]:
        with Producer(daemon.pubsub, name="a") as plain, AckedProducer(daemon.acked, name="b") as acked:
            plain.publish("plain", to=["bob"])
            plain.publish("plain", to=["alice"])
            return [acked.publish("secret", to=["bob"]), acked.publish("acked", to=["alice"], type="t")]

    async with daemon.follow("alice") as alice:
        first = await begun(alice)
        ids = await asyncio.to_thread(threads)
        async with AsyncProducer(daemon.pubsub, name="c") as plain, AsyncAckedProducer(daemon.acked, name="d") as acked:
            await plain.publish({"n": 1}, to="*")
            ids += await acked.publish_batch([Envelope("x", to=["alice"]), Envelope("y\nz", to=["alice", "bob"])])
            got = await first + await take(alice, 4)
    messages = {m.data: m for m in got if isinstance(m, Message)}
    assert set(messages) == {"plain", "acked", '{"n":1}', "x", "y\nz"}
    assert [messages[data].id for data in ("acked", "x", "y\nz")] == [ids[i] for i in (1, 2, 3)]
    assert messages["acked"].type == "t"


async def test_position_resumes_in_another_subscription(start: Start) -> None:
    daemon = start()
    async with AsyncAckedProducer(daemon.acked, name="t") as producer:
        ids = [await producer.publish(str(i), to=["alice"]) for i in range(5)]
    async with daemon.follow("alice", last_event_id=ids[1]) as stream:
        assert await take(stream, 2) == [Message(ids[2], "message", "2"), Message(ids[3], "message", "3")]
        kept = stream.last_event_id
    async with daemon.follow("alice", last_event_id=kept) as stream:
        assert await take(stream, 1) == [Message(ids[4], "message", "4")]


async def test_nothing_acked_is_lost_and_nothing_comes_twice_over_a_kill(start: Start) -> None:
    daemon = start("sqlite")
    acked: list[str] = []

    async def publish(producer: AsyncAckedProducer) -> None:
        for i in range(300):
            acked.append(await producer.publish(str(i), to=["alice"]))

    async with (
        daemon.follow("alice") as stream,
        AsyncAckedProducer(daemon.acked, name="t", timeout=DEADLINE, answer_timeout=0.1) as producer,
    ):
        first = await begun(stream)
        publishing = asyncio.ensure_future(publish(producer))
        try:
            got = await first + await take(stream, 20)
            for _ in range(2):
                await asyncio.to_thread(daemon.stop, signal.SIGKILL)
                await asyncio.to_thread(daemon.start)
                got += await take(stream, 50)
            got += await take(stream, 300 - len(got))
            await publishing
        finally:
            publishing.cancel()
            with suppress(asyncio.CancelledError):
                await publishing
    # Each was stored once, although answers were lost: data in order, and the ids are those of the answers.
    assert [m.data for m in got if isinstance(m, Message)] == [str(i) for i in range(300)]
    assert [m.id for m in got] == acked


async def test_log_that_begins_anew_is_a_resync(start: Start) -> None:
    daemon = start()
    async with daemon.follow("alice") as stream, AsyncAckedProducer(daemon.acked, name="t", timeout=DEADLINE) as producer:
        first = await begun(stream)
        await producer.publish("before", to=["alice"])
        assert [m.data for m in await first if isinstance(m, Message)] == ["before"]
        await asyncio.to_thread(daemon.stop, signal.SIGKILL)
        await asyncio.to_thread(daemon.start)
        (resync,) = await take(stream, 1)
        assert isinstance(resync, Resync)
        assert resync.reason == "backend_reset"
        await producer.publish("after", to=["alice"])
        assert [m.data for m in await take(stream, 1) if isinstance(m, Message)] == ["after"]


async def test_heartbeats_move_the_position_of_a_quiet_stream(start: Start) -> None:
    daemon = start(SSE_DAEMON_STREAMS_HEARTBEAT="0.2")
    async with daemon.follow("alice") as stream, AsyncAckedProducer(daemon.acked, name="t") as producer:
        waiting = await begun(stream)
        id = await producer.publish("not hers", to=["bob"])
        async with asyncio.timeout(DEADLINE):
            while stream.last_event_id != id:
                await asyncio.sleep(0.01)
        await producer.publish("hers", to=["alice"])
        assert [m.data for m in await waiting if isinstance(m, Message)] == ["hers"]


async def test_groups_topics_and_snapshots(start: Start) -> None:
    daemon = start()
    async with AsyncAckedProducer(daemon.acked, name="t") as producer:
        assert await producer.declare_topic("chat.1")
        await producer.set_group("g", ["alice", "bob"])
        await producer.publish("one", group="g", topic="chat.1", retain=True)
        last = await producer.publish("two", to="*", topic="chat.2", retain=True)
        with pytest.raises(PublishRefused) as raised:
            await producer.publish("x", group="unknown")
        assert raised.value.code == "unknown_group"
    async with daemon.follow("bob") as stream:
        assert await take(stream, 2) == [Message(None, "message", "one"), Message(last, "message", "two")]
    async with daemon.follow("bob", topics=["chat.1"]) as stream:
        assert [m.data for m in await take(stream, 1) if isinstance(m, Message)] == ["one"]


async def test_nobody_is_refused(start: Start) -> None:
    daemon = start()
    async with daemon.follow(None) as stream:
        with pytest.raises(SubscribeRefused) as raised:
            await take(stream, 1)
    assert raised.value.status == 401


async def test_unix_socket(start: Start) -> None:
    daemon = start()
    async with subscribe("http://localhost/events", "alice", uds=str(daemon.uds), retry_min=0.05, retry_max=0.2) as stream:
        waiting = await begun(stream)
        async with AsyncAckedProducer(daemon.acked, name="t") as producer:
            id = await producer.publish("x", to=["alice"])
        assert await waiting == [Message(id, "message", "x")]
