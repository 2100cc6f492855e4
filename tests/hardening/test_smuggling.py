"""Requests that one program may read as one and another as two: alone, and behind nginx with connections that it keeps.

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

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
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


@pytest.fixture(scope="module")
def nginx(daemon: RunningDaemon) -> Iterator[Path]:
    """nginx in front of the daemon, with one connection that all its requests share."""
    if NGINX is None:
        pytest.skip("nginx is not installed (Debian: nginx-core)")
    place = daemon.directory
    paths = "".join(f"{kind}_temp_path {place}/{kind};\n" for kind in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi"))
    (place / "nginx.conf").write_text(
        f"daemon off;\nmaster_process off;\npid {place}/pid;\nerror_log {place}/error.log;\nevents {{ }}\nhttp {{\naccess_log off;\n{paths}"
        f"upstream daemon {{ server {daemon.http.removeprefix('http://')}; keepalive 1; }}\n"
        f"server {{ listen unix:{place}/nginx.sock; underscores_in_headers on; keepalive_timeout 100ms; client_header_timeout 200ms; client_body_timeout 200ms; ignore_invalid_headers off;\n"
        'location / { proxy_pass http://daemon; proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host localhost; }\n'
        "}\n}\n"
    )
    command = [NGINX, "-e", str(place / "error.log"), "-p", str(place), "-c", str(place / "nginx.conf")]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        try:
            wait(lambda: (place / "nginx.sock").exists() or process.poll() is not None, "nginx")
            assert process.poll() is None, (place / "error.log").read_text()
            yield place / "nginx.sock"
        finally:
            process.terminate()
            process.wait(30)


def by_nginx(nginx: Path, request: bytes) -> bytes:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(nginx))
    return exchange(connection, request, end=False)  # nginx gives up a request whose client ends


@pytest.mark.parametrize("number", range(len(CORPUS)))
def test_behind_nginx_everybody_gets_the_answer_to_their_own(nginx: Path, number: int) -> None:
    by_nginx(nginx, CORPUS[number])
    for path, body in ((b"/healthz", b'{"alive": true}'), (b"/readyz", b'{"ready": true}'), (b"/nowhere", b"not_found")):
        said = by_nginx(nginx, b"GET " + path + b" HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        assert len(answers(said)) == 1
        assert body in said, (CORPUS[number], said)


def test_the_corpus_is_one() -> None:
    assert len(set(CORPUS)) == len(CORPUS) >= 60


def test_two_requests_that_are_clear_have_two(daemon: RunningDaemon, nginx: Path) -> None:
    assert answers(exchange(socket.create_connection(("127.0.0.1", daemon.http_port)), 2 * SECOND)) == [200, 200]
    assert answers(by_nginx(nginx, 2 * SECOND)) == [200, 200]
