"""Prints what a participant receives, for as long as it runs: through restarts of the daemon, and without holes.

    python examples/subscribe.py alice [URL]

Ctrl-C ends it.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import suppress

from sse_daemon.consumer import Resync, subscribe


async def main(participant: str, url: str = "http://127.0.0.1:8080/events") -> None:
    async with subscribe(url, participant) as stream:
        async for event in stream:
            if isinstance(event, Resync):
                print(f"-- a hole ({event.reason}): fetch the state anew; what follows is complete again", flush=True)
            else:
                print(event.id, event.type, event.data, flush=True)


if __name__ == "__main__":
    with suppress(KeyboardInterrupt):
        asyncio.run(main(*sys.argv[1:]))
