"""What is remembered of proofs, and what happens where it cannot be: restarts, full tables, other processes, floods."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.hardening.signing import ALICE, BOB, Key, Visitor, code, host_of, signed
from tests.hardening.test_proof import outcomes
from tests.integration.daemon import RunningDaemon


def auth(**settings: Any) -> str:
    """A configuration with these settings of [auth]."""
    return "[auth]\n" + "".join(f"{key} = {value!r}\n" for key, value in settings.items())


@pytest.mark.parametrize("kill", [False, True])
def test_a_restart_forgets_nothing(kill: bool) -> None:
    with RunningDaemon(dev=False) as daemon, Visitor(daemon) as visitor:
        used, unused = (signed(ALICE, host=host_of(daemon)) for _ in range(2))
        assert visitor.ask("/events", *used).status == 200
        for _ in range(2):
            daemon.restart(kill=kill)
            assert visitor.refused("/events", *used) == (401, "replayed")
        assert visitor.ask("/events", *unused).status == 200


def test_without_a_memory_what_was_signed_before_the_start_is_refused() -> None:
    with RunningDaemon(auth(state="memory"), dev=False) as daemon, Visitor(daemon) as visitor:
        used, unused = (signed(ALICE, host=host_of(daemon)) for _ in range(2))
        assert visitor.ask("/events", *used).status == 200
        assert visitor.refused("/events", *used) == (401, "replayed")
        daemon.restart()
        for headers in (used, unused):
            assert visitor.refused("/events", *headers) == (401, "sign_again")
        assert visitor.sign(ALICE).status == 200, "and what is signed now is served at once"
        # Otherwise it could be used before a restart, and be younger than the start after it.
        assert code(visitor.sign(ALICE, created=int(time.time()) + 3)) == (401, "sign_again")


def test_after_a_crash_of_the_machine_the_memory_is_not_believed() -> None:
    with RunningDaemon(dev=False) as daemon, Visitor(daemon) as visitor:
        headers = signed(ALICE, host=host_of(daemon), created=int(time.time()) + 4)
        assert visitor.ask("/events", *headers).status == 200
        daemon.stop()
        file = daemon.directory / "state" / "nonces"
        line, _, rest = file.read_bytes().partition(b"\n")
        assert rest
        # What a power cut leaves: what was written last is gone, and the kernel has another name for its run.
        file.write_bytes(line[:-4] + b"0000\n")
        daemon.start()
        assert visitor.refused("/events", *headers) == (401, "sign_again")
        assert visitor.sign(ALICE).status == 200


@pytest.mark.parametrize("workers", [1, 2])
def test_a_full_table_refuses_and_forgets_nothing(workers: int) -> None:
    config = auth(max_nonces=3) + f"[daemon]\nworkers = {workers}\n"
    with RunningDaemon(config, dev=False) as daemon, Visitor(daemon) as visitor:
        used = [signed(ALICE, host=host_of(daemon)) for _ in range(3)]
        assert [visitor.ask("/events", *headers).status for headers in used] == [200] * 3
        response = visitor.sign(BOB)
        assert code(response) == (503, "nonces_full")
        assert response.header("Retry-After") is not None
        assert {visitor.refused("/events", *headers) for headers in used} == {(401, "replayed")}
        daemon.restart()
        assert {visitor.refused("/events", *headers) for headers in used} == {(401, "replayed")}


def test_room_comes_back_when_signatures_expire(until_blocking: Any) -> None:
    with RunningDaemon(auth(max_nonces=1), dev=False) as daemon, Visitor(daemon) as visitor:
        assert visitor.sign(ALICE, lasts=1).status == 200
        assert code(visitor.sign(ALICE)) == (503, "nonces_full")
        until_blocking(lambda: visitor.sign(BOB, lasts=1).status == 200, "room for another nonce")


def test_workers_share_one_memory() -> None:
    with RunningDaemon("[daemon]\nworkers = 2\n", dev=False) as daemon:
        for _ in range(3):
            assert outcomes(daemon, signed(ALICE, host=host_of(daemon))) == {200: 1, 401: 15}
        assert daemon.ask("stats")["metrics"]["nonces"] == 3


# A mode that cannot do its work does not start


def test_a_folder_that_cannot_be_written_keeps_it_from_starting(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status, reason = failed_start(auth(state=str(tmp_path / "file" / "below")))
    assert status == 1 and "nonces cannot be kept in" in reason


def failed_start(config: str = "", **environ: str) -> tuple[int, str]:
    """The exit status and the reason of a daemon that does not start."""
    daemon = RunningDaemon(config, dev=False, env=environ)
    try:
        daemon.launch()
        status = daemon.wait()
        (line,) = daemon.lines("cannot start")
    finally:
        shutil.rmtree(daemon.directory)
    return status, line["reason"]


def test_two_daemons_have_two_memories() -> None:
    with RunningDaemon(dev=False) as first:
        status, reason = failed_start(STATE_DIRECTORY=str(first.directory / "state"))
        assert status == 1 and "another daemon keeps its nonces" in reason


# Floods


ALONE = "[http]\nshared_addresses = []\n"


def test_bad_signatures_cost_their_address_its_turn_and_nobody_elses() -> None:
    with RunningDaemon(auth(verify_rate_address=5.0) + ALONE, dev=False) as daemon, Visitor(daemon) as visitor:
        bad = [("Signature", f"sig=:{'A' * 86}==:")]
        seen: Counter[tuple[int, str]] = Counter()
        for _ in range(60):
            headers = [header for header in signed(ALICE, host=host_of(daemon)) if header[0] != "Signature"]
            response = visitor.ask("/events", *headers, *bad, source="127.0.0.9")
            seen[code(response)] += 1
            if response.status == 429:
                assert int(response.header("Retry-After") or 0) >= 1
        assert seen.keys() == {(401, "bad_signature"), (429, "too_many_signatures")}
        assert seen[429, "too_many_signatures"] > 30
        assert visitor.sign(ALICE).status == 200


def test_all_addresses_together_are_limited_too() -> None:
    with RunningDaemon(auth(verify_rate=5.0), dev=False) as daemon, Visitor(daemon) as visitor:
        seen = Counter(visitor.sign(ALICE, source=f"127.0.0.{number}").status for number in range(2, 62))
        assert seen.keys() == {200, 429}
        assert seen[429] > 30


def test_a_proxys_clients_are_not_one() -> None:
    with RunningDaemon(auth(verify_rate_address=1.0), dev=False) as daemon, Visitor(daemon) as visitor:
        assert {visitor.sign(ALICE).status for _ in range(20)} == {200}


def test_what_is_refused_for_nothing_takes_no_turn() -> None:
    with RunningDaemon(auth(verify_rate_address=5.0) + ALONE, dev=False) as daemon, Visitor(daemon) as visitor:
        for _ in range(30):
            assert code(visitor.sign(ALICE, lasts=61)) == (401, "bad_signature")
            assert code(visitor.sign(ALICE, keyid=BOB.public)) == (401, "bad_signature")
            assert code(visitor.sign(ALICE, host="127.0.0.1:1")) == (421, "wrong_authority")
        assert visitor.sign(ALICE).status == 200


# The stream


def test_a_stream_lasts_as_long_as_its_proof() -> None:
    with RunningDaemon(auth(proof_lifetime=1.0), dev=False) as daemon, Visitor(daemon) as visitor:
        messages = visitor.sign(ALICE).rest()
        assert [message.type for message in messages] == ["connected", "bye"]


def test_no_key_of_many_reads_anothers_events() -> None:
    keys = [Key.of(number) for number in range(10, 20)]
    with RunningDaemon(dev=False) as daemon, Visitor(daemon) as visitor:
        streams = [visitor.sign(key) for key in keys]
        for key in keys:
            done = daemon.command("inject", "--to", key.public, "--wait", key.public)
            assert done.returncode == 0, done.stderr
        for key, stream in zip(keys, streams, strict=True):
            stream.wait(lambda stream=stream: len(stream.messages) >= 2)  # type: ignore[misc]
            assert [message.data for message in stream.messages[1:]] == [key.public]


def test_the_memory_is_its_owners_alone() -> None:
    with RunningDaemon(dev=False) as daemon:
        folder = daemon.directory / "state"
        modes = {path.name: os.stat(path).st_mode & 0o777 for path in (folder, *folder.iterdir())}
        assert modes == {"state": 0o700, "nonces": 0o600, "nonces.lock": 0o600}
