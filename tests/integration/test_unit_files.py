"""The files in systemd/, as systemd's own tools read them; no systemd needs to run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sse_daemon.config_tables import DaemonConfig, HttpConfig

SYSTEMD = Path(__file__).resolve().parents[2] / "systemd"
SERVICE = SYSTEMD / "sse-daemon.service"
SOCKET = SYSTEMD / "sse-daemon.socket"
PROGRAM = "/opt/sse-daemon/bin/sse-daemon"

EXPOSURE = 15
"""Tenths of a point in systemd's count; the bare unit has 96, this one 11."""


def settings(unit: Path) -> Iterator[tuple[str, str]]:
    """(key, value) of every line; none of ours is continued."""
    for line in unit.read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            yield key, value


def values(unit: Path, key: str) -> list[str]:
    return [value for name, value in settings(unit) if name == key]


def run(tool: str, *arguments: object, **environ: str) -> subprocess.CompletedProcess[str]:
    if shutil.which(tool) is None:
        pytest.skip(f"{tool} is not installed")
    command = [tool, *map(str, arguments)]
    return subprocess.run(
        command,
        check=False,
        env={**os.environ, **environ},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=60,
    )


@pytest.fixture
def units(tmp_path: Path) -> Path:
    """A folder with both units; the program that the service names is one that this machine has."""
    (tmp_path / SERVICE.name).write_text(SERVICE.read_text().replace(PROGRAM, sys.executable))
    shutil.copy(SOCKET, tmp_path)
    return tmp_path


def verified(units: Path) -> subprocess.CompletedProcess[str]:
    # The empty last entry stands for systemd's own folders, where the targets are that ours name.
    return run("systemd-analyze", "verify", "--man=no", units / SERVICE.name, units / SOCKET.name, SYSTEMD_UNIT_PATH=f"{units}:")


def test_the_units_are_valid(units: Path) -> None:
    done = verified(units)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize(
    ("unit", "right", "wrong"),
    [
        (SERVICE.name, "WatchdogSec=", "WatchdogSeconds="),
        (SERVICE.name, "WatchdogSec=20", "WatchdogSec=often"),
        (SERVICE.name, sys.executable, "/nobody/installed/this"),
        (SOCKET.name, "ListenStream=127.0.0.1:8080", "ListenStream=127.0.0.1:80800"),
    ],
)
def test_a_mistake_would_be_seen(units: Path, unit: str, right: str, wrong: str) -> None:
    text = (units / unit).read_text()
    assert right in text
    (units / unit).write_text(text.replace(right, wrong))
    assert verified(units).stdout != ""


def test_the_service_can_do_little(units: Path) -> None:
    done = run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", units / SERVICE.name)
    assert done.returncode == 0, done.stdout


def test_the_threshold_says_something(units: Path) -> None:
    (units / SERVICE.name).write_text("[Service]\nExecStart=/bin/true\n")
    assert run("systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", units / SERVICE.name).returncode != 0


def test_the_lines_that_hand_over_a_secret_are_right_as_they_stand(units: Path) -> None:
    """They are comments; whoever takes the # away gets a unit that is valid, and a daemon that looks where the secret is."""
    text = (units / SERVICE.name).read_text()
    for line in ("LoadCredential=", "Environment=SSE_DAEMON_INGEST_CURVE_SECRET="):
        assert f"\n#{line}" in text
        text = text.replace(f"\n#{line}", f"\n{line}")
    (units / SERVICE.name).write_text(text)
    assert verified(units).stdout == ""
    (credential,) = values(units / SERVICE.name, "LoadCredential")
    name = credential.partition(":")[0]
    assert f"SSE_DAEMON_INGEST_CURVE_SECRET=%d/{name}" in values(units / SERVICE.name, "Environment")


def test_no_secret_is_in_the_unit_and_none_is_an_argument() -> None:
    """What the daemon is started with can be read by every user of the machine."""
    text = SERVICE.read_text() + SOCKET.read_text()
    assert not [word for word in ("Password", "Token", "SetCredential=") if word in text]
    (start,) = values(SERVICE, "ExecStart")
    assert start.split()[1:] == ["serve", "--config", "/etc/sse-daemon/sse-daemon.toml"]


def test_only_the_socket_families_that_are_needed_may_be_used() -> None:
    (families,) = values(SERVICE, "RestrictAddressFamilies")
    # Unix sockets, clients and producers by IP; AF_NETLINK is below.
    assert set(families.split()) == {"AF_UNIX", "AF_INET", "AF_INET6", "AF_NETLINK"}
    assert values(SERVICE, "CapabilityBoundingSet") == [""] and values(SERVICE, "NoNewPrivileges") == ["yes"]
    assert values(SERVICE, "User") == ["sse-daemon"]


def test_libzmq_may_do_what_it_aborts_without() -> None:
    """Found with strace, by refusing each: it lists the interfaces before a bind to tcp://, and sets its threads' policy."""
    (families,) = values(SERVICE, "RestrictAddressFamilies")
    assert "AF_NETLINK" in families.split()
    assert values(SERVICE, "SystemCallFilter")[-1] == "sched_setscheduler"


def test_the_drain_ends_before_systemd_loses_patience() -> None:
    (patience,) = values(SERVICE, "TimeoutStopSec")
    assert float(patience) >= 2 * DaemonConfig().drain_time


def test_the_socket_stands_for_the_default_address() -> None:
    assert values(SOCKET, "ListenStream") == list(HttpConfig().listen)
    assert values(SOCKET, "FileDescriptorName") == ["http"]


def test_the_service_starts_the_program_that_is_packaged() -> None:
    (start,) = values(SERVICE, "ExecStart")
    assert start.split()[:2] == [PROGRAM, "serve"]
    (admin,) = [value for value in values(SERVICE, "Environment") if "ADMIN" in value]
    (runtime,) = values(SERVICE, "RuntimeDirectory")
    assert admin == f"SSE_DAEMON_ADMIN_SOCKET=/run/{runtime}/admin.sock"


def test_the_user_is_made(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    done = run("systemd-sysusers", f"--root={tmp_path}", SYSTEMD / "sysusers.d" / "sse-daemon.conf")
    assert done.returncode == 0, done.stdout
    (user,) = values(SERVICE, "User")
    (group,) = values(SERVICE, "Group")
    assert f"{user}:" in (tmp_path / "etc" / "passwd").read_text()
    assert f"{group}:" in (tmp_path / "etc" / "group").read_text()


def test_systemd_never_gives_up_starting_it() -> None:
    """A full disk or a port in use may last for a night, and what systemd has given up stays down when it is over."""
    assert values(SERVICE, "Restart") == ["on-failure"]
    assert values(SERVICE, "StartLimitIntervalSec") == ["0"]
    unit = SERVICE.read_text()
    assert unit.index("[Unit]") < unit.index("StartLimitIntervalSec") < unit.index("[Service]")
