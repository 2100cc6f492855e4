"""Durations, and where the admin socket is looked for."""

from __future__ import annotations

import os

import click
import pytest
from click.testing import CliRunner

from sse_daemon.cli.admin_client import Admin
from sse_daemon.cli.options import DURATION, admin_option, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0.0), ("30", 30.0), ("1.5", 1.5), ("250ms", 0.25), ("30s", 30.0), ("10m", 600.0), ("2h", 7200.0), ("1h30m", 5400.0)],
)
def test_durations(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "-1", "1x", "m", "1 m", "10minutes", "1e3", "nan", "inf", "٣s", ".5", "5."])
def test_what_is_no_duration(text: str) -> None:
    assert parse_duration(text) is None
    with pytest.raises(click.BadParameter, match="no duration"):
        DURATION.convert(text, None, None)


def test_a_duration_has_an_end() -> None:
    with pytest.raises(click.BadParameter, match="three years"):
        DURATION.convert("2000d", None, None)


@click.command
@admin_option
def where(admin: Admin) -> None:
    click.echo(admin.path)


def path(*arguments: str, **environ: str | None) -> str:
    clean = {"SSE_DAEMON_ADMIN_SOCKET": None, "XDG_RUNTIME_DIR": None}
    return CliRunner().invoke(where, arguments, env={**clean, **environ}, catch_exceptions=False).output.strip()


def test_the_option_wins_then_the_environment_then_the_daemons_own_rule() -> None:
    assert path("--admin", "/a", SSE_DAEMON_ADMIN_SOCKET="/b") == "/a"
    assert path(SSE_DAEMON_ADMIN_SOCKET="/b") == "/b"
    own = "/run/sse-daemon" if os.getuid() == 0 else "/somewhere/sse-daemon"
    assert path(XDG_RUNTIME_DIR="/somewhere") == f"{own}/admin.sock"
