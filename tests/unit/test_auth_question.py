"""What the application of mode "hook" is asked, and what its answers mean."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon import ed25519
from sse_daemon.auth import Asking, Message
from sse_daemon.auth_question import Answer, carries, digest, question, read
from sse_daemon.errors import RequestRefused
from sse_daemon.participant import canonical

TEXTS = st.text(st.characters(max_codepoint=255), max_size=4)
QUESTIONS = st.lists(st.tuples(TEXTS, TEXTS), max_size=3).map(tuple)


def asking(*headers: tuple[str, str], target: str = "/events", address: str = "192.0.2.1:5", method: str = "GET") -> Asking:
    path, _, query = target.partition("?")

    def header(name: str) -> list[str]:
        return [value for key, value in headers if key.lower() == name.lower()]

    return Asking(
        "X-Public-Key",
        "public_key",
        [],
        [],
        "required",
        "refuse",
        None,
        "127.0.0.1:1",
        address,
        Message(method, path, query, header),
    )


def test_only_what_is_listed_is_asked() -> None:
    headers = [("Host", "h:1"), ("COOKIE", "a=b"), ("Authorization", "Bearer x"), ("X-Other", "y")]
    assert question(asking(*headers, target="/events?a=b?c"), ("Cookie", "Authorization", "cookie", "X-Absent")) == (
        ("X-Forwarded-Method", "GET"),
        ("X-Forwarded-Uri", "/events?a=b?c"),
        ("X-Forwarded-For", "192.0.2.1"),
        ("X-Forwarded-Host", "h:1"),
        ("cookie", "a=b"),
        ("Authorization", "Bearer x"),
    )


@pytest.mark.parametrize(
    ("address", "told"), [("192.0.2.1:5", "192.0.2.1"), ("[2001:db8::1]:5", "2001:db8::1"), ("unix", "unix")]
)
def test_the_client_is_told_without_its_port(address: str, told: str) -> None:
    assert ("X-Forwarded-For", told) in question(asking(address=address), ())


@pytest.mark.parametrize("name", ["Cookie", "Host"])
def test_what_stands_twice_is_not_asked(name: str) -> None:
    with pytest.raises(RequestRefused) as caught:
        question(asking((name, "secret1"), (name, "secret2")), ("Cookie",))
    assert (caught.value.status, caught.value.code) == (400, "ambiguous_credentials")
    assert "secret" not in caught.value.detail


def test_whether_a_header_is_carried_is_not_a_matter_of_its_case() -> None:
    asked = question(asking(("Cookie", "")), ("COOKIE",))
    assert carries(asked, "Cookie") and not carries(asked, "Authorization")


@given(QUESTIONS, QUESTIONS)
def test_two_questions_have_two_digests(one: Any, other: Any) -> None:
    assert (digest(one) == digest(other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((("a", "b"),), (("ab", ""),)),
        ((("a", "1:b"),), (("a1:", "b"),)),
        ((("a", "b"), ("c", "d")), (("a", "b1:c1:d"),)),
        ((), (("", ""),)),
    ],
)
def test_texts_do_not_run_into_each_other(one: Any, other: Any) -> None:
    assert digest(one) != digest(other)


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (204, "", Answer(None, None, 60.0)),
        (200, "{}", Answer(None, None, 60.0)),
        (200, '{"participant":null,"max_age":5}', Answer(None, None, 5.0)),
        (200, ' {"max_age":5.5,"participant":"alice"} ', Answer(None, "alice", 5.5)),
        (200, '{"participant":"alice","max_age":61}', Answer(None, "alice", 60.0)),
        (200, '{"participant":"alice","max_age":1' + "0" * 400 + "}", Answer(None, "alice", 60.0)),
        (401, '{"participant":"alice"}', Answer(401, None, 0.0)),
        (403, "x", Answer(403, None, 0.0)),
        (404, "", Answer(404, None, 0.0)),
    ],
)
def test_what_is_understood(status: int, body: str, answer: Answer) -> None:
    assert read(status, body.encode(), canonical, 60.0) == answer


@given(
    st.binary()
    | st.text().map(str.encode)
    | st.recursive(st.none() | st.text() | st.integers(), st.lists).map(json.dumps).map(str.encode)
)
def test_anything_else_names_nobody(body: bytes) -> None:
    try:
        answer = read(200, body, canonical, 60.0)
    except ValueError as error:
        assert len(str(error)) < 60
    else:
        assert answer.participant is None


@given(st.text())
def test_a_participant_is_one_or_refused_without_being_repeated(name: str) -> None:
    body = json.dumps({"participant": name}).encode()
    try:
        expected = canonical(name)
    except Exception:  # noqa: BLE001
        with pytest.raises(ValueError, match="^a participant that is no key$"):
            read(200, body, canonical, 60.0)
    else:
        assert read(200, body, canonical, 60.0).participant == expected


def test_all_spellings_of_a_key_are_one_participant() -> None:
    text = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    spelled = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert read(200, json.dumps({"participant": spelled}).encode(), ed25519.canonical, 60.0).participant == text
