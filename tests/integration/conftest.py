"""What many tests of the HTTP side share: a daemon for the module (its CONFIG, if it has one), a publisher, connections to it.

A module that sets DOORS runs all its tests twice: its plain requests come in by the lean door, then by Tornado's handlers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from tests.integration.client import Client, Header, Publisher, Response
from tests.integration.daemon import RunningDaemon

Get = Callable[..., Response]


BODY = ("Content-Length", "0")
"""A body, if only an empty one, makes any request a matter for the handlers."""


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "door" in metafunc.fixturenames and getattr(metafunc.module, "DOORS", False):
        metafunc.parametrize("door", ("lean", "handlers"), indirect=True, scope="module")


@pytest.fixture(scope="module")
def door(request: pytest.FixtureRequest) -> str:
    """By which door the requests of `get` come in: "lean" (those that are plain), or "handlers"."""
    return getattr(request, "param", "lean")


@pytest.fixture(scope="module")
def daemon(request: pytest.FixtureRequest, door: str) -> Iterator[RunningDaemon]:
    with RunningDaemon(getattr(request.module, "CONFIG", "")) as daemon:
        yield daemon


@pytest.fixture(scope="module")
def publisher(daemon: RunningDaemon) -> Iterator[Publisher]:
    with Publisher(daemon.acked) as publisher:
        yield publisher


@pytest.fixture
def get(daemon: RunningDaemon, door: str) -> Iterator[Get]:
    """get(target, *headers, method="GET", version="1.1", of=daemon) -> a response on a connection of its own."""
    with ExitStack() as opened:

        def run(target: str, *headers: Header, of: RunningDaemon = daemon, **how: Any) -> Response:
            if door == "handlers" and how.get("method", "GET") == "GET":
                headers = (*headers, BODY)
            return opened.enter_context(Client(of.http_port)).get(target, *headers, **how)

        yield run
