from __future__ import annotations

import io
import json
import logging
import re
import sys
from collections.abc import Iterator

import pytest

from sse_daemon import log
from sse_daemon.log import EVERY, LINES, Few, Json, Logfmt, Sometimes, Sparing

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


@pytest.fixture
def restored() -> Iterator[None]:
    """The logging of the test run as it was, after a test that sets up the daemon's."""
    root, access = logging.getLogger(), logging.getLogger("tornado.access")
    before = root.handlers[:], root.level, access.handlers[:], access.propagate
    yield
    root.handlers[:], access.handlers[:] = before[0], before[2]
    root.setLevel(before[1])
    access.propagate = before[3]


def record(message: str, *args: object, name: str = "sse_daemon.hub", **extra: object) -> logging.LogRecord:
    return logging.getLogger(name).makeRecord(name, logging.INFO, "f.py", 1, message, args, None, extra=extra)


def test_one_line_in_logfmt() -> None:
    line = Logfmt().format(record("stream opened", id="w1-7", age=1.23456, count=3, path="/events", who="a b"))
    assert re.fullmatch(
        rf'time={TIME} level=info logger=hub msg="stream opened" id=w1-7 age=1.235 count=3 path=/events who="a b"', line
    )


def test_the_same_as_json() -> None:
    line = Json().format(record("stream %s", "opened", id="w1-7", count=3, who="é"))
    fields = json.loads(line)
    assert re.fullmatch(TIME, fields.pop("time"))
    assert fields == {"level": "info", "logger": "hub", "msg": "stream opened", "id": "w1-7", "count": 3, "who": "é"}


@pytest.mark.parametrize("formatter", [Logfmt(), Json()])
def test_what_is_not_there_is_left_out(formatter: logging.Formatter) -> None:
    line = formatter.format(record("kicked", client=None, streams=0))
    assert "streams" in line and "client" not in line


@pytest.mark.parametrize("formatter", [Logfmt(), Json()])
@pytest.mark.parametrize(
    "hostile", ["a\nlevel=error", "a\rb", 'a" level=error x="', "\x1b[2J", "\u2028", "\x85", "\u202e", "", "a=b", "\ud800"]
)
def test_nothing_that_somebody_sent_gets_out_of_its_value(formatter: logging.Formatter, hostile: str) -> None:
    line = formatter.format(record("m", value=hostile, last=1))
    assert line.isascii() and line.isprintable()
    if isinstance(formatter, Json):
        assert json.loads(line)["value"] == hostile
    else:
        (quoted,) = re.fullmatch(r"time=\S+ level=info logger=hub msg=m value=(\".*\") last=1", line).groups()  # type: ignore[union-attr]
        assert json.loads(quoted) == hostile


@pytest.mark.parametrize("formatter", [Logfmt(), Json()])
def test_a_traceback_is_a_field_of_its_line(formatter: logging.Formatter) -> None:
    try:
        raise KeyError("x")
    except KeyError:
        made = record("died")
        made.exc_info = sys.exc_info()
    line = formatter.format(made)
    assert "\n" not in line
    assert "KeyError" in line and "exception" in line


def test_time_is_utc_with_milliseconds() -> None:
    made = record("m")
    made.created, made.msecs = 1_000_000_000.0625, 62.5
    assert Logfmt().format(made).startswith("time=2001-09-09T01:46:40.062Z ")


@pytest.mark.parametrize(("format", "level", "lines"), [("logfmt", "info", 2), ("json", "warning", 1), ("logfmt", "debug", 3)])
def test_set_up_writes_from_a_level_on_to_one_place(restored: None, format: str, level: str, lines: int) -> None:
    ours = logging.getLogger("test_log.quiet")  # not one that the tests watch for warnings
    out = io.StringIO()
    for _ in range(2):  # a second time, at a reload: it replaces and does not add
        log.setup(format, level, out)  # type: ignore[arg-type]
    ours.debug("one")
    ours.info("two")
    ours.warning("three")
    written = out.getvalue().splitlines()
    assert len(written) == lines
    assert all(line.startswith("{" if format == "json" else "time=") for line in written)


def test_tornados_access_lines_are_written_nowhere(
    restored: None, expect_log: object, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("tornado.access").handlers[:] = []
    out = io.StringIO()
    log.setup("logfmt", "debug", out)
    logging.getLogger("tornado.access").warning("403 GET /events?public_key=secret")
    assert (out.getvalue(), capsys.readouterr().err) == ("", "")


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_complaints_of_a_kind_come_rarely_and_say_how_many_they_stand_for() -> None:
    made: list[logging.LogRecord] = []
    logger = logging.getLogger("test_log.sometimes")
    handler = logging.Handler()
    handler.emit = made.append  # type: ignore[method-assign]
    logger.addHandler(handler)
    clock = Clock()
    sometimes = Sometimes(logger, clock)
    for _ in range(5):
        sometimes.warning("bad_to", "message refused", code="bad_to")
    sometimes.warning("bad_type", "message refused", code="bad_type", index=0)
    clock.now += EVERY
    sometimes.warning("bad_to", "message refused", code="bad_to")
    clock.now += EVERY
    sometimes.warning("bad_to", "message refused", code="bad_to")
    logger.removeHandler(handler)
    facts = [{name: getattr(r, name) for name in ("code", "index", "suppressed") if hasattr(r, name)} for r in made]
    assert facts == [
        {"code": "bad_to"},
        {"code": "bad_type", "index": 0},
        {"code": "bad_to", "suppressed": 4},
        {"code": "bad_to"},
    ]
    assert {r.levelname for r in made} == {"WARNING"}


def test_loggers_are_ours() -> None:
    assert log.logger("hub").name == "sse_daemon.hub"


def test_a_flood_of_lines_of_somebody_elses_is_told_by_some_and_their_number() -> None:
    """Whatever the texts are: what a stranger sent may stand in them."""
    now = 0.0
    few = Few(lambda: now)

    def line(number: int, at: int) -> logging.LogRecord:
        return logging.LogRecord("tornado.general", logging.INFO, "http1connection.py", at, f"malformed: {number}", (), None)

    assert sum(few.filter(line(number, 344)) for number in range(1000)) == 10 * LINES
    assert few.filter(line(0, 319)), "another kind"
    now += 1.0
    last = line(1000, 344)
    assert few.filter(last)
    assert getattr(last, "suppressed", None) == 1000 - 10 * LINES


def test_a_flood_of_lines_is_told_by_some_and_their_number() -> None:
    kept = logging.getLogger("test.sparing")
    kept.setLevel(logging.INFO)
    kept.propagate = False
    lines = io.StringIO()
    handler = logging.StreamHandler(lines)
    handler.setFormatter(Logfmt())
    kept.addHandler(handler)
    now = 0.0
    sparing = Sparing(kept, lambda: now)
    for number in range(1000):
        sparing.info("refused", number=number)
    sparing.warning("other")
    now += 1.0
    sparing.info("refused", number=1000)
    said = lines.getvalue().splitlines()
    assert len(said) == 10 * LINES + 2
    assert "level=warning" in said[-2]
    assert f"suppressed={1000 - 10 * LINES}" in said[-1]
