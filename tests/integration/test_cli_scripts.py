"""`publish`, `subscribe` and `tail`: an ordinary producer and client for scripts, and the operator who looks on."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import pytest

from tests.integration.daemon import COMMAND, RunningDaemon, command, environ

Until = Callable[..., Any]


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon() as running:
        yield running


class Background:
    """`sse-daemon ARGUMENTS` beside the test; what it prints goes into files."""

    def __init__(self, tmp_path: Path, *arguments: str, **added: str) -> None:
        self._output, self._errors = tmp_path / "output", tmp_path / "errors"
        with self._output.open("w") as output, self._errors.open("w") as errors:
            command = [*COMMAND, *arguments]
            self.process = subprocess.Popen(command, env=environ(added), stdin=subprocess.PIPE, stdout=output, stderr=errors)

    def lines(self) -> list[str]:
        return [line for line in self._output.read_text().splitlines(keepends=True) if line.endswith("\n")]

    def objects(self) -> list[Any]:
        return [json.loads(line) for line in self.lines()]

    @property
    def errors(self) -> str:
        return self._errors.read_text()

    def feed(self, raw: bytes) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(raw)
        self.process.stdin.flush()

    def end(self) -> None:
        """The end of its standard input."""
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.stdin = None

    def interrupt(self) -> int:
        """Ctrl-C; the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(30)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


def subscriber(daemon: RunningDaemon, tmp_path: Path, until: Until, *arguments: str) -> Background:
    """A `subscribe` whose stream is open."""
    client = Background(tmp_path, "subscribe", daemon.events, *arguments)
    until(lambda: daemon.ask("clients")["clients"], "the stream to be open")
    return client


# subscribe


def test_subscribe_prints_events_for_people(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with subscriber(daemon, tmp_path, until_blocking, "--participant", "alice") as alice:
        first = daemon.command("inject", "--to", "alice", "--type", "note", "two\nlines \x1b[31m").stdout.strip()
        daemon.command("inject", "--to", "bob", "not hers")
        second = daemon.command("inject", "--to", "*", "for all").stdout.strip()
        until_blocking(lambda: len(alice.lines()) >= 2, "two events")
        assert alice.lines() == [f"{first}  note  two\\nlines \\x1b[31m\n", f"{second}  message  for all\n"]
        assert alice.interrupt() == 0
        assert alice.errors == ""


def test_subscribe_prints_objects_for_programs(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with subscriber(daemon, tmp_path, until_blocking, "--participant", "alice", "--json", "--count", "2") as alice:
        ids = [daemon.command("inject", "--to", "alice", data).stdout.strip() for data in ("one", "a\nb ü \x1b")]
        assert alice.process.wait(30) == 0
        expected = [{"id": id, "type": "message", "data": data} for id, data in zip(ids, ("one", "a\nb ü \x1b"), strict=True)]
        assert alice.objects() == expected


def test_subscribe_filters(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    options = ("--participant", "a", "--types", "x,y", "--topics", "t.*", "--count", "2", "--json")
    with subscriber(daemon, tmp_path, until_blocking, *options) as client:
        for kind, topic in (("x", "t.1"), ("z", "t.1"), ("x", "u"), ("y", "t.2")):
            daemon.command("inject", "--to", "a", "--type", kind, "--topic", topic, f"{kind} {topic}")
        assert client.process.wait(30) == 0
        assert [event["data"] for event in client.objects()] == ["x t.1", "y t.2"]


def test_subscribe_resumes_after_an_id(daemon: RunningDaemon) -> None:
    ids = [daemon.command("inject", "--to", "alice", str(n)).stdout.strip() for n in range(4)]
    options = ("--participant", "alice", "--last-event-id", ids[1], "--count", "2", "--json")
    done = command("subscribe", daemon.events, *options)
    assert done.returncode == 0, done.stderr
    assert [json.loads(line)["data"] for line in done.stdout.splitlines()] == ["2", "3"]


def test_subscribe_shows_a_hole(daemon: RunningDaemon) -> None:
    options = ("--participant", "alice", "--last-event-id", "000000000000-7", "--count", "1")
    said = command("subscribe", daemon.events, *options).stdout
    assert said.split()[1:] == ["resync", "backend_reset"]
    told = json.loads(command("subscribe", daemon.events, *options, "--json").stdout)
    assert (told["type"], told["reason"], told["missed"]) == ("resync", "backend_reset", None)


def test_subscribe_reconnects_and_says_so(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with subscriber(daemon, tmp_path, until_blocking, "--participant", "alice", "--json") as alice:
        daemon.restart(kill=True)
        until_blocking(lambda: daemon.ask("clients")["clients"], "the client to be back")
        daemon.command("inject", "--to", "alice", "after")
        until_blocking(lambda: alice.lines()[-1:] and alice.objects()[-1].get("data") == "after", "the event")
        assert "connection lost" in alice.errors
        assert "Traceback" not in alice.errors


def test_subscribe_to_nothing_says_where_it_looked(tmp_path: Path, until_blocking: Until) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
        with Background(tmp_path, "subscribe", f"http://127.0.0.1:{port}/events") as client:
            until_blocking(lambda: client.errors, "the complaint")
    assert f"cannot connect to 127.0.0.1:{port} (" in client.errors
    assert "connection lost" not in client.errors


def test_subscribe_fails_in_one_line(daemon: RunningDaemon) -> None:
    for url, code in ((daemon.events, "401 "), (f"{daemon.http}/nonsense", "404 ")):
        done = command("subscribe", url)
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith(f"sse-daemon: {code}")


def test_subscribe_over_a_unix_socket(tmp_path: Path) -> None:
    with RunningDaemon() as daemon:
        path = daemon.directory / "http.sock"
        daemon.stop()
        daemon.start("--http", f"unix:{path}")
        daemon.command("inject", "--to", "alice", "--retain", "kept")
        options = ("--unix-socket", str(path), "--participant", "alice", "--count", "1")
        done = command("subscribe", "http://localhost/events", *options)
        assert done.stdout.split()[1:] == ["message", "kept"], done.stderr


# publish


def test_publish_over_pub(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with subscriber(daemon, tmp_path, until_blocking, "--participant", "alice", "--json", "--count", "1") as alice:
        options = ("--to", "alice", "--to", "bob", "--type", "note", "--topic", "t", "--attr", "a=1", "--ttl", "1h")
        done = command("publish", "--address", daemon.pubsub, *options, "grüße\nzwei")
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert alice.process.wait(30) == 0
        (event,) = alice.objects()
        assert (event["type"], event["data"]) == ("note", "grüße\nzwei")
    (row,) = daemon.ask("producers")["producers"]
    assert row["from"].startswith("sse-daemon-publish/")


def test_publish_acked_prints_the_id_that_it_was_stored_under(daemon: RunningDaemon) -> None:
    done = command("publish", "--acked", "--address", daemon.acked, "--name", "mine", "--to", "a", "--retain", "-", input="x\n")
    assert done.returncode == 0, done.stderr
    (kept,) = daemon.ask("retained")["retained"]
    assert (done.stdout.strip(), kept["bytes"]) == (kept["id"], 2)
    assert daemon.ask("producers")["producers"][0]["from"].startswith("mine/")


def test_publish_takes_the_daemons_own_variables(daemon: RunningDaemon, until_blocking: Until) -> None:
    done = command("publish", "--acked", "--to", "a", "x", SSE_DAEMON_INGEST_ACKED=f"{daemon.acked}, tcp://127.0.0.1:1")
    assert done.returncode == 0, done.stderr
    done = command("publish", "--to", "a", "x", SSE_DAEMON_INGEST_PUBSUB=daemon.pubsub)
    assert done.returncode == 0, done.stderr
    # Seen by this very daemon: another one may have the default ports.
    until_blocking(lambda: len(daemon.ask("producers")["producers"]) == 2, "both to have arrived")


@pytest.mark.parametrize("acked", [True, False])
def test_publish_sends_each_line_as_it_comes(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until, acked: bool) -> None:
    folders = [tmp_path / "client", tmp_path / "producer"]
    for folder in folders:
        folder.mkdir()
    socket = ("--acked", "--address", daemon.acked) if acked else ("--address", daemon.pubsub)
    with (
        subscriber(daemon, folders[0], until_blocking, "--participant", "a", "--json") as client,
        Background(folders[1], "publish", *socket, "--to", "a", "--lines") as producer,
    ):
        for raw, expected in ((b"one\n", 1), (b"two\r\n\nthr", 2), (b"ee\n", 3)):
            producer.feed(raw)
            until_blocking(lambda expected=expected: len(client.lines()) >= expected, f"{expected} events")
        assert [event["data"] for event in client.objects()] == ["one", "two", "three"]
        assert len(producer.lines()) == (3 if acked else 0)
        producer.end()
        assert producer.process.wait(30) == 0


def test_publish_ends_when_everything_is_on_its_way(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    def accepted() -> int:
        return int(daemon.ask("stats")["metrics"]["events_accepted_total"])

    arguments = ("--address", daemon.pubsub, "--to", "a", "--lines", "--timeout", "60s")
    with Background(tmp_path, "publish", *arguments) as producer:
        producer.feed(b"first\n")
        until_blocking(lambda: accepted() == 1, "the first line")
        daemon.signal(signal.SIGSTOP)
        try:
            producer.feed(f"{'x' * 5000}\n".encode() * 3000)  # more than the sockets between hold
            producer.end()
        finally:
            daemon.signal(signal.SIGCONT)
        assert producer.process.wait(60) == 0
        until_blocking(lambda: accepted() == 3001, "every line to be accepted")


def test_publish_tells_what_became_of_it(daemon: RunningDaemon) -> None:
    refused = command("publish", "--acked", "--address", daemon.acked, "--group", "unknown", "x")
    assert refused.returncode == 1
    assert refused.stderr.startswith("sse-daemon: unknown_group: ")
    for kind in ((), ("--acked",)):
        nobody = command("publish", *kind, "--address", "tcp://127.0.0.1:1", "--timeout", "50ms", "--to", "a", "x")
        assert nobody.returncode == 1
        assert nobody.stderr.startswith("sse-daemon: ") and "tcp://127.0.0.1:1" in nobody.stderr
        assert "Traceback" not in nobody.stderr


def test_publish_refuses_lines_that_are_not_utf8(daemon: RunningDaemon) -> None:
    done = subprocess.run(
        [*COMMAND, "publish", "--acked", "--address", daemon.acked, "--to", "a", "--lines"],
        env=environ({}),
        input=b"good\nb\xffd\nlate\n",
        capture_output=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == b"sse-daemon: line 2 of standard input is not UTF-8 at byte 1\n"
    assert len(done.stdout.splitlines()) == 1, "what came before it was published"


# tail


def tail(daemon: RunningDaemon, tmp_path: Path, until: Until, *arguments: str) -> Background:
    """A `tail` that hears what passes; the events that found that out begin with "probe"."""
    started = Background(tmp_path, "tail", *arguments, SSE_DAEMON_ADMIN_SOCKET=str(daemon.admin))
    probe = ("inject", "--to", "alice", "--topic", "t", "probe")
    until(lambda: daemon.command(*probe).returncode == 0 and started.lines(), "tail to listen")
    return started


def heard(tailing: Background) -> list[Any]:
    return [event for event in tailing.objects() if event["data"] != "probe"]


def test_tail_shows_what_passes_whether_anybody_gets_it_or_not(
    daemon: RunningDaemon, tmp_path: Path, until_blocking: Until
) -> None:
    with tail(daemon, tmp_path, until_blocking, "--json") as tailing:
        event = ("--to", "nobody", "--to", "else", "--type", "note", "--topic", "t", "--attr", "a=1")
        id = daemon.command("inject", *event, "x\x1b").stdout.strip()
        until_blocking(lambda: heard(tailing), "the event")
        (seen,) = heard(tailing)
        assert seen == {"id": id, "type": "note", "topic": "t", "attrs": {"a": "1"}, "data": "x\x1b", "to": ["nobody", "else"]}
        assert tailing.interrupt() == 0
        assert tailing.errors == ""


def test_tail_for_people_is_a_line_an_event(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with tail(daemon, tmp_path, until_blocking) as tailing:
        id = daemon.command("inject", "--to", "*", "two\nlines\x9b").stdout.strip()
        until_blocking(lambda: f"{id}  message  -  *  two\\nlines\\x9b\n" in tailing.lines(), "the event")


@pytest.mark.parametrize(
    ("options", "expected"),
    [(("--to", "alice"), ["1", "4"]), (("--topic", "t"), ["1", "2"]), (("--to", "alice", "--topic", "t"), ["1"])],
)
def test_tail_narrows(
    daemon: RunningDaemon, tmp_path: Path, until_blocking: Until, options: tuple[str, ...], expected: list[str]
) -> None:
    with tail(daemon, tmp_path, until_blocking, "--json", *options) as tailing:
        daemon.command("inject", "--to", "alice", "--topic", "t", "1")
        daemon.command("inject", "--to", "bob", "--topic", "t", "2")
        daemon.command("inject", "--to", "*", "3")
        daemon.command("inject", "--to", "alice", "4")
        daemon.command("inject", "--to", "alice", "--topic", "t", "end")
        until_blocking(lambda: [event for event in heard(tailing) if event["data"] == "end"], "the last event")
        assert [event["data"] for event in heard(tailing)] == [*expected, "end"]


def test_tail_ends_after_a_count_or_with_the_daemon(daemon: RunningDaemon, tmp_path: Path, until_blocking: Until) -> None:
    with tail(daemon, tmp_path, until_blocking, "--count", "1") as counted:
        assert counted.process.wait(30) == 0
        assert len(counted.lines()) == 1
    with tail(daemon, tmp_path, until_blocking) as tailing:
        daemon.stop()
        assert tailing.process.wait(30) == 1
        assert tailing.errors == "sse-daemon: the daemon ended\n"
    daemon.start()
    with tail(daemon, tmp_path, until_blocking) as tailing:
        daemon.kill()
        assert tailing.process.wait(30) == 1
        assert tailing.errors == "sse-daemon: the daemon ended\n"
