"""The site behind Pushpin: it answers every request with "hold this as a stream of the channel that it names". A script: `PORT`."""

from __future__ import annotations

import asyncio
import sys

from tornado.web import Application, RequestHandler


class Hold(RequestHandler):
    """The GRIP headers (Pushpin's protocol with its origin) that open a stream."""

    def get(self) -> None:
        """`id` is the channel."""
        self.set_header("Content-Type", "text/event-stream")
        self.set_header("Grip-Hold", "stream")
        self.set_header("Grip-Channel", self.get_query_argument("id"))


async def main(port: int) -> None:
    """Serves until it is killed."""
    Application([("/sub", Hold)]).listen(port, "127.0.0.1", backlog=4096)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
