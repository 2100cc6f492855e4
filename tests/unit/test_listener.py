"""Real sockets: what is listened on, what accepted connections inherit, and what happens when there are too many."""

from __future__ import annotations

import asyncio
import errno
import fcntl
import os
import resource
import select
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.errors import AddressError
from sse_daemon.listener import ACCEPTS_A_TURN, Listener, listen, listen_unix, lowest_free, name_of, peer_name
from tests.conftest import LogWatch

Until = Callable[..., Awaitable[Any]]
BUFFER = 64 * 1024


@contextmanager
def tcp(send_buffer: int = BUFFER, stall_timeout: float = 30.0) -> Iterator[socket.socket]:
    listening, lock = listen("127.0.0.1:0", send_buffer, stall_timeout)
    assert lock is None
    with closing(listening):
        yield listening


@contextmanager
def unix(path: Path, mode: int = 0o660) -> Iterator[socket.socket]:
    listening, lock = listen_unix(path, mode)
    with closing(lock), closing(listening):
        yield listening


def connect(listening: socket.socket) -> socket.socket:
    """A client that says something: the kernel keeps a silent one to itself for a while."""
    client = socket.create_connection(listening.getsockname())
    client.send(b"x")
    return client


def accepted(listening: socket.socket) -> tuple[socket.socket, socket.socket]:
    client = connect(listening)
    listening.setblocking(True)
    return client, listening.accept()[0]


class Collected:
    """Accepts into a list, and closes what it accepted."""

    def __init__(self) -> None:
        self.connections: list[socket.socket] = []
        self.peers: list[Any] = []

    def __call__(self, connection: socket.socket, peer: Any) -> None:
        self.connections.append(connection)
        self.peers.append(peer)

    def close(self) -> None:
        for connection in self.connections:
            connection.close()


@contextmanager
def listener(listening: socket.socket, kept_back: int = 0) -> Iterator[tuple[Listener, Collected]]:
    collected = Collected()
    made = Listener(listening, asyncio.get_running_loop(), BUFFER, collected, kept_back)
    made.start()
    try:
        yield made, collected
    finally:
        made.stop()
        collected.close()


def test_accepted_sockets_inherit_what_every_stream_needs() -> None:
    with tcp(send_buffer=40_000, stall_timeout=7.0) as listening:
        client, connection = accepted(listening)
        with client, connection:
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 80_000  # Linux doubles it
            assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            # More than the stall timeout: see the next test.
            assert connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 17_000


def test_the_kernel_does_not_end_a_stalled_stream_before_the_daemon_would() -> None:
    """With a user timeout below the stall timeout a client that only does not read was reset by the kernel."""
    with tcp(stall_timeout=1.0) as listening:
        client, connection = accepted(listening)
        with client, connection:
            connection.setblocking(False)
            with pytest.raises(BlockingIOError):
                while True:
                    connection.send(b"x" * 65536)
            poll = select.poll()
            poll.register(connection, 0)  # an error or hang-up is reported unasked
            assert poll.poll(2500) == []


def test_an_absurd_stall_timeout_fits_the_socket_option() -> None:
    with tcp(stall_timeout=1e9) as listening:
        assert listening.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 2**31 - 1


def test_a_port_in_use_is_named() -> None:
    with tcp() as listening:
        address = name_of(listening)
        with pytest.raises(AddressError, match="in use") as caught:
            listen(address, BUFFER, 30.0)
        assert address in str(caught.value)


@pytest.mark.parametrize("address", ["no-such-host.invalid:0", "192.0.2.1:0", "unix:/no/such/folder/sock", "unix:/" + "x" * 200])
def test_an_address_that_cannot_be_listened_on_is_named(address: str) -> None:
    with pytest.raises(AddressError) as caught:
        listen(address, BUFFER, 30.0)
    assert (caught.value.address, bool(caught.value.reason)) == (address, True)


def test_a_port_is_free_again_at_once() -> None:
    with tcp() as listening:
        address = name_of(listening)
        client, connection = accepted(listening)
        connection.close()  # the side that closes first keeps the port in TIME_WAIT
        client.close()
    again, _ = listen(address, BUFFER, 30.0)
    again.close()


@pytest.mark.parametrize(("mode", "shown"), [(0o660, 0o660), (0o600, 0o600)])
def test_a_unix_socket_has_its_mode_from_the_start(tmp_path: Path, mode: int, shown: int) -> None:
    before = os.umask(0o022)
    os.umask(before)
    with unix(tmp_path / "s", mode) as listening:
        assert stat.S_IMODE((tmp_path / "s").stat().st_mode) == shown
        assert name_of(listening) == f"unix:{tmp_path / 's'}"
    assert os.umask(before) == before  # and everything else of the process keeps its own


def test_a_live_unix_socket_is_never_stolen(tmp_path: Path) -> None:
    with unix(tmp_path / "s") as listening:
        with pytest.raises(AddressError, match="another daemon"):
            listen(f"unix:{tmp_path / 's'}", BUFFER, 30.0)
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(tmp_path / "s"))
            listening.setblocking(True)
            listening.accept()[0].close()


@pytest.mark.parametrize("backlog", [5, 0])
def test_nor_one_of_a_process_that_takes_no_lock(tmp_path: Path, backlog: int) -> None:
    path = tmp_path / "s"
    with ExitStack() as stack:
        other = stack.enter_context(socket.socket(socket.AF_UNIX))
        other.bind(str(path))
        other.listen(backlog)
        if backlog == 0:  # its queue is full: it answers nobody, and is alive all the same
            stack.enter_context(socket.socket(socket.AF_UNIX)).connect(str(path))
        with pytest.raises(AddressError, match="another process"):
            listen_unix(path, 0o660)
        assert path.exists()


def test_a_dead_unix_socket_is_removed_and_a_file_is_not(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
        dead.listen()
    with unix(path), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    (tmp_path / "file").write_text("precious")
    with pytest.raises(AddressError, match="not a socket"):
        listen_unix(tmp_path / "file", 0o660)
    assert (tmp_path / "file").read_text() == "precious"


def test_a_failed_start_leaves_no_lock_behind(tmp_path: Path) -> None:
    (tmp_path / "s").write_text("")
    with pytest.raises(AddressError):
        listen_unix(tmp_path / "s", 0o660)
    with (tmp_path / "s.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)


async def test_connections_are_accepted_until_it_stops(until: Until) -> None:
    with tcp() as listening, listener(listening) as (made, collected), ExitStack() as stack:
        for _ in range(3 * ACCEPTS_A_TURN):
            stack.enter_context(connect(listening))
        await until(lambda: len(collected.connections) == 3 * ACCEPTS_A_TURN)
        assert not any(connection.getblocking() for connection in collected.connections)
        made.stop()
        late = stack.enter_context(connect(listening))
        for _ in range(10):
            await asyncio.sleep(0)
        assert len(collected.connections) == 3 * ACCEPTS_A_TURN
        made.start()  # what waited in the kernel's queue was not lost
        await until(lambda: late.getsockname() in collected.peers)


async def test_the_loop_gets_its_turn_between_connections(until: Until) -> None:
    seen: list[int] = []
    with tcp() as listening, ExitStack() as stack:
        for _ in range(4 * ACCEPTS_A_TURN):
            stack.enter_context(connect(listening))
        with listener(listening) as (_, collected):
            while len(collected.connections) < 4 * ACCEPTS_A_TURN:
                seen.append(len(collected.connections))
                await asyncio.sleep(0)
    assert max(b - a for a, b in zip(seen, [*seen[1:], 4 * ACCEPTS_A_TURN], strict=True)) <= ACCEPTS_A_TURN


async def test_who_says_something_is_accepted_before_who_came_first_and_is_silent(until: Until) -> None:
    with tcp() as listening, listener(listening) as (_, collected), ExitStack() as stack:
        silent = stack.enter_context(socket.create_connection(listening.getsockname()))
        stack.enter_context(connect(listening))
        await until(lambda: len(collected.peers) == 2)
        assert collected.peers[1] == silent.getsockname()  # not lost either
        assert collected.connections[0].recv(2) == b"x"


async def test_unix_connections_get_the_send_buffer_too(tmp_path: Path, until: Until) -> None:
    with unix(tmp_path / "s") as listening, listener(listening) as (_, collected), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / "s"))
        (connection,) = await until(lambda: collected.connections)
        assert connection.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF) == 2 * BUFFER


async def test_out_of_files_it_pauses_and_goes_on(until: Until, expect_log: LogWatch) -> None:
    expected = expect_log("sse_daemon.listener", "cannot accept")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tcp() as listening, ExitStack() as stack:
        client = stack.enter_context(connect(listening))
        with listener(listening) as (_, collected):
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))  # what is open stays so; nothing more can be opened
            try:
                await until(lambda: expected.seen)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            assert collected.connections == []
            await until(lambda: client.getsockname() in collected.peers)
    assert len(expected.seen) == 1


async def test_it_can_be_stopped_while_it_pauses(until: Until, expect_log: LogWatch) -> None:
    expected = expect_log("sse_daemon.listener", "cannot accept")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tcp() as listening, ExitStack() as stack:
        stack.enter_context(connect(listening))
        with listener(listening) as (made, _):
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, hard))
            try:
                await until(lambda: expected.seen)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            made.stop()
            assert made._pause is not None and made._pause.cancelled()


async def test_it_pauses_before_the_files_that_it_is_to_leave(until: Until, expect_log: LogWatch) -> None:
    expected = expect_log("sse_daemon.listener", "cannot accept")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with tcp() as listening, ExitStack() as stack:
        clients = [stack.enter_context(connect(listening)) for _ in range(40)]
        first = lowest_free(listening.fileno())
        assert isinstance(first, int)
        with listener(listening, kept_back=8) as (_, collected):
            resource.setrlimit(resource.RLIMIT_NOFILE, (first + 18, hard))
            try:
                await until(lambda: expected.seen)
                assert max(connection.fileno() for connection in collected.connections) == first + 9
                assert lowest_free(listening.fileno()) == first + 10, "there are files, but not for these"
                collected.close()
                await until(lambda: len(collected.connections) >= 20)
                assert max(connection.fileno() for connection in collected.connections) <= first + 9
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
            await until(lambda: len(collected.peers) == len(clients))
    assert len(expected.seen) == 1


def test_names() -> None:
    with tcp() as listening:
        assert name_of(listening) == f"127.0.0.1:{listening.getsockname()[1]}"
    assert peer_name(("192.0.2.1", 5)) == "192.0.2.1:5"
    assert peer_name(("2001:db8::1", 5, 0, 0)) == "[2001:db8::1]:5"
    assert peer_name("") == peer_name(b"") == peer_name(()) == "unix"


def test_an_ipv6_name_is_one_that_can_be_listened_on() -> None:
    try:
        listening, _ = listen("[::1]:0", BUFFER, 30.0)
    except AddressError as error:
        assert os.strerror(errno.EADDRNOTAVAIL) in str(error)  # a machine without IPv6 says so
        return
    with closing(listening):
        assert name_of(listening).startswith("[::1]:")
