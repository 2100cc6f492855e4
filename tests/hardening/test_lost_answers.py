"""Answers are lost on the way, so that producers send again what was stored: each event is in the log once, with its first id."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import zmq

from sse_daemon.producer import AckedProducer
from tests.integration.daemon import RunningDaemon
from tests.integration.peers import connect, metrics, tally

EVENTS = 60


@contextmanager
def forgetful(to: str) -> Iterator[str]:
    """A proxy for one acked producer that keeps every third answer to itself; its address."""
    context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
    front, back, end = context.socket(zmq.ROUTER), context.socket(zmq.DEALER), context.socket(zmq.PAIR)
    front.bind("tcp://127.0.0.1:*")
    end.bind("inproc://end")
    back.connect(to)
    address = front.getsockopt_string(zmq.LAST_ENDPOINT)

    def forward() -> None:
        poller, answers, peer = zmq.Poller(), 0, b""
        for each in (front, back, end):
            poller.register(each, zmq.POLLIN)
        while True:
            ready = dict(poller.poll())
            if end in ready:
                return
            if front in ready:
                peer, *request = front.recv_multipart()
                back.send_multipart(request)
            if back in ready:
                answer = back.recv_multipart()
                answers += 1
                if answers % 3:
                    front.send_multipart([peer, *answer])

    thread = threading.Thread(target=forward)
    thread.start()
    try:
        yield address
    finally:
        with context.socket(zmq.PAIR) as stop:
            stop.connect("inproc://end")
            stop.send(b"")
            thread.join(30)
        context.destroy(linger=0)


@pytest.mark.parametrize("backend", ["memory://", "sqlite://{directory}/log.db"])
def test_what_is_sent_again_is_stored_once(backend: str) -> None:
    with RunningDaemon(backend=backend) as daemon, connect(daemon, "a") as client, forgetful(daemon.acked) as address:
        with AckedProducer(address, name="p", answer_timeout=0.05) as producer:
            ids = [producer.publish(str(number), to=["a"]) for number in range(EVENTS)]
        assert client.wait_events(EVENTS) == [str(number) for number in range(EVENTS)]
        assert [event.id for event in client.events] == ids
        assert metrics(daemon)["events_accepted_total"] == EVENTS
        found = tally(daemon, producer.sender)
        assert found["accepted"] == EVENTS and found["missing"] == 0
        assert found["repeated"] >= EVENTS // 4, "too few answers were lost"
