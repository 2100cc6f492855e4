"""What the clients' side works with: the parts of the daemon that answer a request."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import NamedTuple

from sse_daemon.auth import Authenticator
from sse_daemon.backend import Backend
from sse_daemon.catchup import CatchUp
from sse_daemon.config import Config
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.guests import Guests
from sse_daemon.hub import Hub
from sse_daemon.liveness import Liveness
from sse_daemon.longpoll import LongPoll


class Site(NamedTuple):
    """`ready`: why the daemon is not ready, or None; `wall`: Unix time. name: what the ids of streams begin with.

    reach: where the log is followed through another process, waits until all that it holds now has come here.
    """

    config: Callable[[], Config]
    hub: Hub
    catchup: CatchUp
    longpoll: LongPoll
    liveness: Liveness
    backend: Backend
    directory: Directory
    authenticator: Authenticator
    door: Door
    guests: Guests
    ready: Callable[[], str | None]
    wall: Callable[[], float]
    name: str = ""
    reach: Callable[[], Awaitable[int]] | None = None
