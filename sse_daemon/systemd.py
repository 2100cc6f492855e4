"""What a service manager is told and what it hands over: readiness, watchdog pings, inherited sockets.

The protocols are those of sd_notify(3), sd_watchdog_enabled(3) and sd_listen_fds(3). Each is a few lines, so there is no library:
the ones for Python are abandoned or need libsystemd to be built. Without systemd all of it does nothing.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import Mapping, MutableMapping
from typing import NamedTuple, NoReturn

from sse_daemon.errors import AddressError

READY = "READY=1"
RELOADING = "RELOADING=1"
STOPPING = "STOPPING=1"
ALIVE = "WATCHDOG=1"

PATIENCE = 1.0
"""Seconds that a message may wait for a manager that does not read; the daemon's loop waits with it, so they are few."""
MAX_INHERITED = 1024
"""More than any unit lists; a senseless number in the environment must not cost memory."""
FIRST_FD = 3
"""Where inherited sockets begin (SD_LISTEN_FDS_START)."""


def status(text: str) -> str:
    """The state that `systemctl status` shows; a line end would begin another state, so it becomes a space."""
    return "STATUS=" + " ".join(text.splitlines())


def notify(*states: str, environ: Mapping[str, str] = os.environ, patience: float = PATIENCE) -> bool:
    """Tells the manager `states`, such as READY and status("..."), in one message; whether it has taken it.

    Nothing is raised: there may be no manager, or it may be gone, and neither is a reason for a daemon to stop serving.
    """
    address = environ.get("NOTIFY_SOCKET", "")
    if not states or address[:1] not in ("/", "@"):
        return False
    if address.startswith("@"):
        address = "\0" + address[1:]  # a name in the abstract namespace, which has no file
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
            sender.settimeout(patience)
            sender.sendto("\n".join(states).encode(), address)
    except OSError:
        return False
    return True


def watchdog_interval(environ: Mapping[str, str] = os.environ, pid: int | None = None) -> float | None:
    """Seconds between two pings, half of what the manager waits for one; None if it waits for none of this process.

    `pid`: this process unless given. The variables are inherited by children, which are not to ping: hence WATCHDOG_PID.
    """
    limit = _number(environ, "WATCHDOG_USEC")
    meant = environ.get("WATCHDOG_PID")
    if limit <= 0 or (meant is not None and meant != str(pid or os.getpid())):
        return None
    return limit / 1_000_000 / 2


async def ping(interval: float, environ: Mapping[str, str] = os.environ) -> NoReturn:
    """Pings the manager every `interval` seconds (see `watchdog_interval`), beginning now, until it is cancelled.

    The pings come from the loop and nowhere else: a loop that is stuck falls silent, and is restarted.
    """
    while True:
        # A manager that does not read now gets the next one; to wait for it would hold the very loop that this vouches for.
        notify(ALIVE, environ=environ, patience=0)
        await asyncio.sleep(interval)


class Inherited(NamedTuple):
    """A listening socket that was open before this process: `name` is its FileDescriptorName, "unknown" if it has none."""

    name: str
    socket: socket.socket


def inherited_sockets(environ: MutableMapping[str, str] = os.environ, pid: int | None = None) -> list[Inherited]:
    """The listening sockets handed to this process, in the manager's order; they are the caller's to close.

    The variables are removed and the sockets marked close-on-exec, so that no child takes them for its own; a second call
    therefore finds none. Raises AddressError if something else than a listening stream socket was handed over.
    """
    meant, count = environ.get("LISTEN_PID"), min(_number(environ, "LISTEN_FDS"), MAX_INHERITED)
    names = environ.get("LISTEN_FDNAMES", "").split(":")
    for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"):
        environ.pop(name, None)
    if meant != str(pid or os.getpid()):
        return []
    names += [""] * (count - len(names))
    found = [(descriptor, name or "unknown") for descriptor, name in zip(range(FIRST_FD, FIRST_FD + count), names, strict=False)]
    # All are looked at before the first becomes ours: if one is wrong, none is closed behind the manager's back.
    for descriptor, name in found:
        _claim(descriptor, name)
    return [Inherited(name, socket.socket(fileno=descriptor)) for descriptor, name in found]


def _number(environ: Mapping[str, str], name: str) -> int:
    """What the variable says, 0 for everything that is not a number of a sensible length."""
    text = environ.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else 0


def _claim(descriptor: int, name: str) -> None:
    """Keeps the descriptor from children. Raises AddressError unless it is a listening stream socket."""
    place = f"inherited descriptor {descriptor} ({name})"
    try:
        os.set_inheritable(descriptor, False)
        looked_at = socket.socket(fileno=descriptor)
    except OSError as error:
        raise AddressError(place, error.strerror or str(error)) from error
    try:
        listening = looked_at.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    finally:
        looked_at.detach()
    if not listening or looked_at.type != socket.SOCK_STREAM:
        raise AddressError(place, "not a listening stream socket")
