"""Payloads found again, however the stream was cut into reads."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.bench.payload import LENGTH, MARK, Cut, found, last_id, payload


def stream(count: int) -> bytes:
    """What a subscriber gets of so many events."""
    return b"".join(b"id: %d\ndata: %s\n\n" % (number, payload(number * 7, number, 60)) for number in range(count))


def cuts(data: bytes, places: list[int]) -> list[bytes]:
    """The data in pieces, cut at these places."""
    ends = sorted({place % (len(data) + 1) for place in places} | {len(data)} - {0})
    return [data[begin:end] for begin, end in zip([0, *ends], ends, strict=False) if begin < end]


@pytest.mark.parametrize("size", [LENGTH, 100, 2000])
def test_a_payload_has_the_size_that_was_asked_for_and_one_mark(size: int) -> None:
    data = payload(123, 4, size)
    assert len(data) == size
    assert data.count(MARK) == 1
    assert list(found(data)) == [(123, 4)]


def test_a_payload_needs_no_escaping_anywhere() -> None:
    assert not set(payload(1, 2, 200)) & set(b"\"\\\r\n<>&{}'")


def test_large_times_and_numbers_fit() -> None:
    assert list(found(payload(9_000_000_000_000_000_000, 999_999_999, 100))) == [(9_000_000_000_000_000_000, 999_999_999)]


@given(st.integers(1, 5), st.lists(st.integers(0, 10_000), max_size=20))
def test_marks_are_counted_once_however_they_are_cut(count: int, places: list[int]) -> None:
    cut, total = Cut(), 0
    for piece in cuts(stream(count), places):
        total += piece.count(MARK) + cut.across(bytearray(piece), len(piece))
    assert total == count


@given(st.integers(1, 5), st.lists(st.integers(0, 10_000), max_size=20))
def test_payloads_are_read_once_and_in_order_however_they_are_cut(count: int, places: list[int]) -> None:
    cut, read = Cut(), []
    for piece in cuts(stream(count), places):
        read += found(cut.joined(piece))
    assert read == [(number * 7, number) for number in range(count)]


def test_every_single_byte_may_be_a_read_of_its_own() -> None:
    data, counting, reading = stream(3), Cut(), Cut()
    pieces = [data[place : place + 1] for place in range(len(data))]
    assert sum(counting.across(bytearray(piece), 1) for piece in pieces) == 3
    assert [number for piece in pieces for _, number in found(reading.joined(piece))] == [0, 1, 2]


def test_only_the_read_part_of_the_buffer_counts() -> None:
    cut = Cut()
    buffer = bytearray(MARK[:5] + MARK)
    assert cut.across(buffer, 5) == 0
    assert cut.across(bytearray(MARK[5:] + b"x" * 100), len(MARK) - 5) == 1


@pytest.mark.parametrize(
    ("data", "id"),
    [
        (b"id: a-1\ndata: x\n\nid: a-2\ndata: y\n\n", "a-2"),
        (b"8\r\nid: a-7\n\r\n", "a-7"),
        (b"id: a-1\n\nid: a-2", "a-1"),
        (b"data: x\n\n", None),
        (b"", None),
    ],
)
def test_the_last_whole_id_is_the_cursor(data: bytes, id: str | None) -> None:
    assert last_id(data) == id
