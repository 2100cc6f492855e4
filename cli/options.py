"""Options that several commands have, and the values they take; imported as sse_daemon.cli.options, never under the bare name."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from sse_daemon.cli.admin_client import Admin
from sse_daemon.config_tables import default_admin_socket

F = TypeVar("F", bound=Callable[..., Any])

SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
MAX_SECONDS = 1e8


class Duration(click.ParamType[float, Any]):
    """Seconds, written as 30, 30s, 1.5h or 1h30m."""

    name = "duration"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, int | float):
            return float(value)
        seconds = parse_duration(str(value))
        if seconds is None:
            self.fail(f"{value!r} is no duration; such as 30s, 10m, 2h or 1h30m", param, ctx)
        if seconds > MAX_SECONDS:
            self.fail(f"{value!r} is longer than three years", param, ctx)
        return seconds


def parse_duration(text: str) -> float | None:
    """The seconds that `text` stands for, or None if it is no duration."""
    part = r"([0-9]+(?:\.[0-9]+)?)(ms|[smhd])"
    if re.fullmatch(r"[0-9]+(\.[0-9]+)?", text):
        return float(text)
    if not re.fullmatch(f"({part})+", text):
        return None
    return sum(float(number) * SECONDS[unit] for number, unit in re.findall(part, text))


DURATION = Duration()


def _admin(ctx: click.Context, param: click.Parameter, value: str | None) -> Admin:
    return Admin(value or default_admin_socket(os.environ, os.getuid()))


def admin_option(function: F) -> F:
    """--admin; the command gets an `Admin` as `admin`."""
    return click.option(
        "--admin",
        metavar="PATH",
        envvar="SSE_DAEMON_ADMIN_SOCKET",
        callback=_admin,
        help="The daemon's admin socket; default: SSE_DAEMON_ADMIN_SOCKET, or where a daemon of this user has it.",
    )(function)


def json_option(function: F) -> F:
    """--json; the command gets a bool as `as_json`."""
    return click.option("--json", "as_json", is_flag=True, help="For programs.")(function)
