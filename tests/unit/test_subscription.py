from __future__ import annotations

from functools import cache
from itertools import product

from hypothesis import given, settings
from hypothesis import strategies as st

from sse_daemon.event import Event
from sse_daemon.subscription import EVERYTHING, Filter, Subscription, alternatives, narrowed

letters = st.text(st.sampled_from("ab.*\n"), max_size=6)
names = st.text(st.sampled_from("ab.\n*["), min_size=1, max_size=6)
held = st.one_of(letters, st.lists(letters, max_size=3).map(tuple))
attrs = st.dictionaries(st.sampled_from("xyz"), held, max_size=3).map(lambda d: tuple(d.items()))
events = st.builds(Event, st.just(1), st.just(("public",)), names, st.one_of(st.none(), names), attrs, st.just(b""))
patterns = st.lists(st.text(st.sampled_from("ab.*["), min_size=1, max_size=5), max_size=3).map(tuple)
wanted = st.lists(st.tuples(st.sampled_from("xyz"), st.lists(letters, min_size=1, max_size=3).map(tuple)), max_size=2).map(tuple)
filters = st.builds(Filter, patterns, patterns, wanted, st.one_of(st.none(), names))


def event(type: str = "message", topic: str | None = None, **attrs: str | tuple[str, ...]) -> Event:
    return Event(1, ("public",), type, topic, tuple(attrs.items()), b"")


# The rules as slowly and as plainly as they can be said.


@cache
def matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return matches(pattern[1:], text) or bool(text) and matches(pattern, text[1:])
    return bool(text) and text[0] == pattern[0] and matches(pattern[1:], text[1:])


def model(filter: Filter, event: Event) -> bool:
    conditions = []
    if filter.within is not None:
        conditions.append(event.topic == filter.within)
    if filter.types:
        conditions.append(any(matches(pattern, event.type) for pattern in filter.types))
    if filter.topics:
        conditions.append(event.topic is not None and any(matches(pattern, event.topic) for pattern in filter.topics))
    for name, any_of in filter.attrs:
        value = dict(event.attrs).get(name)
        values = [] if value is None else [value] if isinstance(value, str) else list(value)
        conditions.append(bool(set(values) & set(any_of)))
    return all(conditions)


@settings(max_examples=200)
@given(filters, events)
def test_a_filter_does_what_it_says(filter: Filter, event: Event) -> None:
    assert filter.passes(event) == model(filter, event)


def test_a_star_is_any_text() -> None:
    # All of them, for chance rarely finds where a pattern's two ends would have to overlap.
    texts = [event("".join(letters)) for size in range(6) for letters in product("ab", repeat=size)]
    for pattern in ("".join(letters) for size in range(1, 6) for letters in product("ab*", repeat=size)):
        filter = Filter(types=(pattern,))
        wrong = [text.type for text in texts if filter.passes(text) != matches(pattern, text.type)]
        assert not wrong, pattern


def test_or_within_a_condition_and_between() -> None:
    filter = Filter(types=("a", "b"), topics=("chat.*",), attrs=(("by", ("x", "y")),))
    assert filter.passes(event("b", "chat.42", by="y"))
    assert filter.passes(event("b", "chat.", by=("z", "x")))
    assert not filter.passes(event("c", "chat.42", by="y"))
    assert not filter.passes(event("b", "chat", by="y"))
    assert not filter.passes(event("b", None, by="y"))
    assert not filter.passes(event("b", "chat.42", by="z"))
    assert not filter.passes(event("b", "chat.42"))
    assert not filter.passes(event("b", "chat.42", by=()))


def test_attributes_and_the_routes_topic_are_no_patterns() -> None:
    assert not Filter(attrs=(("by", ("*",)),)).passes(event(by="x"))
    assert not Filter(within="*").passes(event(topic="x"))
    assert Filter(within="*").passes(event(topic="*"))


def test_signs_of_other_pattern_languages_mean_themselves() -> None:
    assert not Filter(types=("a.c",)).passes(event("abc"))
    assert not Filter(types=("a?", "[ab]")).passes(event("ab"))
    assert Filter(types=("a*\nb",)).passes(event("ax\nb"))


def test_no_pattern_takes_long() -> None:
    # Nothing is measured: with a matcher that backtracks, none of these ends while anybody waits.
    for literal in ("a", "aa", "", "ab"):
        assert not Filter(types=(f"*{literal}" * 60 + "*b",)).passes(event("a" * 200))


@given(st.lists(st.text(st.sampled_from("ab* "), max_size=3), max_size=5))
def test_alternatives_are_the_same_in_any_order(parts: list[str]) -> None:
    read = alternatives(",".join(parts))
    assert set(read) == set(parts) - {""}
    assert len(read) == len(set(read))
    assert alternatives(",".join(reversed(parts))) == alternatives(",".join([*parts, *parts])) == read


def test_no_condition_is_no_filter() -> None:
    assert narrowed(("a",), EVERYTHING) == narrowed(("a",), Filter()) == Subscription(("a",), None)
    assert narrowed(("a",), Filter(types=("x",))) == Subscription(("a",), Filter(types=("x",)))
    assert EVERYTHING.passes(event("anything"))
    # They are the keys under which encoded batches are shared.
    assert hash(Filter(types=("x",), attrs=(("a", ("b",)),))) == hash(Filter(types=("x",), attrs=(("a", ("b",)),)))
