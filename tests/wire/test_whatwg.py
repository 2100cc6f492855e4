"""The parser that judges the daemon, against the examples and rules of the standard that it is written after."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.wire.whatwg import Message, Parser, parse


def message(data: str, type: str = "message", id: str = "") -> Message:
    return Message(type, data, id)


@pytest.mark.parametrize(
    ("body", "messages"),
    [
        # The examples of the standard itself.
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [message("YHOO\n+2\n10")]),
        (
            b": test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third event\n\n",
            [message("first event", id="1"), message("second event"), message(" third event")],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [message(""), message("\n")]),
        (b"data:test\n\ndata: test\n\n", [message("test"), message("test")]),
        # Line ends: each of the three, and no other.
        (b"data: a\r\rdata: b\r\n\r\ndata: c\n\n", [message("a"), message("b"), message("c")]),
        (b"data: a\r\ndata: b\n\r\n", [message("a\nb")]),
        ("data: a\u2028b\u0085c\x0bd\x0ce\n\n".encode(), [message("a\u2028b\u0085c\x0bd\x0ce")]),
        # A byte order mark: one, at the beginning.
        (b"\xef\xbb\xbfdata: a\n\n", [message("a")]),
        (b"\xef\xbb\xbf\xef\xbb\xbfdata: a\n\n", []),
        (b"data: a\n\n\xef\xbb\xbfdata: b\n\n", [message("a")]),
        # Malformed UTF-8 is replaced.
        (b"data: \xff\xc3\n\n", [message("\ufffd\ufffd")]),
        # Fields.
        (b"event: x\ndata: a\n\ndata: b\n\n", [message("a", "x"), message("b")]),
        (b"event: x\nevent\ndata: a\n\n", [message("a")]),
        (b"event: x\n\ndata: a\n\n", [message("a")]),
        (b"Data: a\n data: b\ndata : c\nfoo: d\ndata: e\n\n", [message("e")]),
        (b"data: a:b\ndata::c\n\n", [message("a:b\n:c")]),
        (b"data:\ta\n\n", [message("\ta")]),
        (b"id: 7\n\ndata: a\n\n", [message("a", id="7")]),
        (b"id: 7\nid: 8\0\ndata: a\n\n", [message("a", id="7")]),
        (b"id: 7\ndata: a\n\nid:\ndata: b\n\n", [message("a", id="7"), message("b")]),
        (b"data: a\0b\n\n", [message("a\0b")]),
        # The end of the file discards what is pending.
        (b"data: a\n", []),
        (b"data: a", []),
    ],
)
def test_examples_and_rules(body: bytes, messages: list[Message]) -> None:
    assert parse(body) == messages
    assert parse(bytes([byte]) for byte in body) == messages


@pytest.mark.parametrize(
    ("line", "retry"),
    [("retry: 10", 10), ("retry:007", 7), ("retry: 1x", None), ("retry:", None), ("retry:  1", None), ("retry: -1", None)],
)
def test_retry_is_ascii_digits_only(line: str, retry: int | None) -> None:
    parser = Parser()
    parser.feed(f"{line}\n".encode())
    assert parser.retry == retry


def test_retry_in_other_digits_is_ignored() -> None:
    parser = Parser()
    parser.feed("retry: \u0661\n".encode())
    assert (parser.retry, parser.ignored) == (None, ["retry"])


def test_what_a_browser_does_not_show_can_be_seen() -> None:
    parser = Parser(last_event_id="5")
    assert parser.feed(b": keepalive\n\nid: 6\n") == []
    assert (parser.comments, parser.last_event_id, parser.pending) == ([" keepalive"], "5", False)
    assert parser.feed(b"\ndata: a") == []
    assert (parser.last_event_id, parser.pending) == ("6", True)


@given(st.text(st.sampled_from("\r\n\ufeff\0 :adteinv1\u2028é😀"), max_size=60), st.lists(st.integers(0, 120), max_size=8))
def test_parts_make_no_difference(text: str, cuts: list[int]) -> None:
    body = text.encode()
    places = sorted({min(cut, len(body)) for cut in cuts} | {0, len(body)})
    parts = [body[a:b] for a, b in pairwise(places)]
    assert parse(parts) == parse(body)
