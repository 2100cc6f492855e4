"""One stream and its batches: what a full socket leaves, and which states follow which."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.stream import TRANSITIONS, Batch, Gone, Profile, State, Stream, Wire
from sse_daemon.subscription import Subscription

WIRE = Wire(True, False, "0" * 12)


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    with ours, theirs:
        yield ours, theirs


def stream_on(sock: socket.socket, opening: bytes = b"") -> Stream:
    profile = Profile("c", "k", "/events", "test", 0.0, Subscription(("public",)), WIRE, False, None)
    return Stream(sock, profile, opening, 0, 0, 0.0)


@given(sizes=st.lists(st.integers(1, 50), min_size=1, max_size=20), part=st.floats(0, 1))
def test_a_cut_write_leaves_the_rest_of_one_frame_and_the_cursor_of_the_frame_it_is_in(sizes: list[int], part: float) -> None:
    frames = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    positions = [10 + 3 * i for i in range(len(sizes))]
    batch = Batch(7, positions, frames)
    sent = int(part * len(batch.buffer))
    begun, position, rest = batch.cut(sent)
    assert batch.buffer[:sent] + bytes(rest) == b"".join(frames[:begun])
    assert position == ([7, *positions])[begun]
    assert len(rest) < max(sizes)


def test_states_follow_the_table_and_nothing_else(pair: tuple[socket.socket, socket.socket]) -> None:
    for before, after in product(State, State):
        stream = stream_on(pair[0])
        stream.state = before
        if after in TRANSITIONS[before]:
            stream.enter(after)
            assert stream.state is after
        else:
            with pytest.raises(ValueError, match="cannot become"):
                stream.enter(after)
            assert stream.state is before


def test_every_state_can_be_reached_and_all_end_closed() -> None:
    reached = {State.BEHIND}
    while more := {after for state in reached for after in TRANSITIONS[state]} - reached:
        reached |= more
    assert reached == set(State)
    assert all(State.CLOSED in TRANSITIONS[state] for state in State if state is not State.CLOSED)
    assert not TRANSITIONS[State.CLOSED]


def test_a_full_socket_keeps_the_rest_and_flush_sends_it(pair: tuple[socket.socket, socket.socket]) -> None:
    ours, theirs = pair
    opening = b"x" * 5_000_000
    stream = stream_on(ours, opening)
    got = bytearray()
    assert not stream.flush(1.0)
    assert 0 < len(stream.rest) < len(opening) and stream.progress == 1.0
    while not stream.flush(2.0):
        got += theirs.recv(1 << 20)
    while len(got) < len(opening):
        got += theirs.recv(1 << 20)
    assert bytes(got) == opening and stream.progress == 2.0


def test_progress_is_made_only_by_bytes_that_the_socket_took(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = stream_on(pair[0], b"x" * 5_000_000)
    stream.flush(1.0)
    assert not stream.flush(2.0)
    assert stream.progress == 1.0


def test_a_write_to_a_client_that_is_gone_says_so(pair: tuple[socket.socket, socket.socket]) -> None:
    pair[1].close()
    with pytest.raises(Gone):
        stream_on(pair[0]).write(Batch(0, [1], [b"frame"]), 1.0)


def test_input_is_counted_and_its_end_told(pair: tuple[socket.socket, socket.socket]) -> None:
    stream = stream_on(pair[0])
    assert stream.discard_input() == 0
    pair[1].send(b"abc")
    assert stream.discard_input() == 3
    pair[1].close()
    assert stream.discard_input() == -1
