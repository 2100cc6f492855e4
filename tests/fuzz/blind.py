"""`python -m tests.fuzz.blind TARGET SECONDS FOLDER`: one search without coverage, where there is no atheris (Hypothesis).

It tries seeds that were cut, joined and overwritten. What it finds is made small by Hypothesis and written to FOLDER.
"""

from __future__ import annotations

import sys
import time
import traceback
from collections.abc import Sequence
from hashlib import sha1
from pathlib import Path

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from tests.fuzz.targets import Check, check_of, seeds_of

BATCH = 200
"""Examples between two looks at the clock."""


def inputs(seeds: Sequence[bytes]) -> st.SearchStrategy[bytes]:
    """Any bytes, and seeds in which something is replaced by a part of another seed or by any bytes."""
    some = st.binary(max_size=64)
    if not seeds:
        return some
    seed = st.sampled_from(seeds)
    place = st.integers(0, max(map(len, seeds)))
    part = st.builds(lambda whole, start, length: whole[start : start + length], seed, place, place)
    torn = st.builds(
        lambda whole, start, skipped, new: whole[:start] + new + whole[start + skipped :],
        seed,
        place,
        st.integers(0, 8),
        st.one_of(part, st.binary(max_size=8)),
    )
    return st.one_of(some, seed, torn, st.builds(bytes.__add__, torn, part))


class Found(Exception):
    """The check failed for `data`."""

    def __init__(self, data: bytes, cause: BaseException) -> None:
        super().__init__(repr(data))
        self.data = data
        self.cause = cause


def search(check: Check, seeds: Sequence[bytes], seconds: float) -> tuple[int, Found | None]:
    """How many inputs were tried, and the small one that was found, if any."""
    tried = 0

    @settings(
        max_examples=BATCH,
        deadline=None,
        database=None,
        derandomize=False,  # Hypothesis has it otherwise where CI is set: every batch would be the same one again
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @given(inputs(seeds))
    def attempt(data: bytes) -> None:
        nonlocal tried
        tried += 1
        try:
            check(data)
        except Exception as error:
            raise Found(data, error) from error

    end = time.monotonic() + seconds
    while True:
        try:
            attempt()
        except Found as found:
            return tried, found
        if time.monotonic() >= end:
            return tried, None


def main() -> int:
    """Status 1 if something was found."""
    name, seconds, folder = sys.argv[1:]
    check, seeds = check_of(name), seeds_of(name)
    tried, found = search(check, seeds, float(seconds))
    print(f"#{tried} DONE without coverage", file=sys.stderr)
    if found is None:
        return 0
    traceback.print_exception(found.cause)
    path = Path(folder) / f"crash-{sha1(found.data, usedforsecurity=False).hexdigest()}"
    path.write_bytes(found.data)
    return 1


if __name__ == "__main__":
    sys.exit(main())
