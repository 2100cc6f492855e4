"""`serve` and `check-config`: what starts, what refuses to and says why, and how it ends."""

from __future__ import annotations

import json
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.daemon import RunningDaemon, command

Until = Callable[..., Any]
ANY = ("--http", "127.0.0.1:0", "--pubsub", "tcp://127.0.0.1:0", "--acked", "tcp://127.0.0.1:0")


# Refusals


def test_claims_are_believed_on_this_machine_only_unless_twice_said(tmp_path: Path) -> None:
    arguments = ("serve", "--admin", str(tmp_path / "a"), "--http", "0.0.0.0:0", *ANY[2:])
    done = command(*arguments, SSE_DAEMON_AUTH_MODE="claim")
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith("sse-daemon: SSE_DAEMON_AUTH_MODE: '0.0.0.0:0' can be reached from outside of this machine")
    assert not (tmp_path / "a").exists()
    claim = '[auth]\nmode = "claim"\nclaim_is_trusted_network = "on"\n'
    with RunningDaemon(config=claim, dev=False, http=("0.0.0.0:0",)) as daemon:
        assert daemon.ready["auth"] == "claim"


def test_every_mistake_is_told_before_anything_is_opened(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[http]\nlisten = ["nonsense"]\n[backend]\nurll = "x"\n[nonsense]\n')
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        arguments = ("--config", str(file), "--pubsub", f"tcp://127.0.0.1:{port}", "--acked", "nonsense")
        done = command("serve", "--dev", *arguments, SSE_DAEMON_LOG_LEVEL="loud")
    lines = done.stderr.splitlines()
    assert done.returncode == 2
    assert all(line.startswith("sse-daemon: ") for line in lines)
    places = ("[http] listen: ", "[backend] urll: ", "[nonsense]: ", "SSE_DAEMON_LOG_LEVEL: ", "--acked: ")
    assert len(lines) == len(places)
    for place in places:
        assert [line for line in lines if place in line], place
    assert not [line for line in lines if str(port) in line]


@pytest.mark.parametrize("url", ["nosuch://x", "memory://with-more", "sqlite://"])
def test_a_backend_that_cannot_be_is_a_mistake_of_configuration(url: str, tmp_path: Path) -> None:
    done = command("serve", "--dev", *ANY, "--admin", str(tmp_path / "a"), "--backend", url)
    assert done.returncode == 2
    assert done.stderr.startswith("sse-daemon: --backend: ")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("url", ["nosuch://x", "memory://with-more", "sqlite://log.db"])
def test_the_url_of_the_log_is_a_mistake_among_the_others(url: str, tmp_path: Path) -> None:
    file = tmp_path / "daemon.toml"
    file.write_text(f'[http]\nlistne = []\n[backend]\nurl = "{url}"\n')
    for arguments in (("serve", "--config", str(file)), ("check-config", str(file))):
        done = command(*arguments)
        assert done.returncode == 2
        assert [line.partition("] ")[2].partition(":")[0] for line in done.stderr.splitlines()] == ["listne", "url"]


def test_a_url_that_the_next_start_would_refuse_is_refused_by_a_reload(until_blocking: Until) -> None:
    claim = '[auth]\nmode = "claim"\n'
    with RunningDaemon(claim, backend="", dev=False) as daemon:
        daemon.configure(claim + '[backend]\nurl = "foo://"\n')
        daemon.signal(signal.SIGHUP)
        (line,) = until_blocking(lambda: daemon.lines("configuration not reloaded"), "the refusal")
        assert "[backend] url: nobody serves the scheme 'foo'" in line["mistake"]


@pytest.mark.parametrize("option", ["--http", "--pubsub", "--acked"])
def test_dev_is_for_this_machine_only(option: str, tmp_path: Path) -> None:
    address = "0.0.0.0:0" if option == "--http" else "tcp://0.0.0.0:0"
    done = command("serve", "--dev", "--admin", str(tmp_path / "a"), option, address)
    assert done.returncode == 2
    assert f"{option}: '{address}' can be reached from outside" in done.stderr


@pytest.mark.parametrize("kind", ["http", "pubsub", "acked", "admin"])
def test_an_address_in_use_is_one_line_that_names_it(kind: str) -> None:
    with RunningDaemon() as first, RunningDaemon() as second:
        second.stop()
        own = {
            "http": ("--http", first.http.removeprefix("http://")),
            "pubsub": ("--pubsub", first.pubsub),
            "acked": ("--acked", first.acked),
            "admin": ("--admin", str(first.admin)),
        }
        second.launch(*own[kind])
        assert second.wait() == 1
        (line,) = second.lines("cannot start")
        assert own[kind][1] in line["reason"]
        assert "Traceback" not in second.log()
        assert first.command("clients").returncode == 0, "the first one's socket was taken away"


# What it says and does when it runs


def test_dev_says_loudly_what_it_means() -> None:
    with RunningDaemon() as daemon:
        assert "DEVELOPMENT MODE (--dev)" in daemon.log()
        assert "events are kept in memory and are gone when this process ends" in daemon.log()
    with RunningDaemon(config='[auth]\nmode = "claim"', dev=False) as daemon:
        assert "DEVELOPMENT" not in daemon.log()
    with RunningDaemon(backend="sqlite:///{directory}/log.db") as daemon:
        assert "DEVELOPMENT" in daemon.log()
        assert "in memory" not in daemon.log()


def test_the_ready_line_names_every_address() -> None:
    with RunningDaemon(http=("127.0.0.1:0", "[::1]:0"), acked=("tcp://127.0.0.1:0", "tcp://127.0.0.1:0")) as daemon:
        (ready,) = daemon.lines("ready")
        assert len(ready["http"].split(",")) == 2
        assert len(ready["ingest"].split(",")) == 3
        assert ready["admin"] == str(daemon.admin)
        assert not {address for address in (*ready["http"].split(","), *ready["ingest"].split(",")) if address.endswith(":0")}


def test_an_option_wins_over_the_environment_and_that_over_the_file(tmp_path: Path) -> None:
    paths = {name: str(tmp_path / f"{name}.sock") for name in ("file", "environment", "option")}
    config = f'[auth]\nmode = "claim"\n[log]\nformat = "json"\n[http]\nlisten = ["unix:{paths["file"]}"]\n'
    env = {"SSE_DAEMON_HTTP_LISTEN": f"unix:{paths['environment']}"}
    with RunningDaemon(config=config, env=env, dev=False, http=()) as daemon:
        assert daemon.ready["http"] == f"unix:{paths['environment']}"
        daemon.stop()
        daemon.http_addresses = [f"unix:{paths['option']}"]
        daemon.start()
        assert daemon.ready["http"] == f"unix:{paths['option']}"


def test_the_environment_may_name_the_file(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text("[nonsense]")
    done = command("serve", "--dev", SSE_DAEMON_CONFIG=str(file))
    assert done.returncode == 2
    assert f"{file}: [nonsense]" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_with_status_0(number: int) -> None:
    with RunningDaemon() as daemon:
        daemon.signal(number)
        assert daemon.wait() == 0
        assert not daemon.admin.exists()


def test_sighup_reads_the_same_sources_again(until_blocking: Until) -> None:
    with RunningDaemon(config="[streams]\nlimit = 5\n") as daemon:
        daemon.configure('[streams]\nlimit = 6\n[ingest]\nmax_frame = 1000\n[http]\nlisten = ["127.0.0.1:1"]\n')
        daemon.signal(signal.SIGHUP)
        (line,) = until_blocking(lambda: daemon.lines("configuration reloaded"), "the reload")
        assert line["changed"] == "streams.limit"
        assert line["restart_needed_for"] == "ingest.max_frame", "the option --http still wins over the file"
        daemon.configure("[nonsense]")
        daemon.signal(signal.SIGHUP)
        (mistake,) = until_blocking(lambda: daemon.lines("configuration not reloaded"), "the refusal")
        assert "[nonsense]: unknown table" in mistake["mistake"]
        assert daemon.command("clients").returncode == 0


# check-config


def test_check_config_finds_what_serve_would(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[http]\nlisten = "x"\n[strems]\n')
    done = command("check-config", str(file))
    assert (done.returncode, done.stdout) == (2, "")
    assert len(done.stderr.splitlines()) == 2
    assert "did you mean [streams]?" in done.stderr
    as_json = command("check-config", "--json", SSE_DAEMON_CONFIG=str(file))
    assert (as_json.returncode, as_json.stderr) == (2, "")
    answer = json.loads(as_json.stdout)
    assert answer["ok"] is False
    assert [f"sse-daemon: {mistake}" for mistake in answer["mistakes"]] == done.stderr.splitlines()


def test_check_config_passes_what_serve_would_start(tmp_path: Path) -> None:
    file = tmp_path / "c.toml"
    file.write_text('[auth]\nmode = "claim"\n')
    assert command("check-config", str(file)).stdout == f"{file}: no mistakes\n"
    assert json.loads(command("check-config", str(file), "--json").stdout) == {"ok": True, "mistakes": []}
    file.write_text("")
    assert command("check-config", str(file)).returncode == 0
    assert command("check-config", str(file), SSE_DAEMON_PARTICIPANTS_KEYS="opaque").returncode == 2
    assert command("check-config", str(file), "--dev", SSE_DAEMON_PARTICIPANTS_KEYS="opaque").returncode == 0
    assert command("check-config", SSE_DAEMON_AUTH_MODE="claim").stdout == "defaults and environment: no mistakes\n"
    assert command("check-config", str(file), "--dev", SSE_DAEMON_BACKEND_URL="nosuch://").returncode == 0, "--dev: memory"
    assert command("check-config", SSE_DAEMON_AUTH_MODE="claim", SSE_DAEMON_BACKEND_URL="nosuch://").returncode == 2


def test_check_config_opens_nothing(tmp_path: Path) -> None:
    log = tmp_path / "log.db"
    done = command("check-config", SSE_DAEMON_AUTH_MODE="claim", SSE_DAEMON_BACKEND_URL=f"sqlite://{log}")
    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []
