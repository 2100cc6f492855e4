from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sse_daemon.directory import Directory
from sse_daemon.errors import Refusal
from sse_daemon.event import Draft, Group, Topic

EVENT = Draft(("public",), "message", None, (), b"")

names = st.sampled_from("abcde")
items = st.one_of(
    st.builds(Group, names, st.sampled_from([(), ("x",), ("x", "y")])), st.builds(Topic, names, st.booleans()), st.just(EVENT)
)


def test_it_begins_with_what_the_log_remembers_and_keeps_its_own() -> None:
    groups = {"g": ("a",)}
    directory = Directory(groups, {"t"}, max_groups=9, max_topics=9)
    directory.apply(Group("g", ()))
    directory.apply(Topic("t", False))
    assert (directory.groups, directory.topics, groups) == ({}, set(), {"g": ("a",)})


def test_the_last_word_is_in_force() -> None:
    directory = Directory({}, (), max_groups=9, max_topics=9)
    for item in (Group("g", ("a",)), Group("g", ("b", "c")), Topic("t", True), Topic("u", True), Topic("t", False)):
        directory.apply(item)
    assert (directory.groups, directory.topics) == ({"g": ("b", "c")}, {"u"})


def test_removing_what_is_not_there_changes_nothing() -> None:
    directory = Directory({}, (), max_groups=0, max_topics=0)
    for item in (Group("g", ()), Topic("t", False)):
        directory.check_room((item,))
        directory.apply(item)
    assert (directory.groups, directory.topics) == ({}, set())


@pytest.mark.parametrize(
    ("record", "code", "index"),
    [
        ((EVENT, Group("new", ("a",))), "groups_full", 1),
        ((Group("g", ("a",)), Topic("new", True)), "topics_full", 1),
        ((Group("g", ("a",)), Topic("t", True), Topic("t", False), Group("new", ()), EVENT), None, None),
    ],
)
def test_a_full_table_takes_only_what_it_holds(record: tuple[Group | Topic | Draft, ...], code: str | None, index: int) -> None:
    directory = Directory({"g": ("a",)}, {"t"}, max_groups=1, max_topics=1)
    if code is None:
        directory.check_room(record)
        return
    with pytest.raises(Refusal) as caught:
        directory.check_room(record)
    assert (caught.value.code, caught.value.index) == (code, index)


def test_what_one_record_sets_twice_needs_one_place() -> None:
    directory = Directory({}, (), max_groups=1, max_topics=1)
    directory.check_room((Group("g", ("a",)), Group("g", ("b",)), Topic("t", True), Topic("t", True)))


@given(st.lists(st.lists(items, max_size=4).map(tuple), max_size=12), st.integers(0, 3), st.integers(0, 3))
def test_checked_records_never_exceed_the_bounds(
    records: list[tuple[Draft | Group | Topic, ...]], groups: int, topics: int
) -> None:
    directory = Directory({}, (), max_groups=groups, max_topics=topics)
    for record in records:
        before = dict(directory.groups), set(directory.topics)
        try:
            directory.check_room(record)
        except Refusal:
            assert (directory.groups, directory.topics) == before  # looking changes nothing
            continue
        for item in record:
            if not isinstance(item, Draft):
                directory.apply(item)
        assert len(directory.groups) <= groups
        assert len(directory.topics) <= topics
        assert all(directory.groups.values())
