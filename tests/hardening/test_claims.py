"""Mode "claim" is seen from everywhere, and reaches nobody by accident."""

from __future__ import annotations

import os
import socket
import subprocess
import sys

import httpx
import pytest

from tests.hardening.signing import Visitor
from tests.integration.daemon import COMMAND, RunningDaemon, environ

CLAIM = '[auth]\nmode = "claim"\n'


def test_it_is_seen_from_everywhere() -> None:
    with RunningDaemon(CLAIM, dev=False) as daemon:
        assert daemon.ready["auth"] == "claim"
        assert not daemon.lines(WARNING), "nobody else reaches it"
        for door in ("lean", "handlers"):
            with Visitor(daemon, door) as visitor:
                for answer in (visitor.ask("/events", ("X-Public-Key", "a")), visitor.ask("/events"), visitor.ask("/nowhere")):
                    assert answer.header("Sse-Daemon-Auth") == "claim"
        assert daemon.ask("stats")["metrics"]["clients_unproven"] == 1.0
        assert daemon.ask("clients")["auth"] == "claim"
        for command in ("clients", "stats"):
            assert 'mode is "claim": nothing proves' in daemon.command(command).stderr


WARNING = "every client is believed who it says it is, also from other machines"


@pytest.mark.parametrize("workers", [1, 2])
def test_it_is_warned_of_where_others_can_reach_it(workers: int) -> None:
    config = f'{CLAIM}claim_is_trusted_network = "on"\n[daemon]\nworkers = {workers}\n'
    with RunningDaemon(config, dev=False, http=("0.0.0.0:0",)) as daemon:
        (line,) = daemon.lines(WARNING)
        assert (line["level"], line["http"]) == ("warning", daemon.ready["http"])


def test_proof_says_nothing_of_the_kind() -> None:
    with RunningDaemon(dev=False) as daemon:
        assert not daemon.lines(WARNING)
        assert "Sse-Daemon-Auth" not in httpx.get(daemon.http + "/healthz").headers
        assert daemon.ask("clients")["auth"] == "proof"
        assert daemon.command("clients").stderr == daemon.command("stats").stderr == ""


INHERIT = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ["LISTEN_PID"], os.environ["LISTEN_FDS"] = str(os.getpid()), "1"
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_a_socket_that_is_handed_over_is_looked_at_too() -> None:
    with RunningDaemon(CLAIM, dev=False) as other, socket.create_server(("0.0.0.0", 0)) as outside:
        other.stop()
        arguments = ["serve", "--config", str(other.directory / "sse-daemon.toml"), "--admin", str(other.admin)]
        sockets = ["--pubsub", "tcp://127.0.0.1:0", "--acked", "tcp://127.0.0.1:0"]
        done = subprocess.run(
            [sys.executable, "-c", INHERIT, str(outside.fileno()), *COMMAND, *arguments, *sockets],
            env={**environ({}), "STATE_DIRECTORY": str(other.directory)},
            pass_fds=[outside.fileno()],
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
        assert done.returncode == 1
        assert "can be reached from outside of this machine" in done.stderr
        assert not os.path.exists(other.admin)
