"""One address, several processes that accept from it."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from sse_daemon.config_tables import StreamsConfig
from sse_daemon.errors import AddressError
from sse_daemon.listening import Listening

STREAMS = StreamsConfig()


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def opened(stack: ExitStack, count: int, *addresses: str) -> Listening:
    listening = Listening(count)
    stack.callback(listening.close)
    listening.open(addresses, STREAMS)
    return listening


def test_each_has_a_socket_of_its_own_for_a_tcp_address(stack: ExitStack) -> None:
    listening = opened(stack, 3, "127.0.0.1:0")
    sockets = [each[0] for each in listening.sets]
    assert len({s.fileno() for s in sockets}) == 3 and len({s.getsockname() for s in sockets}) == 1
    (name,) = listening.names
    for _ in range(60):
        # Whoever says nothing is not handed over at once (TCP_DEFER_ACCEPT).
        stack.enter_context(socket.create_connection(sockets[0].getsockname())).sendall(b"x")
    accepted = []
    for each in sockets:
        try:
            while True:
                accepted.append(each)
                stack.enter_context(each.accept()[0])
        except BlockingIOError:
            accepted.pop()
    assert len(accepted) == 60 and len(set(accepted)) > 1, "the kernel spreads them"
    with pytest.raises(AddressError, match="in use"):
        opened(stack, 2, name)
    with pytest.raises(AddressError, match="in use"):
        opened(stack, 1, name)


def test_a_unix_socket_is_one_for_all(stack: ExitStack, tmp_path: Path) -> None:
    listening = opened(stack, 2, f"unix:{tmp_path}/s")
    assert listening.sets[0] == listening.sets[1] and listening.names == [f"unix:{tmp_path}/s"]
    listening.close()
    assert not (tmp_path / "s").exists()


def test_inherited_sockets_are_one_for_all_and_stay_open_at_a_stop(stack: ExitStack) -> None:
    inherited = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
    listening = Listening(2)
    stack.callback(listening.close)
    listening.inherit([inherited], STREAMS)
    assert listening.sets == [[inherited], [inherited]] and not inherited.getblocking()
    listening.stop()
    assert inherited.fileno() >= 0
    own = opened(stack, 2, "127.0.0.1:0")
    own.stop()
    assert all(each[0].fileno() < 0 for each in own.sets)
