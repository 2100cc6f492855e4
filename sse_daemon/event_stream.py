"""From the body of an HTTP answer to the blocks of an event stream, by httpx-sse's decoders (docs/decisions/0005-sse-parser.md).

The format: https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import NamedTuple, cast

import httpx
from httpx_sse import ServerSentEvent
from httpx_sse._decoders import SSEDecoder, SSELineDecoder

from sse_daemon.errors import NotAnEventStream

_FIELDS = frozenset({"id", "event", "data", "retry"})


class Block(NamedTuple):
    """One complete block, ended by its empty line.

    id: None if the block has none, "" if it resets the position. data: None if the block has no data field: then it is no
    event, however many other fields it has. retry: milliseconds, or None.
    """

    id: str | None
    type: str
    data: str | None
    retry: int | None


class BlockDecoder:
    """Lines to blocks. `size`: characters of the block that has begun; a block that is cut off never comes out."""

    def __init__(self) -> None:
        self._decoder = SSEDecoder()
        self._seen: set[str] = set()
        self.size = 0

    def feed(self, line: str) -> Block | None:
        """Takes a line without its end; an empty line completes the block, if it has any field."""
        if line:
            self.size += len(line)
            # httpx-sse gives an event for every empty line once it has seen an id, and does not say whether there was data.
            self._seen.update(_FIELDS & {line.partition(":")[0]})
            self._decoder.decode(line)
            return None
        seen, self._seen, self.size = self._seen, set(), 0
        event = self._decoder.decode("") or ServerSentEvent()  # none: all that the block has is empty, say an id
        if not seen:
            return None
        return Block(
            event.id if "id" in seen else None,
            event.event,
            event.data if "data" in seen else None,
            event.retry if event.retry is None or event.retry >= 0 else None,
        )


async def blocks(response: httpx.Response, limit: int) -> AsyncGenerator[Block, None]:
    """The blocks of a streamed answer, as they arrive.

    limit: characters that one block may have. Raises NotAnEventStream beyond; httpx.TransportError as reading the body does.
    """
    # Always UTF-8, whatever the header says, and a byte order mark at the start is none of the data (WHATWG, "parsing").
    response.encoding = "utf-8-sig"
    lines, decoder = SSELineDecoder(), BlockDecoder()
    unfinished = 0
    async with aclosing(cast("AsyncGenerator[str, None]", response.aiter_text())) as texts:
        async for text in texts:
            complete = lines.decode(text)
            unfinished = 0 if complete else unfinished + len(text)  # what follows the last line end counts with the next chunk
            for line in complete:
                if (block := decoder.feed(line)) is not None:
                    yield block
                _check_size(decoder.size, limit)
            _check_size(decoder.size + unfinished, limit)
    for line in lines.flush():  # the last line end may be a CR of which nobody knew yet whether an LF follows
        if (block := decoder.feed(line)) is not None:
            yield block


def _check_size(size: int, limit: int) -> None:
    if size > limit:
        raise NotAnEventStream(f"a block of more than {limit} characters")
