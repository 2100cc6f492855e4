"""Where the daemon listens: the texts of addresses, and what they mean."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple

SOCKET_PATH = 107
"""Bytes that a Unix socket's path may have on Linux: `sun_path` is 108 with its final NUL (unix(7))."""


class Tcp(NamedTuple):
    """host: a name, an IP address without brackets, or `*` (ZeroMQ: all addresses); port: 0 is any free one."""

    host: str
    port: int


class Unix(NamedTuple):
    """path: absolute."""

    path: str


def listen_address(text: str) -> Tcp | Unix:
    """An address of `[http] listen`: `host:port`, `[::1]:port` or `unix:/path`. Raises ValueError with what is wrong."""
    if text.startswith("unix:"):
        return Unix(_socket_path(text, text.removeprefix("unix:")))
    return _tcp(text, text)


def zmq_address(text: str) -> Tcp | Unix:
    """An address of `[ingest]`: `tcp://host:port` or `ipc:///path`. Raises ValueError with what is wrong."""
    if text.startswith("ipc://"):
        return Unix(_socket_path(text, text.removeprefix("ipc://")))
    if not text.startswith("tcp://"):
        raise ValueError(f"{text!r} begins neither with tcp:// nor with ipc://")
    rest = text.removeprefix("tcp://")
    if rest.startswith("*:"):
        return Tcp("*", _port(text, rest[2:]))
    return _tcp(text, rest)


def is_loopback(address: Tcp | Unix) -> bool:
    """True if only this machine can reach `address`."""
    if isinstance(address, Unix) or address.host == "localhost":
        return True
    try:
        return ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        return False


def _tcp(text: str, rest: str) -> Tcp:
    host, colon, port = rest.rpartition(":")
    if not colon or not host:
        raise ValueError(f"{text!r} has no {'port' if not colon else 'host'}")
    return Tcp(_host(text, host), _port(text, port))


def _port(text: str, port: str) -> int:
    if port == "*":
        return 0
    if not re.fullmatch(r"[0-9]{1,5}", port) or int(port) > 65535:
        raise ValueError(f"{text!r} has no port of 0 to 65535")
    return int(port)


def _host(text: str, host: str) -> str:
    bare = host[1:-1] if host.startswith("[") and host.endswith("]") else None
    try:
        if bare is not None:
            return str(ipaddress.IPv6Address(bare))
        # Digits and dots are meant as an address: 127.0.0.999 is no name to look up.
        if re.fullmatch(r"[0-9.]+", host):
            return str(ipaddress.IPv4Address(host))
    except ValueError:
        raise ValueError(f"{text!r} has no valid IP address") from None
    if not re.fullmatch(r"[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?", host):
        raise ValueError(f"{text!r} has no valid host")
    return host


def _socket_path(text: str, path: str) -> str:
    wrong = path_complaint(path)
    if wrong is not None:
        raise ValueError(wrong if path == text else f"{text!r}: {wrong}")
    return path


def path_complaint(path: str) -> str | None:
    """What makes `path` unfit for a Unix socket."""
    if not path.startswith("/") or path.endswith("/"):
        return f"{path!r} is no absolute path of a file"
    if "\0" in path:
        return f"{path!r} has a NUL"
    if len(path.encode()) > SOCKET_PATH:
        return f"the path has more than the {SOCKET_PATH} bytes that a socket's path may have"
    return None
