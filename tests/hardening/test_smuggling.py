"""Requests that one program may read as one and another as two: alone, and behind nginx and haproxy with a connection that they keep.

Each of these says something twice, or in a way that only some programs understand. Whatever they are answered with, it is one answer:
behind the first end of a request that is not clear nothing is read as another one, and no client gets the answer that is another's.
"""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.daemon import RunningDaemon
from tests.integration.peers import wait

SECOND = b"GET /healthz?second HTTP/1.1\r\nHost: localhost\r\n\r\n"
CHUNKED = b"0\r\n\r\n"

# What is wrong, as lines of the head. The body behind each head is SECOND, in a form that the line may be taken to announce.
LENGTHS = [
    *(
        "Content-Length: 3\r\nContent-Length: 50",
        "Content-Length: 0\r\nContent-Length: 50",
        "Content-Length: 50\r\nContent-Length: 50",
    ),
    *("Content-Length: 50, 0", "Content-Length: 50,50", "Content-Length: +50", "Content-Length: -1", "Content-Length: 5_0"),
    *("Content-Length: 0x32", "Content-Length: 50.0", "Content-Length: 5e1", "Content-Length: 050", "Content-Length: 50 0"),
    *("Content-Length: \u00b2", "Content-Length:", "Content-Length: \t", "Content-Length : 50", "Content-Length\t: 50"),
    *(
        " Content-Length: 50",
        "Content-Length: 0\r\n 50",
        "X: y\r\n Content-Length: 50",
        "Content-Length: 50\x00",
        "Content-Length\x00: 50",
    ),
    *("Content-Length: 50;", "Content-Length: 9999999999999999999999999", "Content\u00adLength: 50", "Content_Length: 50"),
]
CODINGS = [
    *("Transfer-Encoding: chunked\r\nContent-Length: 50", "Content-Length: 5\r\nTransfer-Encoding: chunked"),
    *("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity"),
    *("Transfer-Encoding: identity", "Transfer-Encoding: identity, chunked", "Transfer-Encoding: chunked, identity"),
    *(
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked;a=b",
        "Transfer-Encoding: cow",
    ),
    *(
        "Transfer-Encoding : chunked",
        " Transfer-Encoding: chunked",
        "Transfer-Encoding:\x0bchunked",
        "Transfer-Encoding: \x00chunked",
    ),
    *(
        "Transfer-Encoding:\r\n chunked",
        "Transfer-Encoding: 'chunked'",
        'Transfer-Encoding: "chunked"',
        "Transfer_Encoding: chunked",
    ),
    *(
        "X: y\rTransfer-Encoding: chunked",
        "X: y\nTransfer-Encoding: chunked",
        "Transfer-Encoding: CHUNKED",
        "Transfer-Encoding: chunKed ",
    ),
    *("Transfer-Encoding: ", "Transfer-Encoding: \u0441hunked"),
]
BODIES = [
    b"z\r\nabc\r\n0\r\n\r\n",
    b"-1\r\n\r\n",
    b"0x3\r\nabc\r\n0\r\n\r\n",
    b"3;x\r\nabc\r\n0\r\n\r\n",
    b"3\nabc\n0\n\n",
    b"ffffffffffffffffff\r\n",
]
LINES = [
    *(b"GET /healthz HTTP/1.1 HTTP/1.1", b"GET /healthz HTTP/1.1 ", b"GET  /healthz HTTP/1.1", b"GET\t/healthz\tHTTP/1.1"),
    *(b"GET /healthz HTTP/0.9", b"GET /healthz HTTP/2.0", b"GET /healthz http/1.1", b"GET /healthz HTTP/1.10", b"GET /healthz"),
    *(
        b"GET http://evil.example/healthz HTTP/1.1",
        b"GET /health\x00z HTTP/1.1",
        b"G\x00ET /healthz HTTP/1.1",
        b"GET /a\rb HTTP/1.1",
    ),
]
HOSTS = [
    b"Host: localhost\r\nHost: evil.example",
    b"Host: evil.example\r\nHost: localhost",
    b"Host: a, b",
    b"Host : localhost",
    b"",
]


def corpus() -> Iterator[bytes]:
    usual = b"Host: localhost\r\n"
    for line in LENGTHS:
        yield b"GET /healthz HTTP/1.1\r\n" + usual + line.encode() + b"\r\n\r\n" + SECOND
    for line in CODINGS:
        yield b"GET /healthz HTTP/1.1\r\n" + usual + line.encode() + b"\r\n\r\n" + CHUNKED + SECOND
    for body in BODIES:
        yield b"GET /healthz HTTP/1.1\r\n" + usual + b"Transfer-Encoding: chunked\r\n\r\n" + body + SECOND
    for start in LINES:
        yield start + b"\r\n" + usual + b"\r\n"
    for hosts in HOSTS:
        yield b"GET /healthz HTTP/1.1\r\n" + hosts + b"\r\n\r\n"


CORPUS = list(corpus())
# Names that are none of HTTP's are headers like any other, with no meaning: then there are two requests, and two answers are right.
PLAIN_NAMES = (b"_Length", b"_Encoding", "Content\u00adLength".encode())


def exchange(connection: socket.socket, request: bytes, *, end: bool = True) -> bytes:
    """What is answered until the other side ends the connection. end: ours ends after the request."""
    with connection:
        connection.settimeout(30)
        connection.sendall(request)
        if end:
            connection.shutdown(socket.SHUT_WR)
        parts = []
        try:
            while part := connection.recv(65536):
                parts.append(part)
        except ConnectionResetError:
            pass  # it did not read what stood behind; what it had said before has come
        return b"".join(parts)


def answers(said: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.[01] ([0-9]{3})", said)]


@pytest.fixture(scope="module")
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon("[http]\nheader_timeout = 2.0\nbody_timeout = 2.0\n") as running:
        yield running


def requests_in(request: bytes) -> int:
    """How many requests this is for whoever reads it as RFC 9112 has it."""
    return 2 if any(name in request for name in PLAIN_NAMES) else 1


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_a_request_that_is_not_clear_has_one_answer(daemon: RunningDaemon, number: int) -> None:
    said = exchange(socket.create_connection(("127.0.0.1", daemon.http_port)), CORPUS[number])
    assert len(answers(said)) <= requests_in(CORPUS[number]), (CORPUS[number], said)


def nginx(place: Path, to: str) -> list[str]:
    """nginx: forwards whatever it can be brought to forward, on one connection that all its requests share."""
    paths = "".join(f"{kind}_temp_path {place}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (place / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/nginx.log;\nevents {{ }}\nhttp {{\naccess_log off;\n{paths}"
        f"upstream daemon {{ server {to}; keepalive 1; }}\n"
        f"server {{ listen unix:{place}/nginx.sock; underscores_in_headers on; keepalive_timeout 100ms; client_header_timeout 200ms; client_body_timeout 200ms; ignore_invalid_headers off;\n"
        'location / { proxy_pass http://daemon; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost; }\n'
        "}\n}\n"
    )
    return ["-e", str(place / "nginx.log"), "-p", str(place), "-c", str(place / "nginx.conf")]


def haproxy(place: Path, to: str) -> list[str]:
    """haproxy, likewise."""
    (place / "haproxy.conf").write_text(
        "global\nmaxconn 100\nnbthread 1\n"
        "defaults\nmode http\ntimeout client 200ms\ntimeout server 5s\ntimeout connect 5s\n"
        "timeout http-request 200ms\ntimeout http-keep-alive 100ms\noption http-keep-alive\noption accept-invalid-http-request\n"
        f"listen daemon\nbind unix@{place}/haproxy.sock\nhttp-request set-header Host localhost\n"
        f"http-reuse always\nserver daemon {to} maxconn 1\n"
    )
    return ["-db", "-f", str(place / "haproxy.conf")]


PROXIES = {"nginx": (nginx, "nginx-core"), "haproxy": (haproxy, "haproxy")}


@pytest.fixture(scope="module", params=PROXIES)
def proxy(request: pytest.FixtureRequest, daemon: RunningDaemon) -> Iterator[Path]:
    """The socket of a proxy in front of the daemon."""
    name: str = request.param
    arguments, package = PROXIES[name]
    program = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if program is None:
        pytest.skip(f"{name} is not installed (Debian: {package})")
    place = daemon.directory
    path, log = place / f"{name}.sock", place / f"{name}.log"
    command = [program, *arguments(place, daemon.http.removeprefix("http://"))]
    with log.open("wb") as said, subprocess.Popen(command, stdout=said, stderr=said) as process:
        try:
            wait(lambda: path.exists() or process.poll() is not None, name)
            assert process.poll() is None, log.read_text()
            yield path
        finally:
            process.terminate()
            process.wait(30)


def by(proxy: Path, request: bytes) -> bytes:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(proxy))
    return exchange(connection, request, end=False)  # nginx gives up a request whose client ends


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_behind_a_proxy_everybody_gets_the_answer_to_their_own(proxy: Path, number: int) -> None:
    by(proxy, CORPUS[number])
    for path, body in ((b"/healthz", b'{"alive": true}'), (b"/readyz", b'{"ready": true}'), (b"/nowhere", b"not_found")):
        said = by(proxy, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(answers(said)) == 1
        assert body in said, (CORPUS[number], said)


def test_the_proxy_has_one_connection_for_all(proxy: Path, daemon: RunningDaemon) -> None:
    """Otherwise nobody could be given another one's answer, and the tests above would show nothing."""

    def held() -> set[str]:
        """The ends of connections to the daemon, in /proc's words; 01: established."""
        lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        return {local for _, local, remote, state, *_ in lines if remote.endswith(f":{daemon.http_port:04X}") and state == "01"}

    for _ in range(100):
        by(proxy, SECOND)
        if before := held():
            by(proxy, SECOND)
            if before == held():
                return
    raise AssertionError("a connection for each request")


def test_the_corpus_is_one() -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 60


def test_two_requests_that_are_clear_have_two(daemon: RunningDaemon, proxy: Path) -> None:
    assert answers(exchange(socket.create_connection(("127.0.0.1", daemon.http_port)), 2 * SECOND)) == [200, 200]
    assert answers(by(proxy, 2 * SECOND)) == [200, 200]
