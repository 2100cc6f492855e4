"""GET /client.js: the browser's client, an ES module for the pages of this origin and of those that may read here."""

from __future__ import annotations

from functools import cache
from hashlib import sha256
from pathlib import Path

from sse_daemon.web_handlers import Base

# A folder that is no package: the name `sse_daemon.web` is the module's, not its.
FILE = Path(__file__).with_name("web") / "client.js"


@cache
def source() -> bytes:
    """The module's text, as it was when it was first asked for: what is cached elsewhere has its tag."""
    return FILE.read_bytes()


class Client(Base):
    """The same for everybody, so nobody has to show who asks."""

    def get(self) -> None:
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.set_header("Cache-Control", "no-cache")  # kept, and asked for each time whether it is still this one
        self.finish(source())

    head = get

    def compute_etag(self) -> str:  # type: ignore[override]
        return _tag()


@cache
def _tag() -> str:
    return f'"{sha256(source()).hexdigest()[:32]}"'
