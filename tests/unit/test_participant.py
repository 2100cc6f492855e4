from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.errors import InvalidParticipant
from sse_daemon.participant import MAX_LENGTH, canonical, short
from tests.fuzz.keys import PRINTABLE, check_opaque, is_key

keys = st.text(PRINTABLE, min_size=1, max_size=MAX_LENGTH).filter(lambda key: key != "*")


@given(keys)
def test_a_key_is_its_own_canonical_form(key: str) -> None:
    assert canonical(key) == key


@given(st.one_of(st.text(), st.text(PRINTABLE + " \t\n\0\x7f\x80é*"), st.text("ab", min_size=250, max_size=262)))
def test_what_is_a_key(text: str) -> None:
    assert check_opaque(text) == is_key(text)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "empty"),
        ("*", "everybody"),
        ("a" * 257, "at most 256"),
        ("a b", "printable ASCII"),
        ("a\n", "printable ASCII"),
        (" a", "printable ASCII"),
        ("é", "printable ASCII"),
        ("a\x7f", "printable ASCII"),
    ],
)
def test_the_reason_is_said(text: str, why: str) -> None:
    with pytest.raises(InvalidParticipant, match=why):
        canonical(text)


def test_case_and_stars_count() -> None:
    assert canonical("Alice") != canonical("alice")
    assert canonical("**") == "**"


@given(keys)
def test_a_short_form_fits_a_log_line_and_does_not_give_a_long_key_away(key: str) -> None:
    assert len(short(key)) <= 13
    if len(key) <= 12:
        assert short(key) == key
    else:
        assert key not in short(key)
        assert short(key).startswith(key[:8])
