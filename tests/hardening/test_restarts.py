"""The daemon is restarted over and over, its socket held by a manager: nobody is refused, nothing is lost, nothing comes twice."""

from __future__ import annotations

import signal
import socket
import threading
from contextlib import ExitStack
from functools import partial

from sse_daemon.producer import AckedProducer
from tests.integration.checker import Sent, faults
from tests.integration.daemon import DEADLINE, RunningDaemon
from tests.integration.test_crash import SQLITE, Returning, until
from tests.integration.test_lifecycle import inherited

RESTARTS = 20


def test_twenty_restarts_under_load_refuse_nobody_and_lose_nothing() -> None:
    stop = threading.Event()
    sent: list[Sent] = []
    refused: list[BaseException] = []

    def produce(address: str) -> None:
        with AckedProducer(address, name="p", timeout=DEADLINE, answer_timeout=0.2) as producer:
            while not stop.is_set():
                data, to = f"p {len(sent)}", ["ab"[len(sent) % 2]]
                sent.append(Sent(data, to, producer.publish(data, to=to)))

    def knock(port: int) -> None:
        """Clients that come at any moment of a restart; whether they are answered is seen from the others."""
        while not stop.is_set():
            try:
                socket.create_connection(("127.0.0.1", port)).close()
            except OSError as error:
                refused.append(error)
                return

    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
        port = listening.getsockname()[1]
        config = "[daemon]\ndrain_time = 0.2\n[streams]\nretry_min = 0.01\nretry_max = 0.02\n"
        daemon = RunningDaemon(config, backend=SQLITE)
        stack.push(daemon.__exit__)
        # No ports: while the daemon is away a client's connection could come from that very port.
        daemon.pubsub_addresses[:] = [f"ipc://{daemon.directory}/pub"]
        daemon.acked_addresses[:] = [f"ipc://{daemon.directory}/acked"]
        inherited(daemon, listening)
        daemon.wait_ready()
        clients = [Returning(port, name) for name in ("a", "a", "b")]
        for client in clients:
            stack.callback(client.close)
        threads = [threading.Thread(target=produce, args=(daemon.acked,)), threading.Thread(target=knock, args=(port,))]
        for thread in threads:
            thread.start()
            stack.callback(thread.join, DEADLINE)
        stack.callback(stop.set)
        for _ in range(RESTARTS):
            enough = len(sent) + 20
            until(clients, partial(lambda enough: len(sent) > enough, enough), "events to be stored")
            daemon.signal(signal.SIGTERM)
            assert daemon.wait() == 0
            inherited(daemon, listening)
            daemon.wait_ready()
        stop.set()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert refused == []
        expected = [sum(one.is_for(client.participant) for one in sent) for client in clients]
        until(clients, lambda: all(len(c.events) >= n for c, n in zip(clients, expected, strict=True)), "all that was acked")
        assert faults({"p": sent}, [(client.participant, client.events) for client in clients]) == []
        assert not any(client.resyncs for client in clients)
