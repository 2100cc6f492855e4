"""Behind Debian's nginx, configured with exactly the lines that the README has."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from sse_daemon.producer import AckedProducer
from tests.architecture.test_repository import blocks
from tests.integration.daemon import ROOT, RunningDaemon
from tests.integration.proxies import CERTIFICATE, KEY, SITE, client_of, make_certificate, over_http2, running

NGINX = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
TRUSTING = '[auth]\nmode = "trusted-proxy"\ntrusted_proxies = ["127.0.0.1"]\n'
USERS = "/etc/nginx/sse-daemon.users"
"""As it stands in the README's lines."""

pytestmark = pytest.mark.skipif(NGINX is None, reason="nginx is not installed (Debian: nginx-core)")

CONFIG = """\
daemon off;
master_process off;
pid {place}/pid;
error_log {place}/error.log;
events {{ }}
http {{
    access_log off;
    client_body_temp_path {place}/body;
    proxy_temp_path {place}/proxy;
    fastcgi_temp_path {place}/fastcgi;
    uwsgi_temp_path {place}/uwsgi;
    scgi_temp_path {place}/scgi;
    gzip on;
    gzip_types text/event-stream;
{server}
}}
"""


def readme_lines() -> str:
    (found,) = blocks((ROOT / "README.md").read_text(), "nginx")
    return found


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(TRUSTING, dev=False) as running:
        yield running


def configured(place: Path, daemon: RunningDaemon) -> str:
    """The README's lines, with what is elsewhere here."""
    text = readme_lines()
    for theirs, ours in (
        ("127.0.0.1:8080", daemon.http.removeprefix("http://")),
        (USERS, f"{place}/users"),
        ("443 ssl", f"unix:{place}/nginx.sock ssl"),
        (f"/etc/ssl/certs/{SITE}.pem", f"{place}/{CERTIFICATE}"),
        (f"/etc/ssl/private/{SITE}.key", f"{place}/{KEY}"),
    ):
        assert theirs in text
        text = text.replace(theirs, ours)
    return text


@pytest.fixture
def nginx(daemon: RunningDaemon, until_blocking: Callable[..., Any]) -> Iterator[Path]:
    """nginx in front of the daemon; the path of its socket."""
    # Beside the daemon's files and not below tmp_path: a socket's path is short.
    place = daemon.directory
    make_certificate(place)
    (place / "users").write_text("alice:{PLAIN}a\nbob:{PLAIN}b\n")
    (place / "nginx.conf").write_text(CONFIG.format(place=place, server=configured(place, daemon)))
    log, socket = place / "error.log", place / "nginx.sock"
    command = [str(NGINX), "-e", str(log), "-p", str(place), "-c", str(place / "nginx.conf")]
    with running(command, socket, log, until_blocking):
        yield socket


@asynccontextmanager
async def stream(nginx: Path, user: str, query: str = "", **headers: str) -> AsyncIterator[AsyncIterator[str]]:
    """The data of each event of a user's stream, as a browser would ask for it; the status is 200."""
    wanted = {"Accept": "text/event-stream", "Accept-Encoding": "gzip, deflate", **headers}
    async with (
        client_of(nginx.parent, nginx, auth=(user, user[0])) as client,
        client.stream("GET", f"https://{SITE}/events{query}", headers=wanted) as response,
    ):
        assert response.status_code == 200
        assert "Content-Encoding" not in response.headers
        yield (line.removeprefix("data: ") async for line in response.aiter_lines() if line.startswith("data: "))


def publish(daemon: RunningDaemon, data: str, to: str = "alice") -> None:
    with AckedProducer(daemon.acked, name="test") as producer:
        producer.publish(data, to=[to])


async def test_each_event_comes_at_once(daemon: RunningDaemon, nginx: Path) -> None:
    async with stream(nginx, "alice") as data:
        assert '"participant":"alice"' in await anext(data)
        for number in range(5):
            # The next one is sent only when this one has come: nothing pushes it through.
            publish(daemon, f"event {number}")
            assert await anext(data) == f"event {number}"


def test_browsers_get_http2(daemon: RunningDaemon, nginx: Path) -> None:
    with over_http2(nginx.parent, nginx, "--user", "alice:a") as data:
        assert '"participant":"alice"' in next(data)
        for number in range(5):
            publish(daemon, f"event {number}")
            assert next(data) == f"event {number}"


async def test_a_slow_client_waits_in_the_daemons_log_and_not_in_nginx(
    daemon: RunningDaemon, nginx: Path, until: Callable[..., Any]
) -> None:
    events = [f"{number} ".ljust(256 * 1024, "x") for number in range(40)]
    async with stream(nginx, "alice") as data:
        await anext(data)
        for event in events:
            publish(daemon, event)
        await until(lambda: clients(daemon)[0]["lag"] > 0 and clients(daemon)[0]["state"] == "behind", "the daemon to wait")
        assert [await anext(data) for _ in events] == events


async def test_a_client_that_goes_is_gone_from_the_daemon_too(
    daemon: RunningDaemon, nginx: Path, until: Callable[..., Any]
) -> None:
    async with stream(nginx, "alice") as data:
        await anext(data)
        assert [row["participant"] for row in clients(daemon)] == ["alice"]
    await until(lambda: not clients(daemon), "the daemon to notice")


async def test_nobody_is_who_they_claim_to_be(daemon: RunningDaemon, nginx: Path) -> None:
    async with stream(nginx, "bob", **{"X-Public-Key": "alice", "X-Forwarded-For": "192.0.2.1"}) as data:
        assert '"participant":"bob"' in await anext(data)
        publish(daemon, "for alice")
        publish(daemon, "for bob", to="bob")
        assert await anext(data) == "for bob"


async def test_without_a_password_there_is_no_stream(nginx: Path) -> None:
    async with client_of(nginx.parent, nginx) as client:
        answer = await client.get(f"https://{SITE}/events", headers={"X-Public-Key": "alice"})
        assert answer.status_code == 401
        answer = await client.get(f"https://{SITE}/events?public_key=alice", auth=("bob", "b"))
    assert (answer.status_code, answer.json()["error"]) == (403, "participant_in_url")


def clients(daemon: RunningDaemon) -> list[dict[str, Any]]:
    """The open streams, by the operators' own interface."""
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.admin))) as client:
        rows: list[dict[str, Any]] = client.get("http://daemon/clients").json()["clients"]
    return rows
