"""The peers of the benchmark: that each starts, carries events to whom they are for, and leaves nothing behind."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
import zmq

from bench.peers import PEERS, Peer, PeerError, Running, nchan, probe
from bench.peers.better_sse import BetterSse
from bench.peers.cache import Cached
from bench.peers.nchan import Nchan
from bench.peers.process import Child, alive, free_port, free_ports, launch
from bench.peers.pushpin import ITEM, Pushpin
from bench.peers.sse_starlette import SseStarlette
from sse_daemon.bench.target import HttpPublish, ZmqPublish
from tests.conftest import Deadline
from tests.integration.daemon import ROOT

CORE = min(os.sched_getaffinity(0))


# Each peer that is here -------------------------------------------------------------------------------------------------------


@pytest.mark.may_skip("nobody installs the daemon's peers for a test")
@pytest.mark.parametrize("peer", PEERS, ids=lambda peer: peer.name)
def test_each_subscriber_gets_what_is_for_its_key_and_nothing_is_left(peer: Peer, tmp_path: Path) -> None:
    if missing := peer.missing():
        pytest.skip(f"{peer.name}: {missing}")
    running = peer.start(core=CORE, directory=tmp_path)
    try:
        assert running.pids
        assert {tuple(os.sched_getaffinity(pid)) for pid in running.pids} == {(CORE,)}
        assert "unknown" not in running.version
        assert received(running, "k1", publish=[("k2", "for-another"), ("k1", "for-this-one")]) == "for-this-one"
    finally:
        running.stop()
    assert not any(map(alive, running.pids))
    running.stop()


def received(running: Running, key: str, *, publish: list[tuple[str, str]]) -> str:
    """The first of the published events that a subscriber with this key got; published until it got one, as it may not be known yet."""
    limit = Deadline()
    with closing(socket.create_connection((running.host, running.port))) as subscriber, probe.publisher(running.publish) as send:
        subscriber.settimeout(0.1)
        subscriber.sendall(running.subscribe(key))
        seen = b""
        while not (found := re.search(rb"(for-[a-z-]+)\W", seen)):
            assert limit.left(), f"nothing came: {seen!r}"
            with suppress(TimeoutError):
                seen += subscriber.recv(65536)
            for event in publish:
                send(*event)
    return found[1].decode()


# What is missing --------------------------------------------------------------------------------------------------------------


def test_a_missing_module_of_nginx_is_told_with_the_line_that_brings_it(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(nchan, "MODULE", tmp_path / "none.so")
    assert "not installed: apt-get install -y --no-install-recommends nginx-core libnginx-mod-nchan" in str(Nchan().missing())


def test_missing_programs_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert str(Pushpin().missing()).startswith("pushpin and zurl are not installed: apt-get install ")
    (tmp_path / "zurl").touch(mode=0o755)
    assert str(Pushpin().missing()).startswith("pushpin is not installed: ")
    assert str(BetterSse(tmp_path).missing()).startswith("node or npm is not installed: apt-get install ")


def test_an_old_node_is_not_good_enough(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    for program in ("node", "npm"):
        (tmp_path / program).touch(mode=0o755)
    (tmp_path / "node").write_text("#!/bin/sh\necho v18.19.0\n")
    assert str(BetterSse(tmp_path).missing()).startswith("node 18.19.0 is too old, 20 is needed")


def test_what_the_cache_lacks_is_installed_by_this_package(tmp_path: Path) -> None:
    line = "its packages are not installed: python -m bench.peers install sse-starlette"
    assert SseStarlette(tmp_path).missing() == line


def test_the_cache_is_good_only_with_exactly_the_versions_asked_for(tmp_path: Path) -> None:
    cached = Cached(name="some", pins=("a==1", "b==2"), cache=tmp_path)
    with pytest.raises(PeerError, match="(?s)some: sh .* ended with status 3:.no network"):
        cached.install(["sh", "-c", "touch half; echo no network; exit 3"])
    assert not cached.ready
    cached.install(["sh", "-c", "touch whole"])
    assert cached.ready and (cached.folder / "whole").exists()
    cached.install(["false"])
    assert not Cached(name="some", pins=("a==1", "b==3"), cache=tmp_path).ready


def test_the_command_says_of_each_peer_whether_it_is_there() -> None:
    done = subprocess.run([sys.executable, "-m", "bench.peers"], check=True, cwd=ROOT, capture_output=True, text=True)
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [peer.name for peer in PEERS]


# How one publishes ------------------------------------------------------------------------------------------------------------


def test_pushpin_gets_json_with_a_letter_before_it() -> None:
    (frame,) = ZmqPublish(address="tcp://127.0.0.1:1", kind="push", frames=(ITEM,)).message("k7", "@@1@@xx")
    assert frame[:1] == b"J"
    assert json.loads(frame[1:]) == {"channel": "k7", "formats": {"http-stream": {"content": "data: @@1@@xx\n\n"}}}


def test_a_zeromq_publisher_delivers_its_frames() -> None:
    with zmq.Context() as context, context.socket(zmq.PULL) as puller:
        port = puller.bind_to_random_port("tcp://127.0.0.1")
        puller.setsockopt(zmq.RCVTIMEO, 10_000)
        publish = ZmqPublish(address=f"tcp://127.0.0.1:{port}", kind="push", frames=("to {key}", "{data}"))
        with probe.publisher(publish) as send:
            send("k", "x")
            assert puller.recv_multipart() == [b"to k", b"x"]


# Ready or not -----------------------------------------------------------------------------------------------------------------


def described(child: Child, port: int) -> Running:
    """A peer that consists of this child."""
    publish = HttpPublish(host="127.0.0.1", port=port, path="/pub?id={key}")
    return Running(
        name="some", version="1", pids=(), host="127.0.0.1", port=port, path="/sub?id={key}", publish=publish, stop=child.stop
    )


def test_a_peer_that_dies_is_reported_at_once_with_the_end_of_its_log(tmp_path: Path) -> None:
    child = launch(["sh", "-c", "echo the port is taken; exit 4"], core=None, directory=tmp_path, log="some.log")
    with pytest.raises(PeerError, match="(?s)ended with status 4:.the port is taken"):
        probe.when_ready(described(child, free_port()), child)


def test_a_peer_that_answers_errors_is_not_ready_and_is_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(probe, "READY_WITHIN", 0.5)
    port = free_port()
    child = launch(
        [sys.executable, "-m", "http.server", str(port), "-b", "127.0.0.1"], core=None, directory=tmp_path, log="some.log"
    )
    (server,) = child.pids
    with pytest.raises(PeerError, match="some: no event came through within"):
        probe.when_ready(described(child, port), child)
    assert not alive(server)


def test_ports_that_are_free_together_differ() -> None:
    assert len(set(free_ports(50))) == 50


# The end ----------------------------------------------------------------------------------------------------------------------

FAMILY = "trap '' TERM; sleep 1000 & echo $!; wait"
"""A server that does not end by itself, with a process of its own."""


def test_stop_ends_what_a_child_started_too(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, until_blocking: Callable[..., Any]
) -> None:
    monkeypatch.setattr("bench.peers.process.STOP_WITHIN", 0.1)
    child = launch(["sh", "-c", FAMILY], core=CORE, directory=tmp_path, log="some.log")
    until_blocking(lambda: len(child.pids) == 2 and (tmp_path / "some.log").read_text())
    pids = child.pids
    child.stop()
    assert not any(map(alive, pids))


def test_a_benchmark_that_is_killed_takes_its_peers_with_it(tmp_path: Path, until_blocking: Callable[..., Any]) -> None:
    script = (
        "import sys, time; from pathlib import Path; from bench.peers.process import launch\n"
        f"child = launch(['sleep', '1000'], core=None, directory=Path({str(tmp_path)!r}), log='some.log')\n"
        "print(child.pids[0], flush=True); time.sleep(1000)"
    )
    benchmark = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with benchmark:
        assert benchmark.stdout is not None
        peer = int(benchmark.stdout.readline())
        until_blocking(lambda: Path(f"/proc/{peer}/cmdline").read_bytes().startswith(b"sleep"))
        benchmark.send_signal(signal.SIGKILL)
    until_blocking(lambda: not alive(peer))
