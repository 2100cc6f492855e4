"""The loops that everything is measured against: plain Python of the same kind as a layer, which never changes.

Each does, without the layer's care, about what the layer does, so that another CPU or another build of Python moves both alike.
A baseline is a ratio to one of these: whoever changes a loop makes all baselines anew.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Mapping
from heapq import merge
from operator import itemgetter
from typing import Any, NamedTuple

import ujson

HEAD = b'{"to":["alice","bob"],"type":"chat.new","topic":"chat.42","from":"api/1","n":17}\n{"sid":"m1","body":"hello"}'
KNOWN = frozenset({"to", "type", "topic", "from", "n"})


class Parts(NamedTuple):
    """Something made for each frame, like a message."""

    to: tuple[str, ...]
    type: str
    topic: str | None
    origin: tuple[str, int]
    data: bytes


class Place:
    """Something with slots that is looked up, written to and asked, like a channel or a stream."""

    __slots__ = ("count", "entries", "name", "sink", "state")

    def __init__(self, name: str, sink: Callable[[bytes], int] = len) -> None:
        self.name = name
        self.entries: list[tuple[int, str, bytes]] = []
        self.count = 0
        self.state = "live"
        self.sink = sink

    def add(self, entry: tuple[int, str, bytes]) -> None:
        self.entries.append(entry)
        self.count += 1

    def write(self, buffer: bytes, now: float) -> bool:
        if self.state != "live":
            return False
        self.count += self.sink(buffer)
        return True


def parsing() -> None:
    """JSON, decoding, members of a dictionary, checks in small functions, a tuple: like `envelope`."""
    for _ in range(50):
        head, _, data = HEAD.partition(b"\n")
        header = ujson.loads(head.decode())
        if not header.keys() <= KNOWN:
            raise ValueError
        get = header.get
        to = tuple(dict.fromkeys(map(_text, get("to"))))
        Parts(to, _text(get("type")), _text(get("topic")), _origin(header), data)


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError
    if len(value) > 200:
        raise ValueError
    return value


def _origin(header: Mapping[str, Any]) -> tuple[str, int]:
    n = header["n"]
    if type(n) is not int or n < 1:
        raise ValueError
    return _text(header["from"]), n


def refusing() -> None:
    """The same, and an exception through three functions: like what a bad message meets."""
    for _ in range(50):
        header = ujson.loads(HEAD.partition(b"\n")[0].decode())
        try:
            _refused(header)
        except LookupError as error:
            str(error)


def _refused(header: Mapping[str, Any]) -> None:
    try:
        _text(header["n"])
    except ValueError:
        raise LookupError("n", "is no text") from None


def formatting() -> None:
    """Text and bytes put together and taken apart by small functions: like `sse` and `event`."""
    for number in range(100):
        block = _lines(HEAD, "chat.new", f"0123456789ab-{number}")
        frame = b"%x\r\n%b\r\n" % (len(block), block)
        frame.index(b"\r\n")


def _lines(data: bytes, type: str, id: str) -> bytes:
    text = f"id: {id}\n"
    if type != "message":
        text += f"event: {type}\n"
    return b"%bdata: %b\n\n" % (text.encode(), data)


def indexing() -> None:
    """Dictionaries of objects with lists of tuples, bisection, slices: like `window`."""
    places: dict[str, Place] = {}
    for number in range(100):
        name = NAMES[number % 10]
        place = places.get(name) or places.setdefault(name, Place(name))
        place.add((number, place.name, HEAD))
    for number in range(100):
        entries = places[NAMES[number % 10]].entries
        low = bisect_right(entries, number, key=_number)
        entries[low : low + 5]


def merging() -> None:
    """Two sorted lists made one: like reading several channels."""
    for _ in range(3):
        merged = []
        for entry in merge(EVEN, ODD, key=_first):
            if entry[0] > 100:
                break
            merged.append(entry)


def spreading() -> None:
    """One thing entered in many places: like an event for many, or a sweep of many channels."""
    places: dict[str, Place] = {}
    plan: dict[Place, list[str]] = {}
    for number in range(30):
        chosen = [places.get(name) or places.setdefault(name, Place(name)) for name in NAMES]
        entry = (number, "|".join([place.name for place in chosen]), HEAD)
        for place in chosen:
            place.add(entry)
            plan.setdefault(place, []).append(place.name)


def _number(entry: tuple[int, str, bytes]) -> int:
    return entry[0]


def serving() -> None:
    """A method called on each of many objects, which calls another: like `hub` and `stream`."""
    plan = dict.fromkeys(PLACES, "key")
    memo = {"key": HEAD}
    while plan:
        place, key = plan.popitem()
        if place.write(memo[key], 0.0):
            place.state = "live"


_first = itemgetter(0)

EVEN = [(number, "even", HEAD) for number in range(0, 1000, 2)]
ODD = [(number, "odd", HEAD) for number in range(1, 1000, 2)]
NAMES = [f"participant/{number}" for number in range(10)]
PLACES = [Place(f"participant/{number}") for number in range(300)]
