"""What survives when the daemon is killed: everything that was acked on sqlite, and the truth about the rest on memory."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable
from contextlib import ExitStack, closing
from functools import partial
from pathlib import Path

from sse_daemon.producer import AckedProducer
from tests.integration.checker import Sent, faults
from tests.integration.daemon import DEADLINE, RunningDaemon
from tests.integration.peers import Acked, Client, Pub, connect, event, group, tally, wait
from tests.wire.whatwg import Message

SQLITE = "sqlite://{directory}/log.db"
ROUNDS = 50


class Returning:
    """A client that comes back with its last id whenever it is cut, and remembers all that it ever got."""

    def __init__(self, port: int, participant: str) -> None:
        self.port, self.participant = port, participant
        self.events: list[Message] = []
        self.resyncs: list[object] = []
        self._client = Client(port, participant).opened()

    @property
    def last_id(self) -> str:
        return self._client.parser.last_event_id

    def pump(self) -> bool:
        if self._client.closed:
            try:
                self._client = Client(self.port, self.participant, last_id=self.last_id)
            except ConnectionRefusedError:
                return False
        busy = self._client.pump()
        self.events += self._client.events
        self.resyncs += self._client.of("resync")
        self._client.messages.clear()
        if self._client.closed:
            self._client.sock.close()
        return busy

    def close(self) -> None:
        self._client.sock.close()


def until(clients: list[Returning], condition: Callable[[], object], what: str) -> None:
    def now() -> object:
        for client in clients:
            client.pump()
        return condition()

    wait(now, what)


def sound(path: Path) -> bool:
    """What SQLite itself finds in the file."""
    with closing(sqlite3.connect(path)) as file:
        (found,) = file.execute("PRAGMA integrity_check").fetchone()
    return bool(found == "ok")


def test_nothing_acked_is_lost_over_kills_and_nothing_is_stored_twice() -> None:
    stop = threading.Event()
    sent: dict[str, list[Sent]] = {f"p{i}": [] for i in range(3)}
    broken: list[BaseException] = []

    def produce(name: str, address: str) -> None:
        try:
            with AckedProducer(address, name=name, timeout=DEADLINE, answer_timeout=0.2) as producer:
                while not stop.is_set():
                    number = len(sent[name])
                    to = "*" if number % 10 == 0 else ["ab"[number % 2]]
                    data = f"{name} {number}"
                    sent[name].append(Sent(data, to, producer.publish(data, to=to)))
        except BaseException as error:
            broken.append(error)
            raise

    with RunningDaemon(backend=SQLITE) as daemon, ExitStack() as stack:
        clients = [Returning(daemon.http_port, name) for name in ("a", "a", "b")]
        for client in clients:
            stack.callback(client.close)
        threads = [threading.Thread(target=produce, args=(name, daemon.acked)) for name in sent]
        stack.callback(stop.set)
        for thread in threads:
            thread.start()

        def stored() -> int:
            return sum(map(len, sent.values()))

        def more_than(count: int) -> bool:
            return stored() > count or bool(broken)

        for _ in range(ROUNDS):
            enough = stored() + 20
            until(clients, partial(more_than, enough), "events to be stored")
            daemon.restart(kill=True)
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert not broken, broken
        expected = [sum(one.is_for(client.participant) for run in sent.values() for one in run) for client in clients]
        until(clients, lambda: all(len(c.events) >= n for c, n in zip(clients, expected, strict=True)), "all that was acked")
        assert faults(sent, [(client.participant, client.events) for client in clients]) == []
        assert not any(client.resyncs for client in clients)
        assert stored() > 20 * ROUNDS
        daemon.stop()
        assert sound(daemon.directory / "log.db")


def test_the_sqlite_log_goes_on_where_it_was() -> None:
    for kill in (False, True):
        with RunningDaemon(backend=SQLITE) as daemon, Acked(daemon.acked) as acked:
            ids = acked.store(*(event(["a"], str(n), sender="run/1", n=n) for n in (1, 2, 3)))
            acked.store(group("g", "a", "b"), event(["a"], "kept", retain=True, topic="t"))
            daemon.restart(kill=kill)
            # Cursors: from the middle, and from an ack.
            with connect(daemon, "a", last_id=ids[0]) as client:
                assert client.wait_events(3) == ["2", "3", "kept"]
                assert [m.id for m in client.events[:2]] == ids[1:]
                assert not client.of("resync")
                # Groups, snapshots.
                acked.store(event(None, "to the group", group="g"))
                assert client.wait_events(4)[-1] == "to the group"
                with connect(daemon, "a") as fresh:
                    assert fresh.data == ["kept"]
                # Numbers, on both sockets; what is new counts, what is not does not.
                assert acked.store(event(["a"], "2", sender="run/1", n=2)) == ids[1:2]
                with Pub(daemon.pubsub) as pub:
                    pub.send(event(["a"], "3", sender="run/1", n=3))
                    pub.send(event(["a"], "4", sender="run/1", n=4))
                    assert client.wait_events(5)[4:] == ["4"]
                assert tally(daemon, "run/1")["missing"] == 0


def test_the_memory_log_begins_anew_and_says_so() -> None:
    with RunningDaemon() as daemon, Acked(daemon.acked) as acked:
        ids = acked.store(event(["a"], "1"), event(["a"], "2"))
        daemon.restart(kill=True)
        acked.store(*[event(["a"], "not yours", retain=True)] * 3)
        with connect(daemon, "a", last_id=ids[0]) as client:
            wait(lambda: client.of("resync"), "resync", [client])
            assert client.of("resync") == [{"reason": "backend_reset", "missed": None}]
            # As if it had come without a cursor: the snapshot, then what is new; its old position names nothing here.
            assert client.wait_events(1) == ["not yours"]
            assert acked.store(event(["a"], "new"))[0] != ids[0]
            assert client.wait_events(2) == ["not yours", "new"]
            assert client.parser.last_event_id.partition("-")[0] != ids[0].partition("-")[0]
