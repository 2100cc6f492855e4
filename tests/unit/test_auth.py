from __future__ import annotations

from typing import Any

import pytest

from sse_daemon.auth import Asking, Grant, Message, channels, claimed_key
from sse_daemon.auth_claim import Claim
from sse_daemon.errors import RequestRefused
from sse_daemon.participant import canonical

MESSAGE = Message("GET", "/events", "", lambda name: ())


def asking(**changes: Any) -> Asking:
    plain = Asking(
        "X-Public-Key",
        "public_key",
        [],
        [],
        participant="required",
        anonymous="refuse",
        topic=None,
        peer="",
        address="",
        message=MESSAGE,
    )
    return plain._replace(**changes)


async def refused(asking: Asking) -> tuple[int, str]:
    with pytest.raises(RequestRefused) as caught:
        await Claim(canonical, False).admit(asking)
    for sent in (*asking.header_keys, *asking.query_keys):
        assert len(sent) < 3 or sent not in caught.value.detail
    return caught.value.status, caught.value.code


async def test_a_participant_reads_its_own_channel_and_the_public_one() -> None:
    assert await Claim(canonical, False).admit(asking(header_keys=["alice"])) == Grant(
        "alice", ("participant/alice", "public"), None
    )
    assert await Claim(canonical, False).admit(asking(query_keys=["bob"])) == Grant("bob", ("participant/bob", "public"), None)


async def test_on_a_route_with_a_topic_only_that_topics_public_events() -> None:
    granted = await Claim(canonical, False).admit(asking(header_keys=["alice"], topic="chat.42"))
    assert granted.channels == ("participant/alice", "topic/chat.42")
    granted = await Claim(canonical, False).admit(asking(participant="none", topic="chat.42"))
    assert granted.channels == ("topic/chat.42",)


async def test_the_header_wins() -> None:
    granted = await Claim(canonical, False).admit(asking(header_keys=["alice"], query_keys=["bob"]))
    assert granted.participant == "alice"
    assert "participant/bob" not in granted.channels


@pytest.mark.parametrize("values", [["a", "b"], ["a", "a"], ["", "a"], ["a", "b", "c"]])
@pytest.mark.parametrize("place", ["header_keys", "query_keys"])
async def test_two_values_of_either_are_refused(place: str, values: list[str]) -> None:
    assert await refused(asking(**{place: values})) == (400, "ambiguous_participant")
    # Also of the one that would lose.
    other = {"header_keys": ["alice"], "query_keys": ["alice"]} | {place: values}
    assert await refused(asking(**other)) == (400, "ambiguous_participant")


@pytest.mark.parametrize("key", ["", "*", "with space", "line\nend", "é", "k" * 257])
@pytest.mark.parametrize("place", ["header_keys", "query_keys"])
async def test_what_is_no_key_is_refused_on_every_route_that_looks(place: str, key: str) -> None:
    for route in ("required", "optional"):
        for anonymous in ("refuse", "public"):
            asked = asking(participant=route, anonymous=anonymous, **{place: [key]})
            assert await refused(asked) == (400, "bad_participant")


@pytest.mark.parametrize(
    ("participant", "anonymous", "admitted"),
    [
        ("required", "refuse", False),
        ("required", "public", True),
        ("optional", "refuse", True),
        ("optional", "public", True),
        ("none", "refuse", True),
        ("none", "public", True),
    ],
)
async def test_who_may_come_without_a_key(participant: str, anonymous: str, admitted: bool) -> None:
    asked = asking(participant=participant, anonymous=anonymous)
    if admitted:
        assert await Claim(canonical, False).admit(asked) == Grant(None, ("public",), None)
    else:
        assert await refused(asked) == (401, "participant_required")


async def test_who_names_no_key_is_told_where_this_route_looks_for_one() -> None:
    asked = asking(header="X-Chat-Key", query="chat_key")
    with pytest.raises(RequestRefused, match="the header X-Chat-Key or the parameter chat_key"):
        await Claim(canonical, False).admit(asked)


async def test_a_route_without_participants_does_not_even_look() -> None:
    asked = asking(participant="none", header_keys=["alice", "bob"], query_keys=["*"])
    assert await Claim(canonical, False).admit(asked) == Grant(None, ("public",), None)


def test_a_key_is_claimed_once_or_not_at_all() -> None:
    assert claimed_key(asking(), canonical) is None
    assert claimed_key(asking(query_keys=["bob"]), canonical) == "bob"


def test_nobody_reads_a_channel_of_somebody_else() -> None:
    assert channels(None, None) == ("public",)
    assert channels("public", None) == ("participant/public", "public")
    assert channels(None, "t") == ("topic/t",)
