"""One line for each event of interest, as logfmt or JSON; repeated complaints a few times a minute, with their number.

Log calls name the event in plain words and give the facts as `extra`: _log.info("stream opened", extra={"id": ...}). Nothing that
a client or a producer sent reaches a log line unescaped: values are JSON strings wherever they are not plain words.
"""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Literal, TextIO

from sse_daemon.buckets import Buckets

_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName"}
_WORD = re.compile(r"[A-Za-z0-9_.:/@+\-\[\]*]+", re.ASCII)

EVERY = 10.0
"""Seconds between two lines of one kind of complaint."""

LINES = 10
"""Lines a second of one kind that single requests cause; ten seconds' worth at once."""


def setup(format: Literal["logfmt", "json"], level: str, stream: TextIO | None = None, worker: str | None = None) -> None:
    """Sends everything of at least `level` to `stream` (default: standard error) in the given format; replaces what was set.

    worker: the name of this process, which then stands in every line.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    if worker is not None:
        handler.addFilter(lambda record: _marked(record, worker))
    handler.setFormatter(Json() if format == "json" else Logfmt())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # Tornado's own access lines hold query strings, and with them keys; ours are written where a request ends. A logger that
    # merely does not propagate and has no handler would still write its warnings, by logging's last resort.
    access = logging.getLogger("tornado.access")
    access.propagate = False
    access.handlers[:] = [logging.NullHandler()]
    # What it says of malformed heads, and of bodies that do not come, any stranger makes it say.
    logging.getLogger("tornado.general").filters[:] = [Few(time.monotonic)]


def _marked(record: logging.LogRecord, worker: str) -> bool:
    record.worker = worker
    return True


class Logfmt(logging.Formatter):
    """time=... level=info logger=... msg="..." key=value"""

    def format(self, record: logging.LogRecord) -> str:
        """One line; a traceback, if there is one, is a field of it."""
        return " ".join(f"{key}={_plain(value)}" for key, value in _fields(record).items())


class Json(logging.Formatter):
    """The same fields as one JSON object a line."""

    def format(self, record: logging.LogRecord) -> str:
        """One line."""
        return json.dumps(_fields(record), default=str)


class Sometimes:
    """Complaints that a stranger can cause at will: one line of a kind each EVERY seconds, and how many were left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._clock = clock
        self._next: dict[str, float] = {}
        self._left_out: Counter[str] = Counter()

    def warning(self, kind: str, message: str, **facts: Any) -> None:
        """Logs `message`, unless one of this kind was logged a moment ago. Kinds are few and our own."""
        now = self._clock()
        if now < self._next.get(kind, now):
            self._left_out[kind] += 1
            return
        self._next[kind] = now + EVERY
        if left_out := self._left_out.pop(kind, 0):
            facts["suppressed"] = left_out
        self._logger.warning(message, extra=facts)


class _Count:
    """Of each kind of line LINES a second."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lines = Buckets(LINES, 10 * LINES)
        self._left_out: Counter[str] = Counter()

    def of(self, kind: str) -> int | None:
        """None: another line of this kind is one too many. Else how many were left out since the last one."""
        if self._lines.take(kind, self._clock()):
            self._left_out[kind] += 1
            return None
        return self._left_out.pop(kind, 0)


class Sparing:
    """Lines that tell of single requests: all of them as long as there are few, and of a flood some, with the number left out."""

    def __init__(self, logger: logging.Logger, clock: Callable[[], float]) -> None:
        self._logger = logger
        self._count = _Count(clock)

    def info(self, message: str, **facts: Any) -> None:
        """Logs `message`, which is one of our own few, unless there were too many of it."""
        self._say(logging.INFO, message, facts)

    def warning(self, message: str, **facts: Any) -> None:
        """The same as a warning."""
        self._say(logging.WARNING, message, facts)

    def _say(self, level: int, message: str, facts: dict[str, Any]) -> None:
        left_out = self._count.of(message)
        if left_out is None:
            return
        if left_out:
            facts["suppressed"] = left_out
        self._logger.log(level, message, extra=facts)


class Few(logging.Filter):
    """The same for a logger that is not ours. A kind is a place in the source: its texts may hold what a stranger sent."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._count = _Count(clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether this line is written."""
        left_out = self._count.of(f"{record.pathname}:{record.lineno}")
        if left_out:
            record.suppressed = left_out
        return left_out is not None


def _fields(record: logging.LogRecord) -> dict[str, Any]:
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
    fields: dict[str, Any] = {
        "time": f"{at}.{int(record.msecs):03d}Z",
        "level": record.levelname.lower(),
        "logger": record.name.removeprefix("sse_daemon."),
        "msg": record.getMessage(),
    }
    fields.update((key, value) for key, value in vars(record).items() if key not in _STANDARD and value is not None)
    if record.exc_info:
        fields["exception"] = logging.Formatter().formatException(record.exc_info)
    return fields


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.3f}"
    text = str(value)
    return text if _WORD.fullmatch(text) else json.dumps(text)


def logger(name: str) -> logging.Logger:
    """The logger of one of our modules."""
    return logging.getLogger(f"sse_daemon.{name}")
