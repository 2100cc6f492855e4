"""Every way in which there may be no daemon behind the admin socket, as one line that says what to do."""

from __future__ import annotations

import os
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from sse_daemon.cli import admin_client
from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.faults import Failed


@pytest.fixture
def path() -> Iterator[Path]:
    """Where a socket may be; short enough for one."""
    with TemporaryDirectory(prefix="sse-daemon-") as folder:
        yield Path(folder) / "admin.sock"


@pytest.fixture
def answer(path: Path) -> Iterator[Callable[[bytes], Admin]]:
    """`answer(raw)`: what listens there reads one request, writes `raw` and closes."""
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(path))
    listening.listen()
    threads: list[threading.Thread] = []

    def serve(raw: bytes) -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65536)
            connection.sendall(raw)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(65536):  # a body may follow; closed over unread bytes, the answer would be lost
                pass

    def begin(raw: bytes) -> Admin:
        threads.append(threading.Thread(target=serve, args=(raw,)))
        threads[-1].start()
        return Admin(str(path))

    yield begin
    for thread in threads:
        thread.join()
    listening.close()


def response(status: str, body: bytes) -> bytes:
    return b"HTTP/1.1 %s\r\nContent-Length: %d\r\n\r\n%s" % (status.encode(), len(body), body)


def test_an_answer_is_an_object(answer: Callable[[bytes], Admin]) -> None:
    assert answer(response("200 OK", b'{"clients": []}')).get("/clients", {"participant": "a&b", "closed": None}) == {
        "clients": []
    }


def test_the_daemons_refusal_is_in_its_own_words(answer: Callable[[bytes], Admin]) -> None:
    refused = answer(response("400 Bad Request", b'{"error": "failed", "detail": "not so"}'))
    with pytest.raises(Failed, match="the daemon refuses: not so"):
        refused.post("/kick", {"client": "x"})


def test_nothing_there(path: Path) -> None:
    with pytest.raises(Failed, match=f"no daemon listens on {path}: start it .* --admin PATH or SSE_DAEMON_ADMIN_SOCKET"):
        Admin(str(path)).get("/clients")
    with pytest.raises(Failed, match="no daemon listens"):
        Admin("/dev/null/admin.sock").get("/clients")


def test_a_socket_without_a_listener(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with pytest.raises(Failed, match=f"the daemon that listened on {path} is gone"):
        Admin(str(path)).get("/clients")


@contextmanager
def stranger(folder: Path) -> Iterator[None]:
    """Somebody to whom the folder is closed. Root may enter all, so root becomes nobody meanwhile."""
    folder.chmod(0)
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(65534)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o700)


def test_no_permission_is_told_as_such(path: Path) -> None:
    with stranger(path.parent), pytest.raises(Failed, match=f"no permission for {path}: be the daemon's user"):
        Admin(str(path)).get("/clients")


def test_a_path_that_no_socket_can_have(path: Path) -> None:
    with pytest.raises(Failed, match="cannot ask the daemon .* too long"):
        Admin(f"/{'x' * 200}").get("/clients")


def test_an_answer_that_does_not_come(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(path))
        silent.listen()
        with pytest.raises(Failed, match=f"the daemon on {path} does not answer"):
            Admin(str(path)).get("/clients", timeout=0.05)


def test_a_daemon_that_ends_meanwhile(answer: Callable[[bytes], Admin]) -> None:
    ended = answer(b"")
    with pytest.raises(Failed, match="ended before it had answered"):
        ended.get("/clients")


@pytest.mark.parametrize("raw", [b"220 mail.example.org\r\n", response("200 OK", b"<html>"), response("404 Not Found", b"[]")])
def test_something_else_listens_there(answer: Callable[[bytes], Admin], raw: bytes) -> None:
    other = answer(raw)
    with pytest.raises(Failed, match="is no sse-daemon, or one of another version"):
        other.get("/clients")


def test_silence_between_lines_is_no_fault(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(admin_client, "TIMEOUT", 0.2)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(path))
        listening.listen()
        lines = Admin(str(path)).lines("/tail", {})
        with ThreadPoolExecutor() as pool:
            first = pool.submit(next, lines)
            connection, _ = listening.accept()
            with connection:
                connection.recv(65536)
                connection.sendall(CHUNKED + b'8\r\n{"n":1}\n\r\n')
                assert first.result() == {"n": 1}
                second = pool.submit(next, lines)
                # The silence is what is tested: five times as long as an answer may take.
                assert wait([second], timeout=1.0).not_done
                connection.sendall(b'8\r\n{"n":2}\n\r\n0\r\n\r\n')
                assert second.result() == {"n": 2}
        assert list(lines) == []


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize("end", [b"0\r\n\r\n", b""])
def test_lines_come_until_the_end_whether_told_or_not(answer: Callable[[bytes], Admin], end: bytes) -> None:
    assert list(answer(CHUNKED + b'b\r\n{"n":1}\n{"n\r\n5\r\n":2}\n\r\n' + end).lines("/tail", {})) == [{"n": 1}, {"n": 2}]
