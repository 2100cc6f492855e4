"""Our own clients sign by themselves: the library and the command line against a daemon without any setting."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sse_daemon.consumer import Message, SubscribeRefused, subscribe
from sse_daemon.signer import Signer, generate
from tests.hardening.test_proof_memory import auth
from tests.integration.daemon import COMMAND, RunningDaemon, command, environ


async def received(stream: Any) -> str:
    async with asyncio.timeout(30):
        event = await anext(stream)
    assert isinstance(event, Message)
    return event.data


async def connected(stream: Any, daemon: RunningDaemon, signer: Signer) -> None:
    """Makes it connect, and takes the one event that it is sent."""
    first = asyncio.ensure_future(received(stream))
    async with asyncio.timeout(30):
        while not (await asyncio.to_thread(daemon.ask, "clients"))["clients"] and not first.done():
            await asyncio.sleep(0.01)
    await asyncio.to_thread(daemon.ask, "inject", "--to", signer.public, "first")
    assert await first == "first"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return generate(tmp_path / "key")


async def test_the_library_signs_each_connection_and_its_cursor(signer: Signer) -> None:
    with RunningDaemon(dev=False, backend="sqlite:///{directory}/log.db") as daemon:
        async with subscribe(daemon.events, key=signer, types=["*"], retry_min=0.05, retry_max=0.2) as stream:
            await connected(stream, daemon, signer)
            await asyncio.to_thread(daemon.stop)
            await asyncio.to_thread(daemon.start)
            await asyncio.to_thread(daemon.ask, "inject", "--to", signer.public, "missed")
            assert await received(stream) == "missed"
            daemon.ask("kick", "--participant", signer.public)
            await asyncio.to_thread(daemon.ask, "inject", "--to", signer.public, "again")
            assert await received(stream) == "again"


@pytest.mark.parametrize("wrong", [-3600.0, 3600.0, 20.0])
async def test_a_clock_that_is_wrong_is_no_obstacle(signer: Signer, wrong: float) -> None:
    signer.ahead = wrong
    with RunningDaemon(auth(state="memory"), dev=False) as daemon:
        async with subscribe(daemon.events, key=signer, retry_min=60, retry_max=60) as stream:
            # With such a wait after a lost connection, it has to be signed again at once.
            await connected(stream, daemon, signer)
        assert abs(signer.ahead) < 3


async def test_through_a_unix_socket(signer: Signer, tmp_path: Path) -> None:
    with RunningDaemon(dev=False, http=("127.0.0.1:0", f"unix:{tmp_path}/s")) as daemon:
        async with subscribe("http://localhost/events", key=tmp_path / "key", uds=f"{tmp_path}/s") as stream:
            await connected(stream, daemon, signer)


async def test_who_does_not_sign_is_told_so() -> None:
    with RunningDaemon(dev=False) as daemon:
        async with subscribe(daemon.events, Signer(bytes(32)).public) as stream:
            with pytest.raises(SubscribeRefused) as caught:
                await anext(stream)
    assert (caught.value.status, caught.value.code) == (401, "signature_required")


def test_a_key_and_a_claim_do_not_go_together(signer: Signer) -> None:
    with pytest.raises(ValueError, match="either"):
        subscribe("http://h/", "alice", key=signer)


# The command line


@contextmanager
def subscribing(daemon: RunningDaemon, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    command = [*COMMAND, "subscribe", daemon.events, *arguments]
    with subprocess.Popen(command, env=environ({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def test_a_key_is_made_and_used_on_the_command_line(tmp_path: Path, until_blocking: Any) -> None:
    file = str(tmp_path / "alice.key")
    made = command("keygen", file)
    assert made.returncode == 0 and re.fullmatch(r"[\w-]{43}\n", made.stdout), made.stderr
    public = made.stdout.strip()
    assert command("keygen", "--show", file).stdout == made.stdout
    with RunningDaemon(dev=False) as daemon:
        with subscribing(daemon, "--key", file, "--count", "1", "--json") as process:
            until_blocking(lambda: daemon.ask("clients")["clients"], "its stream")
            daemon.ask("inject", "--to", public, "--wait", "hello")
            out, _ = process.communicate(timeout=30)
        assert process.returncode == 0 and json.loads(out)["data"] == "hello"
        done = command("subscribe", daemon.events, "--participant", public)
        assert done.returncode == 1 and "signature_required" in done.stderr
    secret = Path(file).read_text().strip()
    assert secret not in made.stdout + made.stderr


def test_what_goes_wrong_with_keys_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "there").touch(0o600)
    for arguments, status, words in (
        (("keygen", f"{tmp_path}/there"), 1, "exists already"),
        (("keygen", "--show", f"{tmp_path}/there"), 1, "no key file"),
        (("keygen", f"{tmp_path}/no/key"), 1, "No such file"),
        (("subscribe", "--key", f"{tmp_path}/none"), 1, "No such file"),
        (("subscribe", "--key", f"{tmp_path}/there"), 1, "no key file"),
    ):
        done = command(*arguments)
        assert done.returncode == status and words in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
    command("keygen", f"{tmp_path}/key")
    assert command("subscribe", "--key", f"{tmp_path}/key", "--participant", "a").returncode == 2
