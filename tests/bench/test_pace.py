"""The pure layers are no slower than they were: each piece against its reference loop, and their ratio against the recorded one.

pytest-benchmark prints the table of times. What is judged is not taken from there: it times one function after another, and here
both must run in turns, and again if the machine was too busy.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.bench.baselines import BUILD, PYTHON, recorded
from tests.bench.measure import Comparison, Round, compare
from tests.bench.pieces import PIECES, Piece

LIMIT = 1.2
"""Times the recorded ratio. Between runs on one machine, idle or crowded, ratios differ by up to 6 %: so what became 30 % slower
is above this, and what did not is below."""
LIMIT_ELSEWHERE = 1.3
"""The same for another build of this version of Python, which may differ by itself."""
ATTEMPTS = (150, 300, 600, 1200)
"""Rounds. Noise only ever adds, and can be met again; what is really slower is so every time."""

RECORDED = recorded()


@pytest.mark.may_skip("there is no baseline for this version of Python")
@pytest.mark.parametrize("piece", PIECES, ids=lambda piece: piece.name)
def test_no_slower_than_recorded(piece: Piece, benchmark: Any) -> None:
    benchmark.group = piece.name.partition("_")[0]
    with piece.prepared() as run:
        benchmark.pedantic(run, rounds=50, warmup_rounds=5)
        if benchmark.disabled:  # by --benchmark-disable: it was run once, and works
            return
        if PYTHON not in RECORDED:
            found = compare(run, piece.reference, ATTEMPTS[0])
            pytest.skip(
                f"{piece.name}: no baseline for {PYTHON}: ratio {found.ratio:.3f}; python -m tests.bench.baselines records it"
            )
        build, ratios = RECORDED[PYTHON]
        baseline = ratios[piece.name]
        limit = baseline * (LIMIT if build == BUILD else LIMIT_ELSEWHERE)
        found = least(run, piece.reference, limit)
    benchmark.extra_info.update(ratio=found.ratio, baseline=baseline)
    assert found.ratio <= limit, (
        f"{piece.name} takes {found.seconds / piece.calls * 1e6:.2f} us a call, {found.ratio:.3f} times its reference loop; "
        f"recorded are {baseline:.3f} times, so it is {found.ratio / baseline - 1:.0%} slower"
    )


def least(run: Round, reference: Round, enough: float) -> Comparison:
    """The smallest ratio of the attempts, of which no more are made once one is `enough`."""
    found = compare(run, reference, ATTEMPTS[0])
    for rounds in ATTEMPTS[1:]:
        if found.ratio <= enough:
            break
        found = min(found, compare(run, reference, rounds), key=lambda comparison: comparison.ratio)
    return found


def test_every_recorded_piece_exists_and_every_piece_is_recorded() -> None:
    names = [piece.name for piece in PIECES]
    assert len(set(names)) == len(names)
    for python, (_, ratios) in RECORDED.items():
        assert sorted(ratios) == sorted(names), f"{python}: python -m tests.bench.baselines records it anew"
