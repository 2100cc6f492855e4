"""What tests of what is promised share: doors as the integration tests have them, a daemon as it is run, and somebody who asks it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

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
