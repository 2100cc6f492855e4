"""What many tests of the HTTP side share: a daemon for the module (its CONFIG, if it has one), a publisher, connections to it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.client import Client, Header, Publisher, Response
from tests.integration.daemon import RunningDaemon

Get = Callable[..., Response]


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest) -> Iterator[RunningDaemon]:
    with RunningDaemon(getattr(request.module, "CONFIG", "")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def publisher(daemon: RunningDaemon) -> Iterator[Publisher]:
    with Publisher(daemon.acked) as publisher:
        yield publisher


@pytest.fixture
def get(daemon: RunningDaemon) -> Iterator[Get]:
    """get(target, *headers, method="GET", version="1.1", of=daemon) -> a response on a connection of its own."""
    with ExitStack() as opened:

        def run(target: str, *headers: Header, of: RunningDaemon = daemon, **how: Any) -> Response:
            return opened.enter_context(Client(of.http_port)).get(target, *headers, **how)

        yield run
