"""The program of a worker process, which `serve` starts; imported as sse_daemon.cli.worker, never under the bare name.

It is no command: its arguments are its name, its link to the process that started it, and the sockets that it accepts from.
"""

from __future__ import annotations

import asyncio
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
    sys.exit(asyncio.run(run(name, int(link), list(map(int, listening)))))


if __name__ == "__main__":
    main()
