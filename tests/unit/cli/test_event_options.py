"""An event on the command line: its options, and where its data comes from."""

from __future__ import annotations

import io
import sys
from typing import Any

import click
import pytest

from sse_daemon.cli.event_options import attributes, content, lines, members, recipients
from sse_daemon.cli.faults import Failed


def given(**options: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"to": (), "group": None, "type_": None, "topic": None, "attrs": (), "retain": False, "ttl": None}
    return members(**{**nothing, **options})


def test_only_what_was_given_is_in_the_header() -> None:
    assert given(to=("a", "b")) == {"to": ["a", "b"]}
    assert given(group="g") == {"group": "g"}
    everything = given(to=("a",), group="g", type_="t", topic="c", attrs=("x=1",), retain=True, ttl=2.0)
    assert everything == {"to": ["a"], "group": "g", "type": "t", "topic": "c", "attrs": {"x": "1"}, "retain": True, "ttl": 2.0}


def test_a_wrong_value_is_the_daemons_to_refuse() -> None:
    assert given(to=("a",), type_="", ttl=0.0) == {"to": ["a"], "type": "", "ttl": 0.0}


def test_everybody_is_a_star_alone() -> None:
    assert recipients(("*",), None) == "*"
    for to, group in ((("*", "a"), None), (("*",), "g")):
        with pytest.raises(click.UsageError, match="stands alone"):
            recipients(to, group)


def test_an_event_for_nobody_is_a_slip() -> None:
    with pytest.raises(click.UsageError, match="for nobody"):
        recipients((), None)


def test_a_repeated_attribute_is_a_list() -> None:
    assert attributes(("a=1", "b=x=y", "a=2", "c=")) == {"a": ["1", "2"], "b": "x=y", "c": ""}


@pytest.mark.parametrize("pair", ["a", "=1", ""])
def test_an_attribute_has_a_name_and_a_value(pair: str) -> None:
    with pytest.raises(click.UsageError, match="NAME=VALUE"):
        attributes((pair,))


def feed(monkeypatch: pytest.MonkeyPatch, raw: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(raw)))


def test_the_data_is_the_argument_or_nothing() -> None:
    assert content("grüße") == "grüße"
    assert content(None) == ""


def test_standard_input_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"one\r\n\ntwo\xc3\xbc\n")
    assert content("-") == "one\r\n\ntwoü\n"


def test_lines_lose_their_ends_and_empty_ones_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"one\r\n\n\ntwo\nthree")
    assert list(lines()) == ["one", "two", "three"]


def test_what_is_not_utf8_is_told_with_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    feed(monkeypatch, b"one\nt\xff\n")
    taken = lines()
    assert next(taken) == "one"
    with pytest.raises(Failed, match="line 2 of standard input is not UTF-8 at byte 1"):
        next(taken)
    with pytest.raises(Failed, match="DATA is not UTF-8 at byte 0"):
        content("\udcff")  # how Python hands over an argument of other bytes


def test_a_closed_standard_input_is_no_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    with pytest.raises(Failed, match="closed"):
        content("-")
