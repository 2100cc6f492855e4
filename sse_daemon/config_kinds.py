"""The kinds of values that a configuration has: what each accepts, and what to say about anything else.

A kind's `read` takes what TOML (or a caller) gives and returns the value that the daemon works with, or raises ValueError with
one line: what is wrong; what would be right. `parse` makes of an environment variable's text what TOML would have given; it
never fails, because what it cannot parse is left as text for `read` to complain about.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Protocol, TypeAlias

from attrs import field, frozen

from sse_daemon.address import listen_address, path_complaint, zmq_address
from sse_daemon.buckets import shared
from sse_daemon.gate import host_complaint

Complaint: TypeAlias = Callable[[str], "str | None"]
"""What is wrong with a text, or None."""

MAX_SECONDS = 1e8
"""Three years. Longer than any client, log or socket is meant to wait; `inf` would make a bound into none."""
MAX_BYTES = 1 << 50
MAX_COUNT = 10**9


def shown(value: object) -> str:
    """`value` as it stands in a mistake: one line, escaped, shortened."""
    text = str(value).lower() if isinstance(value, bool) else repr(value)
    return text if len(text) <= 80 else f"{text[:60]}...{text[-16:]}"


class Conflict(NamedTuple):
    """Values that do not go together. keys: the one to name, then the others; message: what is wrong; what would be right."""

    keys: tuple[str, ...]
    message: str


class Conflicts(ValueError):
    """A table's values are valid each, but not together. `found`: every conflict."""

    def __init__(self, found: Iterable[Conflict]) -> None:
        self.found = tuple(found)
        super().__init__("\n".join(f"{conflict.keys[0]}: {conflict.message}" for conflict in self.found))


def refuse(found: Iterable[Conflict]) -> None:
    """Raises Conflicts if there is any."""
    conflicts = Conflicts(found)
    if conflicts.found:
        raise conflicts


class Kind(Protocol):
    """One kind of value; see the module."""

    @property
    def right(self) -> str:
        """What would be right, as it stands at the end of a mistake."""

    def read(self, value: object) -> Any:
        """The value, valid. Raises ValueError."""

    def parse(self, text: str) -> object:
        """What TOML would have given for `text`."""


@frozen
class Whole:
    """A whole number, `least` .. `most`."""

    unit: str
    least: int
    most: int

    @property
    def right(self) -> str:
        return f"{self.unit}, {self.least} to {self.most}"

    def read(self, value: object) -> int:
        # TOML's true is Python's 1.
        if isinstance(value, bool) or not isinstance(value, int):
            raise ValueError(f"{shown(value)} is no whole number; {self.right}")
        if not self.least <= value <= self.most:
            raise ValueError(f"{value} is out of range; {self.right}")
        return value

    def parse(self, text: str) -> object:
        try:
            return int(text)
        except ValueError:
            return text


@frozen
class Decimal:
    """A finite number, `least` .. `most`, or above `least` where zero has no meaning."""

    unit: str
    least: float
    most: float
    above: bool = False

    @property
    def right(self) -> str:
        return f"{self.unit}, {'above ' if self.above else ''}{self.least:g} to {self.most:.12g}"

    def read(self, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ValueError(f"{shown(value)} is no number; {self.right}")
        # In this order also `nan` is refused, which compares false with everything.
        if not self.least <= value <= self.most or (self.above and value == self.least):
            raise ValueError(f"{value} is out of range; {self.right}")
        return float(value)

    def parse(self, text: str) -> object:
        try:
            return float(text)
        except ValueError:
            return text


@frozen
class Word:
    """One of a few words."""

    words: tuple[str, ...]

    @property
    def right(self) -> str:
        return ("one of " if len(self.words) > 1 else "") + ", ".join(f'"{word}"' for word in self.words)

    def read(self, value: object) -> str:
        if isinstance(value, str) and value in self.words:
            return value
        raise ValueError(f"{shown(value)} is not known; {self.right}")

    def parse(self, text: str) -> object:
        return text


@frozen
class Switch:
    """The words on and off; true and false mean the same."""

    right: str = '"on" or "off"'

    def read(self, value: object) -> bool:
        if isinstance(value, bool):
            return value
        if value in ("on", "off"):
            return value == "on"
        raise ValueError(f"{shown(value)} is not known; {self.right}")

    def parse(self, text: str) -> object:
        return text


@frozen
class Text:
    """A text that `complaint` finds nothing wrong with."""

    right: str
    complaint: Complaint

    def read(self, value: object) -> str:
        wrong = self.complaint(value) if isinstance(value, str) else f"{shown(value)} is no text"
        if wrong is not None:
            raise ValueError(f"{wrong}; {self.right}")
        return str(value)

    def parse(self, text: str) -> object:
        return text


@frozen
class Or:
    """Another kind, or one word in its place."""

    word: str
    kind: Kind

    @property
    def right(self) -> str:
        return f'{self.kind.right}, or "{self.word}"'

    def read(self, value: object) -> Any:
        if value == self.word:
            return value
        if isinstance(value, str):
            raise ValueError(f"{shown(value)} is not known; {self.right}")
        return self.kind.read(value)

    def parse(self, text: str) -> object:
        return self.kind.parse(text)


@frozen
class Maybe:
    """Another kind, or nothing, which is the default and cannot be written down."""

    kind: Kind

    @property
    def right(self) -> str:
        return self.kind.right

    def read(self, value: object) -> Any:
        return None if value is None else self.kind.read(value)

    def parse(self, text: str) -> object:
        return self.kind.parse(text)


@frozen
class Texts:
    """A list of texts; in the environment comma separated, or as a TOML array."""

    text: Text

    @property
    def right(self) -> str:
        return f"a list, each {self.text.right}"

    def read(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list | tuple):
            raise ValueError(f"{shown(value)} is no list; {self.right}")
        wrong = [self._wrong(item) for item in value]
        if any(wrong):
            raise ValueError(f"{', '.join(filter(None, wrong))}; {self.right}")
        return tuple(value)

    def _wrong(self, item: object) -> str | None:
        return self.text.complaint(item) if isinstance(item, str) else f"{shown(item)} is no text"

    def parse(self, text: str) -> object:
        try:
            return tomllib.loads(f"list = {text}")["list"]
        except tomllib.TOMLDecodeError:
            # Not "it begins with [": so does the address [::1]:8080.
            return [part.strip() for part in text.split(",") if part.strip()]


@frozen
class Pairs:
    """A table of texts, each name and each value without complaint."""

    right: str
    name: Complaint
    value: Complaint

    def read(self, value: object) -> Mapping[str, str]:
        if not isinstance(value, Mapping):
            raise ValueError(f"{shown(value)} is no table; {self.right}")
        wrong = [complaint for pair in value.items() for complaint in self._wrong(*pair)]
        if wrong:
            raise ValueError(f"{', '.join(wrong)}; {self.right}")
        return MappingProxyType(dict(value))

    def _wrong(self, name: object, value: object) -> list[str]:
        pairs = ((self.name, name), (self.value, value))
        found = [check(text) if isinstance(text, str) else f"{shown(text)} is no text" for check, text in pairs]
        return [complaint for complaint in found if complaint]

    def parse(self, text: str) -> object:
        return text


def setting(kind: Kind, default: Any, *, hashed: bool | None = None) -> Any:
    """A field of a table: its default, and its kind, which every value goes through, the default too."""
    return field(default=default, converter=kind.read, metadata={"kind": kind}, hash=hashed)


def seconds(least: float = 0.0, above: bool = False) -> Decimal:
    """A duration."""
    return Decimal("seconds", least, MAX_SECONDS, above)


def rate() -> Decimal:
    """So many a second; 0 is no limit."""
    return Decimal("a number a second", 0.0, 1e6)


def size(least: int = 0, most: int = MAX_BYTES) -> Whole:
    """A number of bytes."""
    return Whole("bytes", least, most)


def count(least: int = 0) -> Whole:
    """A number of things."""
    return Whole("a number", least, MAX_COUNT)


def complaint_of(parse: Callable[[str], object]) -> Complaint:
    """`parse`, which raises ValueError, as a complaint."""

    def complaint(text: str) -> str | None:
        try:
            parse(text)
        except ValueError as error:
            return str(error)
        return None

    return complaint


LISTEN = Texts(Text('"host:port", "[::1]:port" or "unix:/path"', complaint_of(listen_address)))
ZMQ = Texts(Text('"tcp://host:port" or "ipc:///path"', complaint_of(zmq_address)))
SOCKET = Text("an absolute path", path_complaint)


def file_complaint(text: str) -> str | None:
    """What makes `text` no absolute path."""
    return None if text.startswith("/") and "\0" not in text else f"{shown(text)} is no absolute path"


KEY_FILE = Text("the absolute path of a key's file", file_complaint)
KEY_FOLDER = Text("the absolute path of a folder of public keys", file_complaint)


def origin_complaint(text: str) -> str | None:
    """What makes `text` an origin that no browser sends; see RFC 6454 section 6.2 for the form that they do send."""
    if text in ("*", "null"):
        return f"{shown(text)} would let any page read streams"
    match = re.fullmatch(r"([a-z][a-z0-9+.-]*)://([a-z0-9._-]+|\[[0-9a-f:]+\])(?::([1-9][0-9]{0,4}))?", text)
    if match is None:
        return f"{shown(text)} is no origin in the form that browsers send"
    if (match[1], match[3]) in (("http", "80"), ("https", "443")):
        return f"{shown(text)} names the port that browsers leave out"
    return None


SHARED = Texts(Text('an address, a network such as "10.0.0.0/8", or "unix"', complaint_of(shared)))


def proxy_complaint(text: str) -> str | None:
    """What makes `text` no peer that could be believed."""
    wrong = complaint_of(shared)(text)
    if wrong is None and getattr(shared(text), "prefixlen", None) == 0:
        return f"{shown(text)} is everybody"
    return wrong


PROXIES = Texts(Text('an address, a network such as "10.0.0.0/30", or "unix"', proxy_complaint))
HOSTS = Texts(Text('"host" or "host:port" as in clients\' URLs, in lower case', host_complaint))
ORIGINS = Texts(Text('"scheme://host" or "scheme://host:port", in lower case, without path', origin_complaint))


def entry_point_complaint(text: str) -> str | None:
    """What makes `text` no name that an installed package gives to something of its own."""
    return None if re.fullmatch(r"\w[\w.-]*", text, re.ASCII) else f"{shown(text)} is no such name"


ENTRY_POINT = Text("a name of letters, digits, dots and dashes", entry_point_complaint)


def url_complaint(text: str) -> str | None:
    """What makes `text` no backend's URL. It is not repeated: it may hold a password."""
    return None if re.match(r"[a-z][a-z0-9+.-]*://", text) else "it has no scheme"


URL = Text('such as "memory://" or "sqlite:///var/lib/sse-daemon/log.db"', url_complaint)


def claim_complaint(text: str) -> str | None:
    """What makes `text` no name, address or value of a token's claim."""
    return None if re.fullmatch(r"[\x21-\x7e]{1,200}", text) else f"{shown(text)} is not that"


CLAIM = Text("1 to 200 printable ASCII characters without spaces", claim_complaint)


def state_complaint(text: str) -> str | None:
    """What makes `text` no place for what has to outlive the daemon."""
    if text == "memory" or (text.startswith("/") and "\0" not in text):
        return None
    return f"{shown(text)} is no absolute path"


STATE = Text('the absolute path of a folder, or "memory"', state_complaint)
