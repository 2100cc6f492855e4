"""What the log, and the service manager, are told of the daemon as a whole: that it has started, is ready, was reloaded."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from sse_daemon import systemd
from sse_daemon.address import is_loopback, listen_address
from sse_daemon.log import logger

LOOK = 0.1
"""Seconds between two looks whether it is ready by now."""

_log = logger("daemon")


async def started(addresses: Mapping[str, str], why_not_ready: Callable[[], str | None]) -> None:
    """Everything is open: says so, and that it is ready only once nothing keeps clients away any more."""
    _warn_of_strangers(addresses)
    systemd.notify(systemd.READY, systemd.status(f"serving on {addresses['http']}"))
    if (reason := why_not_ready()) is not None:
        _log.warning("started", extra={**addresses, "ready": "no", "reason": reason})
        while why_not_ready() is not None:
            await asyncio.sleep(LOOK)
    _log.info("ready", extra=dict(addresses))


def _warn_of_strangers(addresses: Mapping[str, str]) -> None:
    """Where every client is believed, it should not escape anybody from how far away clients may come."""
    outside = [name for name in addresses["http"].split(",") if not is_loopback(listen_address(name))]
    if addresses["auth"] == "claim" and outside:
        _log.warning("every client is believed who it says it is, also from other machines", extra={"http": ",".join(outside)})


def reloaded(applied: Sequence[str], ignored: Sequence[str], mistaken: Sequence[str]) -> None:
    """What SIGHUP came to. applied: keys in force; ignored: that need a restart; mistaken: whose files have mistakes, logged before."""
    facts = {"changed": applied, "restart_needed_for": ignored, "mistakes_in": mistaken}
    _log.log(
        logging.WARNING if ignored or mistaken else logging.INFO,
        "configuration reloaded in part" if mistaken else "configuration reloaded",
        extra={name: ",".join(keys) for name, keys in facts.items() if keys},
    )
