"""What is searched: for each kind of input its check, which takes bytes, and the seeds that a search begins with.

Inputs are plain enough to be written by hand, so that a finding can be read: the seeds are Python literals, one a line.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TypeAlias

_WORD = re.compile(rb"[A-Za-z][A-Za-z0-9_.-]{1,30}")

Check: TypeAlias = Callable[[bytes], bool]
"""True: the input is accepted, False: refused; AssertionError, or anything else that is raised: found."""

SEEDS = Path(__file__).with_name("seeds")
NAMES = ("message", "key", "cursor", "head", "frame", "signature")
FRAME_END = b"\x1e"
"""Between the frames of a message: a character that no header may have as it is."""


def check_of(name: str) -> Check:
    """The check of a target, or of any function given as "module:function". What it tests is imported here and not before."""
    module, colon, function = name.partition(":")
    if colon:
        return getattr(import_module(module), function)  # type: ignore[no-any-return]
    if name not in NAMES:
        raise LookupError(f"{name!r} is none of {', '.join(NAMES)}")
    return globals()[name]  # type: ignore[no-any-return]


def seeds_of(name: str) -> list[bytes]:
    """What the search of a target begins with; nothing for a function of one's own."""
    path = SEEDS / f"{name}.txt"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [ast.literal_eval(line) for line in lines if line and not line.startswith("#")]


def message(data: bytes) -> bool:
    """A producer's message: its frames, FRAME_END between them."""
    from tests.fuzz.messages import check_message

    return check_message(data.split(FRAME_END))


def key(data: bytes) -> bool:
    """A participant's key as it may come in a header."""
    from tests.fuzz.keys import check_bytes

    return check_bytes(data)


def cursor(data: bytes) -> bool:
    """Lines with the values of Last-Event-ID, last_event_id and lastEventId, several with commas between them."""
    from tests.fuzz.cursors import check_bytes

    return check_bytes(data)


def head(data: bytes) -> bool:
    """What a client sends before it waits for an answer."""
    from tests.fuzz.heads import check_head

    return check_head(_doors(), data)


def frame(data: bytes) -> bool:
    """The data of an event, and in its first line the type."""
    from tests.fuzz.frames import check_text

    return check_text(data)


def signature(data: bytes) -> bool:
    """A signed request: lines with its two headers, its method, host, target, key, and its cursor if it has one."""
    from tests.fuzz.signatures import check_bytes

    return check_bytes(data)


@cache
def _doors():  # type: ignore[no-untyped-def]
    from tests.fuzz.heads import Doors

    return Doors()


def write_seeds(name: str, folder: Path) -> None:
    """A file for each seed, as libFuzzer wants them."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(name)):
        (folder / f"seed-{number:03}").write_bytes(seed)


def write_words(name: str, path: Path) -> None:
    """The words of the seeds, as libFuzzer wants them: so that it need not spell out the names of headers letter by letter."""
    words = {word for seed in seeds_of(name) for word in _WORD.findall(seed)}
    path.write_text("".join(f'"{word.decode()}"\n' for word in sorted(words)))


def literal(data: bytes) -> str:
    """An input as it stands in a seed file or in a unit test."""
    return repr(data)
