"""An event-stream parser that shares nothing with the daemon: what a browser makes of the bytes.

Written after the WHATWG HTML standard, 9.2.5 "Parsing an event stream" and 9.2.6 "Interpreting an event stream"
(https://html.spec.whatwg.org/multipage/server-sent-events.html). The rule stands in quotes beside the lines that obey it.

    parse(body) -> [Message(type, data, id), ...]
    parser = Parser(); parser.feed(part) -> the messages that this part completed; parser.last_event_id, .retry, .comments
"""

from __future__ import annotations

import codecs
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

_DIGITS = re.compile(r"[0-9]+", re.ASCII)


class Message(NamedTuple):
    """A dispatched MessageEvent. id: its `lastEventId`, which an earlier block may have set."""

    type: str
    data: str
    id: str


class Parser:
    """One event source's reading of one response body, in parts of any size.

    last_event_id: what a reconnecting client would send as Last-Event-ID; retry: the reconnection time in milliseconds, once one
    was sent. comments, ignored: comment lines and field names that a browser throws away, for tests to look at.
    """

    def __init__(self, last_event_id: str = "") -> None:
        self.last_event_id = last_event_id
        self.retry: int | None = None
        self.comments: list[str] = []
        self.ignored: list[str] = []
        self._lines = _Lines()
        self._data: list[str] = []  # each with the LF that is appended to it
        self._type = ""
        self._id = last_event_id

    def feed(self, part: bytes) -> list[Message]:
        """The messages that are complete with this part of the body."""
        return [message for line in self._lines.feed(part) if (message := self._line(line)) is not None]

    @property
    def pending(self) -> bool:
        """True if a block, or a line, has begun and has not ended: "any pending data must be discarded" at the end of the file."""
        return bool(self._data or self._type or self._lines.pending)

    def _line(self, line: str) -> Message | None:
        if line == "":  # "If the line is empty (a blank line): Dispatch the event"
            return self._dispatch()
        if line.startswith(":"):  # "If the line starts with a U+003A COLON character (:): Ignore the line."
            self.comments.append(line[1:])
            return None
        # With a colon: the field is before the first one, the value behind it. Without: the whole line, and the empty string.
        field, _, value = line.partition(":")
        # "If value starts with a U+0020 SPACE character, remove it from value." One space, and no other character.
        self._field(field, value.removeprefix(" "))
        return None

    def _field(self, field: str, value: str) -> None:
        # "Field names must be compared literally, with no case folding performed."
        if field == "event":
            self._type = value
        elif field == "data":
            self._data.append(value + "\n")
        elif field == "id" and "\0" not in value:  # "If the field value does not contain U+0000 NULL ... Otherwise, ignore"
            self._id = value
        elif field == "retry" and _DIGITS.fullmatch(value):  # "consists of only ASCII digits", read in base ten
            self.retry = int(value)
        else:
            self.ignored.append(field)

    def _dispatch(self) -> Message | None:
        # The id takes effect even in a block without data, and its buffer is never reset.
        self.last_event_id = self._id
        data, type = "".join(self._data), self._type
        self._data, self._type = [], ""
        if data == "":  # "If the data buffer is an empty string, set [both] to the empty string and return."
            return None
        # "If the data buffer's last character is a U+000A LINE FEED, then remove the last character": one of them.
        return Message(type or "message", data.removesuffix("\n"), self.last_event_id)


class _Lines:
    """Bytes to lines: "decoded as UTF-8", one leading BOM dropped, lines ended by CRLF, LF or CR and by nothing else."""

    def __init__(self) -> None:
        # The standard's "UTF-8 decode" replaces what is malformed; it never fails.
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begun = False
        self._after_cr = False
        self._line = ""

    @property
    def pending(self) -> bool:
        return self._line != "" or self._decoder.getstate()[0] != b""

    def feed(self, part: bytes) -> Iterator[str]:
        text = self._decoder.decode(part)
        if text and not self._begun:
            self._begun = True
            text = text.removeprefix("\ufeff")
        if text and self._after_cr:  # the CR ended its line when it came, and this LF is the rest of it
            text = text.removeprefix("\n")
            self._after_cr = False
        if text:
            self._after_cr = text.endswith("\r")
        *ended, last = re.split("\r\n|\n|\r", text)
        for line in ended:
            yield self._line + line
            self._line = ""
        self._line += last


def parse(body: bytes | Iterable[bytes]) -> list[Message]:
    """The messages of a whole body, given at once or in parts."""
    parser = Parser()
    return [message for part in ([body] if isinstance(body, bytes) else body) for message in parser.feed(part)]
