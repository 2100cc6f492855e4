"""The admin socket asked by something else than our command line: what is wrong is said, and nothing ends in a traceback."""

from __future__ import annotations

import stat
from typing import Any

import httpx
import pytest

from tests.integration.daemon import RunningDaemon


def ask(daemon: RunningDaemon, method: str, path: str, body: str = "") -> httpx.Response:
    with httpx.Client(transport=httpx.HTTPTransport(uds=str(daemon.admin)), timeout=30) as http:
        return http.request(method, "http://daemon" + path, content=body)


@pytest.mark.parametrize(
    "body",
    [
        "",
        "no json",
        "[]",
        "{}",
        '{"header":[]}',
        '{"header":{"to":"*"},"data":1}',
        '{"header":{"to":"*"},"wait":"soon"}',
        '{"header":{"to":"*","ttl":NaN}}',
        '{"header":{"to":"*","ttl":1e999}}',
        '{"header":{"to":["\\ud800"]}}',
        '{"header":{"to":"*"},"data":"\\ud800"}',
    ],
)
def test_an_injection_that_cannot_be_is_refused_in_words(daemon: RunningDaemon, body: str) -> None:
    answer = ask(daemon, "POST", "/inject", body)
    assert answer.status_code == 400 and set(answer.json()) == {"error", "detail"}, answer.text


@pytest.mark.parametrize(
    "body", ["{}", '{"client":"a","participant":"b"}', '{"client":"a","for":1}', '{"participant":"a","for":-1}']
)
def test_a_kick_names_one_thing(daemon: RunningDaemon, body: str) -> None:
    assert ask(daemon, "POST", "/kick", body).status_code == 400


def test_what_there_is_no_command_for_is_said(daemon: RunningDaemon) -> None:
    answer = ask(daemon, "GET", "/nothing")
    assert (answer.status_code, answer.json()["error"]) == (404, "unknown_command")


def test_only_the_daemons_user_and_group_reach_it(daemon: RunningDaemon) -> None:
    assert stat.S_IMODE(daemon.admin.stat().st_mode) == 0o660


def test_the_metrics_are_what_prometheus_reads_and_what_stats_shows(daemon: RunningDaemon) -> None:
    text: Any = ask(daemon, "GET", "/metrics")
    assert text.headers["Content-Type"].startswith("text/plain")
    for name, value in ask(daemon, "GET", "/stats").json()["metrics"].items():
        if not isinstance(value, dict):
            assert f"\nsse_daemon_{name} " in text.text, name
