"""Every check over the seeds of its target, without a search: what a search begins with must hold, and must be worth beginning with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz.run import guidedly
from tests.fuzz.targets import NAMES, SEEDS, check_of, literal, seeds_of


@pytest.mark.parametrize("name", NAMES)
def test_every_seed_is_accepted_or_refused(name: str) -> None:
    check, seeds = check_of(name), seeds_of(name)
    outcomes = [check(seed) for seed in seeds]
    # One kind alone would leave half of what is searched out of the reach of a search that starts here.
    assert outcomes.count(True) >= 3 and outcomes.count(False) >= 3


def test_seeds_are_as_the_documents_write_them_and_none_stands_twice() -> None:
    assert {path.stem for path in SEEDS.iterdir()} == set(NAMES)
    for name in NAMES:
        assert len(set(seeds_of(name))) == len(seeds_of(name)), name


def test_a_target_that_is_none() -> None:
    with pytest.raises(LookupError, match="message, key"):
        check_of("other")
    assert seeds_of("other:one") == []


def test_a_search_begins_with_the_seeds_and_their_words(tmp_path: Path) -> None:
    command = guidedly("head", 2.4, tmp_path / "head", tmp_path)
    assert sorted(path.read_bytes() for path in (tmp_path / "head").iterdir()) == sorted(seeds_of("head"))
    words = (tmp_path / "head.words").read_text().splitlines()
    assert {'"X-Public-Key"', '"last_event_id"', '"Transfer-Encoding"'} <= set(words)
    assert {f"-dict={tmp_path / 'head.words'}", "-max_total_time=2", str(tmp_path / "head")} <= set(command)


def test_an_input_is_shown_as_a_seed_is_written() -> None:
    assert literal(b"\0\xff'") == 'b"\\x00\\xff\'"'
