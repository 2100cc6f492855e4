from __future__ import annotations

import json
import math
import os
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.envelope import Bounds, Parsed, Unresolved, parse
from sse_daemon.errors import PublishError, PublishRefused
from sse_daemon.event import Draft, Group, Topic
from sse_daemon.publishing import RETRYABLE, Control, Envelope, Retries, Run, parse_answer


def parsed(*items: Envelope | Control) -> list[Parsed]:
    """What the daemon reads in the items: the format has one definition, sse_daemon.envelope."""
    return list(parse(Run("test").number(items), Bounds()))


def test_daemon_reads_every_member_of_an_envelope() -> None:
    envelope = Envelope(
        "x", to=["a", "b"], group="g", type="t", topic="chat.1", attrs={"k": "v", "l": ("1", "2")}, retain=True, ttl=1.5
    )
    run = Run("chat-api")
    (message,) = parse(run.number([envelope]), Bounds())
    channels = ("participant/a", "participant/b")
    attrs = (("k", "v"), ("l", ("1", "2")))
    assert message == Unresolved(Draft(channels, "t", "chat.1", attrs, b"x", None, True, run.sender, 1), "g", 1.5)


@pytest.mark.parametrize(
    ("data", "wire"),
    [
        ('{"sid": 1}', b'{"sid": 1}'),
        ("", b""),
        ("{\n}\n", b"{\n}\n"),
        (b"\xc3\xbc/", b"\xc3\xbc/"),
        ({"b": "ü/\u2028", "a": [1, None]}, '{"b":"ü/\u2028","a":[1,null]}'.encode()),
        (None, b"null"),
        (0, b"0"),
    ],
)
def test_text_travels_unchanged_and_json_compactly(data: object, wire: bytes) -> None:
    (message,) = parsed(Envelope(data, to="*"))
    assert isinstance(message, Draft)
    assert (message.data, message.channels) == (wire, ("public",))


@given(st.text(st.characters(codec="utf-8", exclude_characters="\r")))
def test_any_text_reaches_the_daemon(text: str) -> None:
    (message,) = parsed(Envelope(text, to="*"))
    assert isinstance(message, Draft)
    assert message.data.decode() == text


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"data": "x"}, ValueError),
        ({"data": "x", "to": []}, ValueError),
        ({"data": "x", "to": "alice"}, TypeError),
        ({"data": "x", "to": "*", "type": "bye"}, ValueError),
        ({"data": b"\xff", "to": "*"}, ValueError),
        ({"data": "\ud800", "to": "*"}, ValueError),
        ({"data": math.nan, "to": "*"}, ValueError),
        ({"data": object(), "to": "*"}, TypeError),
        ({"data": "x", "to": "*", "topic": "\ud800"}, ValueError),
        ({"data": "x", "to": ["a b"]}, ValueError),
        ({"data": "x", "to": ["a", "*"]}, ValueError),
        ({"data": "x", "to": [""]}, ValueError),
        ({"data": "x", "to": ["a" * 257]}, ValueError),
        ({"data": "x", "to": [1]}, ValueError),
        ({"data": "x", "to": "*", "ttl": -1}, ValueError),
        ({"data": "x", "to": "*", "ttl": "5"}, ValueError),
        ({"data": "x", "to": "*", "ttl": math.nan}, ValueError),
        ({"data": "x", "to": "*", "topic": ""}, ValueError),
        ({"data": "x", "to": "*", "type": "a\nb"}, ValueError),
        ({"data": "x", "group": "g" * 201}, ValueError),
        ({"data": "x", "to": "*", "attrs": {"a": "x" * 257}}, ValueError),
    ],
)
def test_what_no_daemon_takes_is_refused_at_birth(arguments: dict[str, object], error: type[Exception]) -> None:
    with pytest.raises(error):
        Envelope(**arguments)  # type: ignore[arg-type]


def test_controls() -> None:
    run = Run("test")
    items = parse(run.number([Control.group("g", ["a"]), Control.group("g", []), Control.topic("t", False)]), Bounds())
    assert items == (
        Group("g", ("a",), run.sender, 1),
        Group("g", (), run.sender, 2),
        Topic("t", False, run.sender, 3),
    )
    with pytest.raises(TypeError):
        Control.group("g", "alice")


def test_numbers_count_up_and_a_failure_costs_none() -> None:
    run = Run("api")
    assert [json.loads(frame.split(b"\n")[0])["n"] for frame in run.number([Envelope(i, to="*") for i in range(3)])] == [1, 2, 3]
    with pytest.raises(ValueError):
        run.number([Envelope(1, to="*"), Control.topic("\ud800", True)])
    assert json.loads(run.number([Control.topic("t", True)])[0])["n"] == 4


def test_every_run_has_its_own_name() -> None:
    assert Run("api").sender != Run("api").sender
    assert Run("api").sender.startswith("api/")
    for name in ("", "a\nb", "x" * 151):
        with pytest.raises(ValueError):
            Run(name)


def test_forked_child_is_refused() -> None:
    run = Run("api")
    child = os.fork()
    if child == 0:
        try:
            run.number([Envelope(1, to="*")])
        except PublishError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    assert run.number([Envelope(1, to="*")])


def test_answers() -> None:
    assert parse_answer([b"1", b'{"ok":true,"ids":["a","b"]}']) == (b"1", ["a", "b"])
    parsed = parse_answer([b"1", b'{"ok":false,"code":"too_old","detail":"d","index":2}'])
    assert parsed is not None
    refusal = parsed[1]
    assert isinstance(refusal, PublishRefused)
    assert (refusal.code, refusal.detail, refusal.index) == ("too_old", "d", 2)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b"\xff", b'{"ok":true,"ids":[1]}', b'{"ok":true}', b'{"ok":false}'])
def test_unreadable_answer_ends_its_request(body: bytes) -> None:
    parsed = parse_answer([b"1", body])
    assert parsed is not None
    assert type(parsed[1]) is PublishError


@pytest.mark.parametrize("frames", [[], [b"1"], [b"", b"1", b"{}"]])
def test_what_is_no_answer(frames: list[bytes]) -> None:
    assert parse_answer(frames) is None


def test_waits_grow_to_their_bounds() -> None:
    random.seed(1)
    retries = Retries(1.0)
    assert 1.0 <= retries.after_send(True) <= 1.5
    assert 2.0 <= retries.after_send(True) <= 3.0
    assert [retries.after_send(False) for _ in range(10)][-1] == 0.25
    refusals = [retries.after_refusal(PublishRefused(code, "")) for code in sorted(RETRYABLE) * 3]
    assert refusals[0] < 0.1
    assert 2.0 <= refusals[-1] <= 3.0


@pytest.mark.parametrize("error", [PublishRefused("too_large", ""), PublishError("unreadable")])
def test_final_refusal_is_raised(error: PublishError) -> None:
    with pytest.raises(PublishError) as raised:
        Retries(1.0).after_refusal(error)
    assert raised.value is error
