"""Signed requests of every kind, right ones and almost right ones, made without the library that our own clients use."""

from __future__ import annotations

import secrets
import time
from base64 import b64encode, urlsafe_b64encode
from typing import Any, NamedTuple, Self

from nacl.signing import SigningKey

from tests.integration.client import Client, Header, Response
from tests.integration.daemon import RunningDaemon

ROUTES = """
[[stream]]
path = "/public"
anonymous = "public"
[[stream]]
path = "/keyless"
participant = "none"
"""
"""Where who names no key may come in too, and where nobody is asked for one."""

COMPONENTS = ("@method", "@authority", "@path", "@query", "x-public-key")


class Key(NamedTuple):
    """A participant's key."""

    secret: SigningKey
    public: str

    @classmethod
    def of(cls, number: int) -> Key:
        """A key for tests, always the same."""
        secret = SigningKey(bytes([number]) * 32)
        return cls(secret, urlsafe_b64encode(bytes(secret.verify_key)).decode().rstrip("="))


ALICE, BOB = Key.of(1), Key.of(2)


def signed(
    key: Key,
    target: str = "/events",
    *,
    host: str,
    method: str = "GET",
    named: str | None = None,
    cursor: str | None = None,
    created: int | None = None,
    lasts: int = 30,
    nonce: str | None = None,
    keyid: str | None = None,
    **parameters: Any,
) -> list[Header]:
    """The headers of a signed request. named: what stands in X-Public-Key; parameters: others in place of alg and tag."""
    path, _, query = target.partition("?")
    named = key.public if named is None else named
    created = int(time.time()) if created is None else created
    values = [method, host, path, "?" + query, named]
    components = COMPONENTS
    if cursor is not None:
        components, values = (*COMPONENTS, "last-event-id"), [*values, cursor]
    said = {
        "created": created,
        "expires": created + lasts,
        "nonce": f'"{nonce or secrets.token_urlsafe(24)}"',
        "keyid": f'"{named if keyid is None else keyid}"',
        "alg": '"ed25519"',
        "tag": '"sse-daemon"',
        **parameters,
    }
    listed = " ".join(f'"{name}"' for name in components)
    text = f"({listed})" + "".join(f";{name}={value}" for name, value in said.items() if value is not None)
    lines = [f'"{name}": {value}' for name, value in zip(components, values, strict=True)]
    base = "\n".join([*lines, f'"@signature-params": {text}'])
    signature = b64encode(key.secret.sign(base.encode()).signature).decode()
    cursors = [] if cursor is None else [("Last-Event-ID", cursor)]
    return [("X-Public-Key", named), ("Signature-Input", f"sig={text}"), ("Signature", f"sig=:{signature}:"), *cursors]


def host_of(daemon: RunningDaemon) -> str:
    """The Host header of requests to this daemon."""
    return daemon.http.removeprefix("http://")


def code(response: Response) -> tuple[int, str]:
    """Status, and the code of a refusal."""
    return response.status, response.json()["error"] if response.status != 200 else ""


class Visitor:
    """Asks a daemon, on a connection of its own each time; `with` closes all of them. door: "handlers" sends an empty body along."""

    def __init__(self, daemon: RunningDaemon, door: str = "lean") -> None:
        self.daemon = daemon
        self._door = door
        self._clients: list[Client] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for client in self._clients:
            client.socket.close()

    def ask(
        self, target: str = "/events", *headers: Header, host: str | None = None, method: str = "GET", source: str = "127.0.0.1"
    ) -> Response:
        """Sends these headers and reads the answer's head."""
        client = Client(self.daemon.http_port, source=source)
        self._clients.append(client)
        body = [("Content-Length", "0")] if self._door == "handlers" or method == "POST" else []
        return client.get(target, *headers, *body, method=method, host=host or host_of(self.daemon))

    def sign(self, key: Key, target: str = "/events", *more: Header, source: str = "127.0.0.1", **how: Any) -> Response:
        """Sends a signed request."""
        how.setdefault("host", host_of(self.daemon))
        headers = signed(key, target, **how)
        return self.ask(target, *headers, *more, host=how["host"], method=how.get("method", "GET"), source=source)

    def refused(self, *asked: Any, **how: Any) -> tuple[int, str]:
        """Status and code of a refusal."""
        response = self.ask(*asked, **how)
        return response.status, response.json()["error"]
