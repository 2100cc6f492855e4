from __future__ import annotations

import gc
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.errors import InvalidCursor
from sse_daemon.event import PUBLIC, Cursor, Draft, Event, participant_channel, placed, topic_channel
from tests.fuzz.cursors import check_parse

incarnations = st.text("0123456789abcdef", min_size=12, max_size=12)


@given(incarnations, st.integers(0, 10**18 - 1))
def test_a_cursor_survives_its_way_to_the_client_and_back(incarnation: str, position: int) -> None:
    cursor = Cursor(incarnation, position)
    text = str(cursor)
    assert Cursor.parse(text) == cursor
    assert len(text) <= 64
    assert set(text) <= set(string.hexdigits + "-")


@given(st.text(st.sampled_from("0123456789abcdefABC-+_ \n\0\u0661"), max_size=70))
def test_whatever_is_read_as_a_cursor_is_spelled_so(text: str) -> None:
    check_parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "-",
        "0123456789ab",
        "0123456789ab-",
        "0123456789a-1",
        "0123456789abc-1",
        "0123456789AB-1",
        "0123456789ab-01",
        "0123456789ab-00",
        "0123456789ab--1",
        "0123456789ab-+1",
        "0123456789ab-1_0",
        "0123456789ab-1 ",
        " 0123456789ab-1",
        "0123456789ab-1\n",
        "0123456789ab-\u0661",
        "0123456789ab-1000000000000000000",
        "0123456789ab-" + "9" * 60,
        "0123456789ab-1-1",
        "x" * 1_000_000,
    ],
)
def test_there_is_one_form(text: str) -> None:
    with pytest.raises(InvalidCursor) as caught:
        Cursor.parse(text)
    # The text came from a client and the message may reach a log.
    assert str(caught.value) == "not a cursor of this daemon"


@given(st.text(min_size=1), st.text(min_size=1))
def test_channels_of_different_kinds_never_meet(key: str, topic: str) -> None:
    # Also not for a participant called `public`, or a topic called `participant/x`.
    assert len({participant_channel(key), topic_channel(topic), PUBLIC}) == 3


@given(st.text(), st.text())
def test_channels_of_different_names_never_meet(one: str, other: str) -> None:
    assert (participant_channel(one) == participant_channel(other)) == (one == other)
    assert (topic_channel(one) == topic_channel(other)) == (one == other)


def test_an_event_is_its_draft_with_a_place() -> None:
    draft = Draft(("participant/a", "public"), "t", "chat.1", (("k", ("v", "w")),), b"x", 5.0, True, "run", 7)
    event = placed(draft, 9)
    assert event == Event(9, draft.channels, draft.type, draft.topic, draft.attrs, draft.data, draft.expires)
    with pytest.raises(AttributeError):
        event.data = b"y"  # type: ignore[misc]


def test_as_plain_tuples_events_are_no_work_for_the_collector() -> None:
    plain = tuple(placed(Draft(("public",), "t", None, (("k", "v"),), b"x"), 9))
    gc.collect()
    assert not gc.is_tracked(plain)
