from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from httpx_sse._decoders import SSELineDecoder
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.errors import NotAnEventStream
from sse_daemon.event_stream import Block, BlockDecoder, blocks


def decode(*texts: str) -> list[Block]:
    lines, decoder = SSELineDecoder(), BlockDecoder()
    fed = [decoder.feed(line) for text in texts for line in lines.decode(text)]
    fed += [decoder.feed(line) for line in lines.flush()]
    return [block for block in fed if block is not None]


def data(text: str | None, id: str | None = None) -> Block:
    return Block(id, "message", text, None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # What httpx-sse alone takes for events, see docs/decisions/0005-sse-parser.md.
        ("id: 5\n\n", [data(None, "5")]),
        ("retry: 1000\nid: 7\n\n", [Block("7", "message", None, 1000)]),
        ("id: 5\ndata: a\n\n: keepalive\n\n\n\n", [data("a", "5")]),
        ("event: x\n\n", [Block(None, "x", None, None)]),
        ("data:\n\n", [data("")]),
        ("data\n\n", [data("")]),
        ("data: a\n\ndata: b\nid: 6\n\ndata: c\n\n", [data("a"), data("b", "6"), data("c")]),
        # A block that is cut off is none, and its id does not count.
        ("data: a\nid: 6\n", []),
        ("data: a\nid: 6", []),
        ("id: 5\ndata: a\n\nid: 6\ndata: b\n", [data("a", "5")]),
        # Line ends are CR, LF and CRLF; nothing else is.
        ("data: a\r\ndata: b\r\rdata: c\n\r\n", [data("a\nb"), data("c")]),
        ("data: x\r\r", [data("x")]),
        ("data: a\u2028b\u0085c\x0bd\x0ce\x1cf\n\n", [data("a\u2028b\u0085c\x0bd\x0ce\x1cf")]),
        # Fields.
        ("data:  two\n\n", [data(" two")]),
        ("id\ndata: x\n\n", [data("x", "")]),
        ("retry: -5\nretry: x\ndata: x\n\n", [data("x")]),
        ("datas: x\nDATA: y\n\n", []),
    ],
)
def test_blocks(text: str, expected: list[Block]) -> None:
    assert decode(text) == expected
    assert decode(*text) == expected


FRAGMENTS = ["data: a", "data", "id: 1", "id", "event: e", "retry: 3", ": c", "\n", "\r", "\r\n", "\n\n", "\u2028", "x: y"]


@given(st.lists(st.sampled_from(FRAGMENTS)), st.data())
def test_borders_of_chunks_make_no_difference(fragments: list[str], draw: st.DataObject) -> None:
    text = "".join(fragments)
    cuts = sorted(draw.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[i:j] for i, j in zip([0, *cuts], [*cuts, len(text)], strict=True) if i < j]
    assert decode(*pieces) == by_the_book(text)


def by_the_book(text: str) -> list[Block]:
    """The WHATWG algorithm on the whole text, with this module's account of blocks."""
    lines = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")[:-1]
    found, fields = [], []
    for line in lines:
        name, _, value = line.partition(":")
        if line:
            fields += [(name, value.removeprefix(" "))] if name in ("data", "id", "event", "retry") else []
            continue
        if fields:
            of = {n: [v for m, v in fields if m == n] for n in ("data", "id", "event", "retry")}
            found.append(
                Block(
                    of["id"][-1] if of["id"] else None,
                    (of["event"] or [""])[-1] or "message",
                    "\n".join(of["data"]) if of["data"] else None,
                    next((int(v) for v in reversed(of["retry"]) if v.strip().isdigit()), None),
                )
            )
        fields = []
    return found


class Body(httpx.AsyncByteStream):
    def __init__(self, *chunks: bytes) -> None:
        self._chunks = chunks

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for chunk in self._chunks:
            yield chunk


async def read(*chunks: bytes, limit: int = 1000, kind: str = "text/event-stream") -> list[Block]:
    response = httpx.Response(200, headers={"Content-Type": kind}, stream=Body(*chunks))
    return [block async for block in blocks(response, limit)]


async def test_utf8_whatever_the_header_says_and_without_its_mark() -> None:
    text = "\ufeffdata: \u00fc\U0001f600\n\n".encode()
    for kind in ("text/event-stream", "text/event-stream; charset=latin-1"):
        assert await read(text, kind=kind) == [data("\u00fc\U0001f600")]
        assert await read(*(bytes([b]) for b in text), kind=kind) == [data("\u00fc\U0001f600")]


async def test_large_events_pass_and_endless_ones_do_not() -> None:
    large = b"data: " + b"x" * 1_000_000 + b"\n\n"
    pieces = [large[i : i + 1000] for i in range(0, len(large), 1000)]
    assert await read(*pieces, limit=1_100_000) == [data("x" * 1_000_000)]
    assert len(await read(*pieces * 3, limit=1_100_000)) == 3
    with pytest.raises(NotAnEventStream):
        await read(*pieces, limit=900_000)
    with pytest.raises(NotAnEventStream):
        await read(*[b"data: x\n"] * 1000)
    assert await read(*[b": comment\n\n"] * 1000) == []
