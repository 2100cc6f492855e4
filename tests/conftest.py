"""What every test of the project can rely on, and is held to.

- An `async def` test runs on a loop of its own; so does an `async def` fixture of it. When the test and its fixtures are done,
  no task may be left: what is left is cancelled and awaited, and the test fails with its name.
- A line of level WARNING or above from the loggers `sse_daemon`, `tornado` and `asyncio` fails the test, unless the test
  declared it with the fixture `expect_log`.
- A warning fails the test (setup.cfg); so does a socket or file that nobody closed, at the test that lost it.
- `until` waits for a condition instead of sleeping.
- With CI=true a skipped test fails, except those marked `may_skip(reason)`.

pytest-tornasync runs the tests; it makes no loop for a test that does not ask for one, does not know async fixtures, and its
own loop leaves tasks behind. The first half of this file is about that. tests/unit/test_conftest.py holds all of it.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Iterator
from dataclasses import dataclass, field
from types import MethodType
from typing import Any, TypeVar

import pytest
from tornado.ioloop import IOLoop

GRACE = 1.0
"""Seconds in which tasks that are about to end may do so before they count as leaked; nothing waits if there are none."""
DEADLINE = 30.0
"""Seconds after which `until` gives up: generous, because it is only ever reached by a test that fails."""

T = TypeVar("T")


# The loop ---------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def io_loop(expect_log: LogWatch) -> Iterator[IOLoop]:
    """A fresh loop, the current one of the test; closed afterwards with nothing left on it."""
    # It asks for expect_log so that the log is judged after this: what is found here may be logged.
    # Not made current: that would ask asyncio for a loop of its own, which nobody closes.
    loop = IOLoop(make_current=False)
    try:
        yield loop
    finally:
        left = _wind_up(loop)
        # Only the loop: a socket that is still open is the fault of the test, and shows as a warning.
        loop.close()
        # Now, so that whoever lost a socket or an exception is this test and not the one in which the collector next runs.
        gc.collect()
    if left:
        pytest.fail("tasks were left running:\n" + "\n".join(left), pytrace=False)


def _wind_up(io_loop: IOLoop) -> list[str]:
    """Ends what is left on the loop; describes each task that did not end by itself."""
    loop: asyncio.AbstractEventLoop = io_loop.asyncio_loop  # type: ignore[attr-defined]
    left = loop.run_until_complete(_cancel_rest())
    loop.run_until_complete(loop.shutdown_asyncgens())
    loop.run_until_complete(loop.shutdown_default_executor())
    return left


async def _cancel_rest() -> list[str]:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    if tasks:
        _, tasks = await asyncio.wait(tasks, timeout=GRACE)
    left = sorted(repr(task) for task in tasks)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return left


def pytest_itemcollected(item: pytest.Item) -> None:
    """Gives every async test a loop, before anything else that it asks for."""
    if isinstance(item, pytest.Function) and inspect.iscoroutinefunction(item.obj):
        item.fixturenames[:] = ["io_loop", *(name for name in item.fixturenames if name != "io_loop")]


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef: pytest.FixtureDef[Any], request: pytest.FixtureRequest) -> Generator[None, Any, Any]:
    """Runs an async fixture on the test's loop: for the time of its setup it is replaced by a function that does."""
    original = fixturedef.func
    if not (inspect.iscoroutinefunction(original) or inspect.isasyncgenfunction(original)):
        return (yield)
    loop = request.getfixturevalue("io_loop")
    fixture = _on_instance(original, request.instance)
    replacement = _generator_on(loop, fixture) if inspect.isasyncgenfunction(original) else _function_on(loop, fixture)
    fixturedef.func = replacement  # type: ignore[misc]
    try:
        return (yield)
    finally:
        fixturedef.func = original  # type: ignore[misc]


def _on_instance(fixture: Callable[..., Any], instance: object) -> Callable[..., Any]:
    """A fixture written in a class belongs to the instance of the test, not to the one that it was collected from."""
    if inspect.ismethod(fixture) and isinstance(instance, type(fixture.__self__)):
        return MethodType(fixture.__func__, instance)
    return fixture


def _function_on(loop: IOLoop, fixture: Callable[..., Awaitable[Any]]) -> Callable[..., Any]:
    def run(*args: Any, **kwargs: Any) -> Any:
        return loop.run_sync(lambda: fixture(*args, **kwargs), timeout=DEADLINE)

    return run


def _generator_on(loop: IOLoop, fixture: Callable[..., AsyncIterator[Any]]) -> Callable[..., Iterator[Any]]:
    def run(*args: Any, **kwargs: Any) -> Iterator[Any]:
        steps = fixture(*args, **kwargs)
        yield loop.run_sync(lambda: anext(steps), timeout=DEADLINE)
        if loop.run_sync(lambda: anext(steps, run), timeout=DEADLINE) is not run:
            raise RuntimeError(f"the fixture {fixture.__name__} yielded twice")

    return run


# The log ----------------------------------------------------------------------------------------------------------------------


WATCHED = ("sse_daemon", "tornado", "asyncio")


@dataclass
class Expectation:
    """A line that may come, from `logger` or a logger below it; `required`: and must."""

    logger: str
    pattern: re.Pattern[str]
    required: bool
    seen: list[str] = field(default_factory=list)

    def takes(self, record: logging.LogRecord, text: str) -> bool:
        """Whether `record` is such a line; it is then remembered in `seen`."""
        inside = record.name == self.logger or record.name.startswith(self.logger + ".")
        if not (inside and self.pattern.search(text)):
            return False
        self.seen.append(text)
        return True


class LogWatch(logging.Handler):
    """Collects what nobody expected. Called as `expect_log(logger, pattern, required=True)`, before the line is written."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.expectations: list[Expectation] = []
        self.unexpected: list[str] = []

    def __call__(self, logger: str, pattern: str, *, required: bool = True) -> Expectation:
        """From here on lines of `logger` (a name, its children included) in which `pattern` is found are expected, any number.

        Without one the test fails, unless `required` is False. The lines that came are in the returned object's `seen`.
        """
        expectation = Expectation(logger, re.compile(pattern), required)
        self.expectations.append(expectation)
        return expectation

    def emit(self, record: logging.LogRecord) -> None:
        text = self.format(record)
        if not any(expectation.takes(record, text) for expectation in self.expectations):
            self.unexpected.append(f"{record.levelname} {record.name}: {text}")

    def complaints(self) -> list[str]:
        """What is wrong with the log of the test, one entry each."""
        missing = [e for e in self.expectations if e.required and not e.seen]
        return [f"unexpected: {line}" for line in self.unexpected] + [
            f"missing: a line of {e.logger} with {e.pattern.pattern!r}" for e in missing
        ]


@pytest.fixture(autouse=True)
def expect_log() -> Iterator[LogWatch]:
    """`expect_log("sse_daemon.listener", "out of files")`: such warnings are expected from here on, and must come."""
    watch = LogWatch()
    for name in WATCHED:
        logging.getLogger(name).addHandler(watch)
    try:
        yield watch
    finally:
        for name in WATCHED:
            logging.getLogger(name).removeHandler(watch)
    if complaints := watch.complaints():
        pytest.fail("the log is not as declared:\n" + "\n".join(complaints), pytrace=False)


# Waiting ----------------------------------------------------------------------------------------------------------------------


class Deadline:
    """A point in time by which a test's condition holds, or the test fails; several waits can share one."""

    def __init__(self, seconds: float = DEADLINE) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left(self) -> float:
        """Seconds until then; never negative."""
        return max(0.0, self._end - time.monotonic())

    def missed(self, what: str) -> AssertionError:
        """The failure of a test that waited for `what`."""
        return AssertionError(f"waited {self.seconds:g} s for {what}")


def described(condition: Callable[[], object], what: str | None) -> str:
    """What the condition is about: `what`, or else its name and place."""
    if what is not None:
        return what
    code = getattr(condition, "__code__", None)
    place = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
    return getattr(condition, "__name__", repr(condition)) + place


@pytest.fixture
def deadline() -> Deadline:
    """The time that the whole test has for its waits."""
    return Deadline()


@pytest.fixture
def until() -> Callable[..., Awaitable[Any]]:
    """`await until(condition, "what it is")`: the first true value of condition(), which may be async; fails after 30 s."""

    async def wait(condition: Callable[[], T | Awaitable[T]], what: str | None = None, seconds: float = DEADLINE) -> T:
        limit = Deadline(seconds)
        while True:
            value = condition()
            if inspect.isawaitable(value):
                value = await value
            if value:
                return value
            if not limit.left():
                raise limit.missed(described(condition, what))
            await asyncio.sleep(0.01)

    return wait


@pytest.fixture
def until_blocking() -> Callable[..., Any]:
    """`until` for tests without a loop: `until_blocking(condition, "what it is")`."""

    def wait(condition: Callable[[], T], what: str | None = None, seconds: float = DEADLINE) -> T:
        limit = Deadline(seconds)
        while not (value := condition()):
            if not limit.left():
                raise limit.missed(described(condition, what))
            time.sleep(0.01)
        return value

    return wait


# Nothing is skipped in CI -----------------------------------------------------------------------------------------------------


def _in_ci() -> bool:
    return os.environ.get("CI") == "true"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """A skipped test fails in CI, unless its mark `may_skip` says why it may be."""
    report: Any = yield
    if report.skipped and not hasattr(report, "wasxfail") and _in_ci() and item.get_closest_marker("may_skip") is None:
        report.outcome = "failed"
        report.longrepr = f"skipped, which no test may be in CI: {report.longrepr[2]}"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Generator[None, Any, Any]:
    """The same for a module that skips itself."""
    report: Any = yield
    if report.skipped and _in_ci():
        report.outcome = "failed"
        report.longrepr = f"skipped, which no module may be in CI: {report.longrepr[2]}"
    return report
