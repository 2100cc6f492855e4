"""The program of a worker process, which `serve` starts; imported as sse_daemon.cli.worker, never under the bare name.

It is no command: its arguments are its name, its link to the process that started it, and the sockets that it accepts from.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from collections.abc import Sequence

from sse_daemon.backends.broker import BrokerBackend
from sse_daemon.followed import Followed
from sse_daemon.link import Link
from sse_daemon.worker import Worker


async def run(name: str, link: int, listening: Sequence[int]) -> int:
    """Runs a worker on inherited descriptors until it ends; the exit status."""
    to_owner = Link(socket.socket(fileno=link), asyncio.get_running_loop())
    sockets = [socket.socket(fileno=descriptor) for descriptor in listening]
    followed = Followed()
    try:
        return await Worker(name, to_owner, BrokerBackend(to_owner, followed), followed, sockets).run()
    finally:
        to_owner.close()
        for each in sockets:
            each.close()


def main() -> None:
    """The process."""
    name, link, *listening = sys.argv[1:]
    # Where the owner runs on the same core, waking a worker would interrupt it for each batch that it sends to one of them.
    # As a batch process a worker runs when the owner waits or has had its share, and finds more: a tenth of an event's cost.
    os.sched_setscheduler(0, os.SCHED_BATCH, os.sched_param(0))
    sys.exit(asyncio.run(run(name, int(link), list(map(int, listening)))))


if __name__ == "__main__":
    main()
