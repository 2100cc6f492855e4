"""What tests of what is promised share: doors as the integration tests have them, a daemon as it is run, and somebody who asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.hardening.application import Application, by_token
from tests.hardening.signing import Visitor
from tests.integration.conftest import door, pytest_generate_tests
from tests.integration.daemon import RunningDaemon

__all__ = ["door", "pytest_generate_tests"]


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    """One for the module, with its CONFIG, and without what is only good for development."""
    with RunningDaemon(request.module.CONFIG, dev=False) as daemon:
        yield daemon


@pytest.fixture
def visitor(daemon: RunningDaemon, door: str) -> Iterator[Visitor]:
    with Visitor(daemon, door) as visitor:
        yield visitor


@pytest.fixture(scope="module")
def application() -> Iterator[Application]:
    """One for the module, for a daemon that asks it; a test takes `app`."""
    with Application() as application:
        yield application


@pytest.fixture
def app(application: Application) -> Iterator[Application]:
    """The module's application, with nothing of what the test before made of it."""
    application.answers = by_token
    application.go.clear()
    yield application
    application.go.set()
