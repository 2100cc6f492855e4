"""What tests/conftest.py promises: each promise is a small test that a pytest of its own runs, and its outcome is looked at."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCENARIOS = """
import asyncio, contextlib, logging, socket, warnings
import pytest
from tornado.ioloop import IOLoop

seen = {}

async def forever():
    await asyncio.Event().wait()

# the loop

async def test_passes_on_a_loop():
    await asyncio.sleep(0)
    seen["first"] = asyncio.get_running_loop()

async def test_passes_on_another_loop():
    assert asyncio.get_running_loop() is not seen["first"] and seen["first"].is_closed()

async def test_fails_with_a_false_assertion():
    await asyncio.sleep(0)
    assert 1 == 2

async def test_fails_with_a_task_left():
    seen["task"] = asyncio.create_task(forever(), name="the-forgotten-one")

def test_passes_as_what_was_left_was_cancelled():
    assert seen["task"].cancelled()

async def test_passes_with_a_task_about_to_end():
    asyncio.create_task(asyncio.sleep(0.01))

async def test_fails_with_an_exception_nobody_looked_at():
    async def fails():
        raise ValueError("nobody looks")
    asyncio.create_task(fails())

async def test_fails_with_an_open_socket():
    socket.socket()

async def test_passes_with_the_loop_asked_for(io_loop):
    assert io_loop is IOLoop.current()

# fixtures

@pytest.fixture
async def returned():
    await asyncio.sleep(0)
    return asyncio.get_running_loop()

@pytest.fixture
async def yielded(returned):
    task = asyncio.create_task(forever())
    yield task
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task
    seen["torn down on"] = asyncio.get_running_loop(), returned

@pytest.fixture
async def breaking():
    yield
    raise ValueError("in the teardown")

@pytest.fixture
async def twice():
    yield 1
    yield 2

async def test_passes_with_fixtures_on_its_loop(returned, yielded):
    assert returned is asyncio.get_running_loop() and not yielded.done()

def test_passes_as_the_fixture_was_torn_down_there():
    used, expected = seen["torn down on"]
    assert used is expected

def test_passes_without_await_but_with_fixtures(yielded):
    assert not yielded.done()

async def test_fails_in_a_teardown(breaking):
    pass

async def test_fails_with_a_fixture_that_yields_twice(twice):
    pass

class TestInside:
    @pytest.fixture
    async def own(self):
        return self

    async def test_passes_in_a_class(self, own):
        assert own is self

@pytest.mark.parametrize("value", [1, 2])
async def test_passes_with_parameters(value, returned):
    assert value in (1, 2)

# the log

def test_fails_with_a_warning_logged():
    logging.getLogger("sse_daemon.hub").warning("something odd")

async def test_fails_with_an_error_of_the_loop():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0.01)

def test_passes_with_less_than_a_warning():
    logging.getLogger("sse_daemon").info("nothing special")

def test_passes_with_another_logger():
    logging.getLogger("somebody.else").error("not ours")

def test_passes_with_the_declared_line(expect_log):
    expected = expect_log("sse_daemon", "o[d]+ [0-9]")
    logging.getLogger("sse_daemon.hub").warning("something odd %d", 7)
    assert expected.seen == ["something odd 7"]

def test_fails_with_the_line_of_another_logger(expect_log):
    expect_log("sse_daemon.hub", "odd", required=False)
    logging.getLogger("sse_daemon.hubris").warning("something odd")

def test_fails_with_an_undeclared_line_beside(expect_log):
    expect_log("sse_daemon", "odd")
    logging.getLogger("sse_daemon").warning("odd")
    logging.getLogger("sse_daemon").warning("even")

def test_fails_without_the_declared_line(expect_log):
    expect_log("sse_daemon", "odd")

def test_passes_without_a_line_that_only_may_come(expect_log):
    expect_log("sse_daemon", "odd", required=False)

# warnings

def test_fails_with_a_warning():
    warnings.warn("an old thing", DeprecationWarning)

def test_fails_with_anothers_pytest_deprecation():
    warnings.warn("something else is old", pytest.PytestDeprecationWarning)

# waiting

async def test_passes_when_the_condition_comes_true(until):
    done = []
    asyncio.get_running_loop().call_later(0.02, done.append, 5)
    assert await until(lambda: done) == [5]

async def test_passes_with_an_async_condition(until):
    async def condition():
        return "yes"
    assert await until(condition) == "yes"

async def test_fails_when_it_never_does(until):
    await until(lambda: False, "the end of the world", seconds=0.05)

def test_passes_when_it_comes_true_without_a_loop(until_blocking):
    left = [3, 2, 1]
    assert until_blocking(lambda: not left or left.pop() and not left)

def test_fails_when_it_never_does_without_a_loop(until_blocking):
    until_blocking(lambda: False, "the end of the world", seconds=0.05)

# skips

def test_skips():
    pytest.skip("because")

@pytest.mark.may_skip("a documented reason")
def test_skips_with_a_mark():
    pytest.skip("because")

@pytest.mark.xfail(strict=True)
def test_expected_to_fail():
    assert False
"""

SKIPPED_MODULE = "import pytest\npytest.skip('the whole of it', allow_module_level=True)\n"

Outcomes = dict[str, tuple[str, str]]


def outcomes(folder: Path, ci: str) -> Outcomes:
    """Runs the scenarios in `folder`: test -> (passed, failed or skipped; the text of the report)."""
    (folder / "tests").mkdir()
    shutil.copy(ROOT / "tests" / "conftest.py", folder / "tests")
    shutil.copy(ROOT / "setup.cfg", folder)
    (folder / "tests" / "test_scenarios.py").write_text(SCENARIOS)
    (folder / "tests" / "test_skipped_module.py").write_text(SKIPPED_MODULE)
    command = [sys.executable, "-m", "pytest", "--continue-on-collection-errors", "--junitxml=report.xml"]
    done = subprocess.run(
        command, check=False, cwd=folder, env={**os.environ, "CI": ci}, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 1, done.stdout + done.stderr
    found: Outcomes = {}
    for case in ElementTree.parse(folder / "report.xml").iter("testcase"):
        found.setdefault(case.get("name", "").partition("[")[0], ("passed", ""))
        for result in case:
            if result.tag in ("failure", "error", "skipped"):
                outcome = "skipped" if result.tag == "skipped" else "failed"
                found[case.get("name", "").partition("[")[0]] = (outcome, f"{result.get('message')}\n{result.text}")
    return found


@pytest.fixture(scope="module")
def at_home(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(tmp_path_factory.mktemp("home"), "")


@pytest.fixture(scope="module")
def in_ci(tmp_path_factory: pytest.TempPathFactory) -> Outcomes:
    return outcomes(tmp_path_factory.mktemp("ci"), "true")


def test_every_scenario_ends_as_its_name_says(at_home: Outcomes) -> None:
    named = {name: outcome for name, (outcome, _) in at_home.items() if name.startswith(("test_passes", "test_fails"))}
    assert len(named) == SCENARIOS.count("def test_passes") + SCENARIOS.count("def test_fails")
    wrong = {name: outcome for name, outcome in named.items() if not name.startswith(f"test_{outcome[:4]}")}
    assert not wrong, "\n".join(at_home[name][1] for name in wrong)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("test_fails_with_a_false_assertion", "assert 1 == 2"),
        ("test_fails_with_a_task_left", "the-forgotten-one"),
        ("test_fails_with_an_exception_nobody_looked_at", "never retrieved"),
        ("test_fails_with_an_open_socket", "ResourceWarning"),
        ("test_fails_in_a_teardown", "in the teardown"),
        ("test_fails_with_a_fixture_that_yields_twice", "the fixture twice yielded twice"),
        ("test_fails_with_a_warning_logged", "unexpected: WARNING sse_daemon.hub: something odd"),
        ("test_fails_with_an_error_of_the_loop", "ZeroDivisionError"),
        ("test_fails_with_the_line_of_another_logger", "sse_daemon.hubris"),
        ("test_fails_with_an_undeclared_line_beside", "unexpected: WARNING sse_daemon: even"),
        ("test_fails_without_the_declared_line", "missing: a line of sse_daemon with 'odd'"),
        ("test_fails_with_a_warning", "an old thing"),
        ("test_fails_with_anothers_pytest_deprecation", "something else is old"),
        ("test_fails_when_it_never_does", "waited 0.05 s for the end of the world"),
        ("test_fails_when_it_never_does_without_a_loop", "waited 0.05 s for the end of the world"),
    ],
)
def test_a_failure_says_what_it_is_about(at_home: Outcomes, name: str, text: str) -> None:
    assert text in at_home[name][1]


def test_a_skip_is_a_skip_at_home(at_home: Outcomes) -> None:
    skipped = {name for name, (outcome, _) in at_home.items() if outcome == "skipped"}
    assert skipped >= {"test_skips", "test_skips_with_a_mark", "tests.test_skipped_module"}


def test_a_skip_fails_in_ci(in_ci: Outcomes) -> None:
    assert in_ci["test_skips"][0] == "failed"
    assert "because" in in_ci["test_skips"][1]
    assert in_ci["tests.test_skipped_module"][0] == "failed"
    assert "the whole of it" in in_ci["tests.test_skipped_module"][1]


def test_a_marked_skip_and_an_expected_failure_stay_so_in_ci(in_ci: Outcomes) -> None:
    assert in_ci["test_skips_with_a_mark"][0] == "skipped"
    assert in_ci["test_expected_to_fail"][0] == "skipped"
