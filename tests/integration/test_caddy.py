"""Behind Debian's Caddy, configured with exactly the lines that the README has. The daemon wants proof, as it does by itself."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.consumer import subscribe
from sse_daemon.producer import AckedProducer
from sse_daemon.signer import Signer
from tests.architecture.test_repository import blocks
from tests.hardening.signing import ALICE, signed
from tests.integration.daemon import ROOT, RunningDaemon
from tests.integration.peers import operator
from tests.integration.proxies import CERTIFICATE, KEY, SITE, client_of, make_certificate, over_http2, running

CADDY = shutil.which("caddy")

pytestmark = pytest.mark.skipif(CADDY is None, reason="Caddy is not installed (Debian: caddy)")

CONFIG = f'[http]\nhosts = ["{SITE}"]\nforwarded_from = ["127.0.0.1"]\n'
"""What the README says of the daemon's."""

# Where no other machine is to be asked for a certificate, and no port of this one to be taken.
GLOBAL = "{{\n admin off\n auto_https disable_redirects\n servers {{\n  protocols h1 h2\n }}\n}}\n{site}"
HERE = f"bind unix/{{socket}}\n    tls {{place}}/{CERTIFICATE} {{place}}/{KEY}\n    "


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon(CONFIG, dev=False) as running:
        yield running


@pytest.fixture
def caddy(daemon: RunningDaemon, until_blocking: Callable[..., Any]) -> Iterator[Path]:
    """Caddy in front of the daemon; the path of its socket."""
    place = daemon.directory
    make_certificate(place)
    socket, config, log = place / "caddy.sock", place / "Caddyfile", place / "caddy.log"
    (site,) = blocks((ROOT / "README.md").read_text(), "caddyfile")
    assert "127.0.0.1:8080" in site
    site = site.replace("127.0.0.1:8080", daemon.http.removeprefix("http://"))
    site = site.replace("reverse_proxy", HERE.format(place=place, socket=socket) + "reverse_proxy")
    config.write_text(GLOBAL.format(site=site))
    command = [str(CADDY), "run", "--adapter", "caddyfile", "--config", str(config)]
    home = {"HOME": str(place), "XDG_DATA_HOME": str(place), "XDG_CONFIG_HOME": str(place)}
    with running(command, socket, log, until_blocking, {**os.environ, **home}):
        yield socket


def clients(daemon: RunningDaemon) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = operator(daemon, "/clients")["clients"]
    return rows


def publish(daemon: RunningDaemon, data: str) -> None:
    with AckedProducer(daemon.acked, name="test") as producer:
        producer.publish(data, to=[ALICE.public])


async def test_our_client_gets_each_event_at_once(daemon: RunningDaemon, caddy: Path, until: Callable[..., Any]) -> None:
    signer = Signer(bytes(ALICE.secret))
    async with (
        client_of(caddy.parent, caddy) as client,
        subscribe(f"https://{SITE}/events", key=signer, client=client) as stream,
    ):
        coming = asyncio.ensure_future(anext(stream))
        await until(lambda: clients(daemon), "the stream to open")
        for number in range(5):
            # The next one is sent only when this one has come: nothing pushes it through.
            publish(daemon, f"event {number}")
            assert (await coming).data == f"event {number}"
            coming = asyncio.ensure_future(anext(stream))
        coming.cancel()
        await asyncio.gather(coming, return_exceptions=True)
    await until(lambda: not clients(daemon), "the daemon to notice that the client is gone")


async def test_who_does_not_is_told(caddy: Path) -> None:
    async with client_of(caddy.parent, caddy) as client:
        answer = await client.get(f"https://{SITE}/events", headers={"X-Public-Key": ALICE.public})
    assert (answer.status_code, answer.json()["error"]) == (401, "signature_required")


def test_browsers_get_http2(daemon: RunningDaemon, caddy: Path, until_blocking: Callable[..., Any]) -> None:
    headers = [part for header in signed(ALICE, host=SITE) for part in ("-H", ": ".join(header))]
    with over_http2(caddy.parent, caddy, *headers) as data:
        assert ALICE.public in next(data)
        for number in range(5):
            publish(daemon, f"event {number}")
            assert next(data) == f"event {number}"
    until_blocking(lambda: not clients(daemon), "the daemon to notice that the client is gone")
