"""The recorded ratios: read for the tests, and made anew by `python -m tests.bench.baselines`.

Made anew: every piece is measured in several fresh processes, one after the other, because a process keeps some luck for its whole
life (where its objects lie, how its strings hash); the median goes into baselines.toml, below the version of Python that ran it.
"""

from __future__ import annotations

import json
import platform
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from statistics import median
from typing import NamedTuple

from tests.bench.measure import compare
from tests.bench.pieces import PIECES

FILE = Path(__file__).with_name("baselines.toml")
PYTHON = f"{platform.python_implementation()}-{sys.version_info.major}.{sys.version_info.minor}"
"""What a ratio depends on and the reference loops do not cancel: interpreters differ in what they made fast."""
BUILD = f"{platform.python_version()}, {platform.python_compiler()}, {platform.machine()}"
"""What it depends on a little: with another compiler's Python of the same version, ratios differed by up to 11 %."""
PROCESSES = 7
ROUNDS = 300

HEAD = """\
# Seconds of a piece of pieces.py divided by seconds of its reference loop, by version of Python.
# Written by `python -m tests.bench.baselines`; README.md says when.
"""


class Table(NamedTuple):
    """What was recorded with one version of Python. ratios: by piece."""

    build: str
    ratios: Mapping[str, float]


def recorded() -> Mapping[str, Table]:
    """The tables of the file, by version of Python."""
    tables = tomllib.loads(FILE.read_text()) if FILE.exists() else {}
    return {python: Table(table.pop("build"), table) for python, table in tables.items()}


def measured() -> dict[str, float]:
    """The ratio of every piece, measured in this process."""
    ratios = {}
    for piece in PIECES:
        with piece.prepared() as run:
            ratios[piece.name] = compare(run, piece.reference, ROUNDS).ratio
    return ratios


def remeasured() -> dict[str, float]:
    """The median ratio of every piece over several processes."""
    command = [sys.executable, "-m", __spec__.name if __spec__ else __name__, "--one"]
    runs = []
    for number in range(1, PROCESSES + 1):
        print(f"process {number} of {PROCESSES}", file=sys.stderr)
        runs.append(json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout))
    return {piece.name: median(run[piece.name] for run in runs) for piece in PIECES}


def record(ratios: Mapping[str, float]) -> None:
    """Writes `ratios` for this Python; those of other versions stay."""
    tables = {**recorded(), PYTHON: Table(BUILD, ratios)}
    parts = [HEAD]
    for python, table in sorted(tables.items()):
        lines = [f"{name} = {ratio:.3f}" for name, ratio in table.ratios.items()]
        parts.append("\n".join([f'["{python}"]', f'build = "{table.build}"', *lines, ""]))
    FILE.write_text("\n".join(parts))


def main() -> None:
    """Measures and records, and says what moved."""
    if sys.argv[1:] == ["--one"]:
        json.dump(measured(), sys.stdout)
        return
    before = recorded()[PYTHON].ratios if PYTHON in recorded() else {}
    ratios = remeasured()
    record(ratios)
    for name, ratio in ratios.items():
        change = f"{ratio / before[name] - 1:+7.1%}" if name in before else "    new"
        print(f"{name:45} {ratio:7.3f} {change}")


if __name__ == "__main__":
    main()
