"""The data of a measured event, and finding it again in what a subscriber received, however that was cut. Pure.

    @@sse-bench@@ 0000000012345678901.000000042.xxxxx
    mark          ns, when it was due   its number  padding        (without the spaces)

The mark is long, because bytes.count skips by its length, and has no line end, because almost every read ends with one: then nothing
of a mark can be cut, and nothing needs to be carried over to the next read.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

MARK: Final = b"@@sse-bench@@"
_NS = slice(len(MARK), len(MARK) + 19)
_NUMBER = slice(_NS.stop + 1, _NS.stop + 10)
LENGTH: Final = _NUMBER.stop + 1
"""Bytes of a payload without padding."""


def payload(due: int, number: int, size: int) -> bytes:
    """`size` bytes (LENGTH at least). due: nanoseconds of the monotonic clock."""
    return b"%s%019d.%09d." % (MARK, due, number) + b"x" * (size - LENGTH)


class Cut:
    """The end of a read, in which a mark or a payload may have been cut; what follows is looked at together with it."""

    __slots__ = ("_kept",)

    def __init__(self) -> None:
        self._kept = b""

    def across(self, data: bytearray, n: int) -> int:
        """How many marks begin in an earlier read and end in this one, `data[:n]`; keeps what may be cut at this one's end."""
        most = len(MARK) - 1
        found = (self._kept + data[: min(n, most)]).count(MARK) if self._kept else 0
        self._kept = bytes(self._kept + data[max(0, n - most) : n])[-most:]
        return found

    def joined(self, data: bytes) -> bytes:
        """Everything that is whole, of what was kept and `data`; the rest is kept: from a mark whose payload is not whole."""
        data = self._kept + data
        begin = data.rfind(MARK)
        if begin >= 0 and len(data) - begin < LENGTH:
            self._kept = data[begin:]
        else:
            self._kept = data[len(data) - tail(data) :]
        return data[: len(data) - len(self._kept)]


def tail(data: bytes) -> int:
    """How many bytes at the end of `data` may be the beginning of a mark."""
    return next((n for n in range(min(len(MARK) - 1, len(data)), 0, -1) if MARK.startswith(data[-n:])), 0)


def found(data: bytes) -> Iterator[tuple[int, int]]:
    """(due, number) of every payload in `data`, which has none that is cut."""
    at = data.find(MARK)
    while at >= 0:
        head = data[at : at + LENGTH]
        yield int(head[_NS]), int(head[_NUMBER])
        at = data.find(MARK, at + LENGTH)


def last_id(data: bytes) -> str | None:
    """The id of the last complete `id:` line in `data`."""
    at = data.rfind(b"id: ", 0, max(0, data.rfind(b"\n")))
    return data[at + 4 :].split(b"\n", 1)[0].strip().decode("ascii") if at >= 0 else None
