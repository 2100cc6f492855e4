"""The measure itself: it sees what became slower, and nothing where nothing did."""

from __future__ import annotations

import pytest

from tests.bench import reference
from tests.bench.measure import Round, compare
from tests.bench.test_pace import LIMIT

LOOPS = (reference.parsing, reference.formatting, reference.indexing, reference.serving)


def times(count: int, run: Round) -> Round:
    """So many rounds as one."""

    def rounds() -> None:
        for _ in range(count):
            run()

    return rounds


@pytest.mark.parametrize("loop", LOOPS, ids=lambda loop: loop.__name__)
def test_thirty_percent_are_seen_and_none_are_not(loop: Round) -> None:
    ten = times(10, loop)
    assert compare(times(13, loop), ten, 50).ratio > LIMIT
    assert compare(times(10, loop), ten, 50).ratio < LIMIT
