"""Publishers: what they send, and the answers they understand."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
import zmq

from sse_daemon.bench import sender as module
from sse_daemon.bench.errors import Broken
from sse_daemon.bench.sender import HttpSender, ZmqSender, connected
from sse_daemon.bench.target import HttpPublish, ZmqPublish
from tests.conftest import Deadline

ANSWER = b"HTTP/1.1 202 Accepted\r\nContent-Length: 5\r\n\r\ndone"  # no line end before what follows


@pytest.fixture
def context() -> Iterator[zmq.Context[zmq.Socket[bytes]]]:
    with zmq.Context() as context:
        yield context


def bound(context: zmq.Context[zmq.Socket[bytes]], kind: int) -> tuple[zmq.Socket[bytes], str]:
    """A socket of this kind and its address."""
    found = context.socket(kind)
    found.set(zmq.LINGER, 0)
    found.set(zmq.RCVTIMEO, 10_000)
    return found, f"tcp://127.0.0.1:{found.bind_to_random_port('tcp://127.0.0.1')}"


def until_answered(sender: HttpSender | ZmqSender, unanswered: int) -> None:
    """Takes answers in until so many are left."""
    limit = Deadline()
    while sender.unanswered > unanswered:
        assert limit.left() > 0, f"{sender.unanswered} without an answer"
        sender.arrived()


@pytest.mark.parametrize("cut", range(1, len(ANSWER)))
def test_answers_are_counted_wherever_they_are_cut(cut: int) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        publish = HttpPublish(host="127.0.0.1", port=listener.getsockname()[1], path="/{key}")
        with closing(HttpSender(publish, 10)) as sender, listener.accept()[0] as server:
            sender._socket.settimeout(10)
            for _ in range(3):
                sender.send("k", b"0123456789")
            answers = ANSWER * 3
            server.sendall(answers[:cut])
            sender.arrived()
            server.sendall(answers[cut:])
            until_answered(sender, 0)
            assert sender.unanswered == 0


def test_a_row_of_requests_is_pipelined_up_to_a_bound() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        publish = HttpPublish(host="127.0.0.1", port=listener.getsockname()[1], path="/pub/{key}", body="<{data}>")
        with closing(connected(publish, 4)) as sender, listener.accept()[0] as server:
            while sender.room():
                sender.send("k", b"data")
            assert sender.unanswered == module.PIPELINED
            sender.flush()
            request = publish.request("k", "data")
            assert b"Content-Length: 6\r\n" in request
            received = b""
            while len(received) < len(request) * module.PIPELINED:
                received += server.recv(65536)
            assert received == request * module.PIPELINED


def test_a_publisher_waits_for_its_subscription_and_sends_what_the_template_says(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    server, address = bound(context, zmq.SUB)
    server.subscribe(b"")
    publish = ZmqPublish(address=address, kind="pub", frames=("topic", '{"to":["{key}"]}\n{data}'))
    with server, ThreadPoolExecutor(1) as other:
        # A bound SUB subscribes when it is asked for something.
        received = other.submit(lambda: [server.recv_multipart(), server.recv_multipart()])
        with closing(connected(publish, 4)) as sender:
            sender.send("k1", b"data")
            sender.send("k2", b"more")
            assert received.result(10) == [[b"topic", b'{"to":["k1"]}\ndata'], [b"topic", b'{"to":["k2"]}\nmore']]


def test_a_dealer_measures_what_each_answer_took(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    server, address = bound(context, zmq.ROUTER)
    with server, closing(ZmqSender(ZmqPublish(address=address, kind="dealer"), in_flight=2)) as sender:
        sender.send("k", b"one")
        assert sender.room()
        sender.send("k", b"two")
        assert not sender.room()
        for _ in range(2):
            peer, request, _ = server.recv_multipart()
            server.send_multipart([peer, request, b'{"ok":true,"ids":["a-1"]}'])
        until_answered(sender, 0)
        assert sender.room()
        assert len(sender.answers) == 2
        assert min(sender.answers) > 0


def test_a_refusal_is_no_answer(context: zmq.Context[zmq.Socket[bytes]]) -> None:
    server, address = bound(context, zmq.ROUTER)
    with server, closing(ZmqSender(ZmqPublish(address=address, kind="dealer"))) as sender:
        sender.send("k", b"one")
        peer, request, _ = server.recv_multipart()
        server.send_multipart([peer, request, b'{"ok":false,"code":"overloaded"}'])
        with pytest.raises(Broken, match="overloaded"):
            until_answered(sender, 0)


def test_nobody_who_takes_events_is_named(context: zmq.Context[zmq.Socket[bytes]], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "PATIENCE", 0.1)
    server, address = bound(context, zmq.SUB)  # it subscribes to nothing
    with server, pytest.raises(Broken, match=f"nobody takes events at {address}"):
        connected(ZmqPublish(address=address, kind="pub"), 4)


def test_no_http_server_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(Broken, match=f"cannot publish to 127.0.0.1:{port}"):
        connected(HttpPublish(host="127.0.0.1", port=port, path="/"), 4)
