"""Debian's Chromium, driven by playwright, with pages that use the daemon's client.js. No browser is ever downloaded."""

from __future__ import annotations

import asyncio
import os
import shutil
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Self

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

playwright = pytest.importorskip("playwright.async_api", reason="playwright is not installed (the extra dev)")

CHROMIUM = shutil.which("chromium")
DEADLINE = 30_000
"""Milliseconds until a page's condition holds, or its test fails."""
NAME = "events.example"
EMPTY = "<!doctype html><title>a page</title>"

# What a test's page works with. `follow` opens a stream: what comes is in `seen`, what becomes of it in `states`.
TOOLS = """
window.load = async (base) => {
    window.base = base;
    window.client = await import(base + "/client.js");
};
window.follow = async (options = {}, name = "default", target = "/events") => {
    const key = await client.openKey(name);
    const followed = { seen: [], states: [], stream: client.connect(base + target, { key, types: ["note"], ...options }) };
    followed.stream.addEventListener("note", (event) => followed.seen.push(event.data));
    followed.stream.addEventListener("resync", (event) => followed.seen.push("resync " + JSON.parse(event.data).reason));
    followed.stream.onstate = ({ state, error }) => followed.states.push([state, error && (error.code ?? error.message)]);
    Object.assign(window, followed);
    (window.all ??= {})[name] = followed;
    return key.publicKey;
};
"""


@asynccontextmanager
async def chromium() -> AsyncIterator[Any]:
    """A browser of its own, without any profile. It believes that NAME is here."""
    sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to be root's
    async with playwright.async_playwright() as driver:
        browser = await driver.chromium.launch(
            executable_path=CHROMIUM, args=[*sandbox, f"--host-resolver-rules=MAP {NAME} 127.0.0.1"]
        )
        try:
            yield browser
        finally:
            await browser.close()


@asynccontextmanager
async def site(text: str = EMPTY, kind: str = "text/html") -> AsyncIterator[int]:
    """A server of pages, which are all this one; its port. What has come from nowhere a browser does not let speak to this machine."""
    answer = f"HTTP/1.1 200 OK\r\nContent-Type: {kind}\r\nConnection: close\r\n\r\n{text}"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.read(65536):
            writer.write(answer.encode())
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


class Wire:
    """The way to a daemon's port, which can be cut: a port of its own, from which everything is passed on. `async with` ends it.

    host: its name for clients; tls: it is https there, as in front of a daemon in production.
    """

    def __init__(self, port: int, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        self._to = port
        self._host = host
        self._tls = tls
        self._port = 0
        self._server: asyncio.Server | None = None
        self._ways: set[asyncio.Task[None]] = set()

    @property
    def origin(self) -> str:
        return f"{'https' if self._tls else 'http'}://{self._host}:{self._port}"

    async def __aenter__(self) -> Self:
        await self.mend()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.cut()

    async def mend(self) -> None:
        """Lets connections through."""
        self._server = await asyncio.start_server(self._pass, "127.0.0.1", self._port, ssl=self._tls)
        self._port = self._server.sockets[0].getsockname()[1]

    async def cut(self) -> None:
        """Ends all connections, and refuses further ones."""
        if self._server is not None:
            self._server.close()
        for way in self._ways:
            way.cancel()
        await asyncio.gather(*self._ways, return_exceptions=True)

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        way = asyncio.ensure_future(self._both_ways(reader, writer))
        self._ways.add(way)
        way.add_done_callback(self._ways.discard)

    async def _both_ways(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection("127.0.0.1", self._to)
        try:
            await asyncio.gather(_copy(reader, back), _copy(there, writer))
        except ConnectionError:
            pass  # one side has gone, and the other one goes with it
        finally:
            back.transport.abort()
            writer.transport.abort()


def certified(folder: Path) -> ssl.SSLContext:
    """TLS with a certificate for NAME, which nobody has reason to believe."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    now = datetime.now(UTC)
    unsigned = x509.CertificateBuilder(name, name, key.public_key(), 1, now - timedelta(days=1), now + timedelta(days=1))
    certificate = unsigned.sign(key, SHA256()).public_bytes(Encoding.PEM)
    file = folder / "tls.pem"
    file.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()) + certificate)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(file)
    return context


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    raise ConnectionError("this side has ended")


class Page:
    """A page of somebody's browser."""

    def __init__(self, page: Any) -> None:
        self.page = page

    @classmethod
    async def open(cls, context: Any, origin: str, base: str | None = None, html: str | None = EMPTY, script: str = "") -> Page:
        """context: a playwright context, which has the cookies and keys. base: the daemon; None: its module is not loaded.

        html: what origin + "/page" is, whatever is there; None: what is there. script: runs before everything else.
        """
        self = cls(await context.new_page())
        if html is not None:
            await self.page.route(f"{origin}/page", lambda route: route.fulfill(content_type="text/html", body=html))
        await self.page.add_init_script(script + TOOLS)
        await self.page.goto(f"{origin}/page")
        if base is not None:
            await self.run("load", base)
        return self

    async def run(self, function: str, *arguments: Any) -> Any:
        """What the page's function gives for these arguments."""
        return await self.page.evaluate(f"(arguments) => ({function})(...arguments)", arguments)

    async def follow(self, name: str = "default", target: str = "/events", *, wait: bool = True, **options: Any) -> str:
        """Follows a stream; the key's public half. wait: until it is open."""
        key: str = await self.run("follow", options, name, target)
        if wait:
            await self.until("stream.state === 'open'")
        return key

    async def until(self, condition: str) -> None:
        """Waits for a condition in the page's JavaScript."""
        try:
            await self.page.wait_for_function(f"() => {condition}", timeout=DEADLINE, polling=20)
        except playwright.TimeoutError:
            found = await self.page.evaluate("() => [window.stream?.state, window.states, window.seen]")
            raise AssertionError(f"it never came to {condition}: {found}") from None

    async def saw(self, expected: Sequence[str]) -> None:
        """Waits until as much as this was seen, and compares."""
        await self.until(f"seen.length >= {len(expected)}")
        assert await self.page.evaluate("() => seen") == [*expected]

    async def states(self) -> list[list[str | None]]:
        found: list[list[str | None]] = await self.page.evaluate("() => states")
        return found
