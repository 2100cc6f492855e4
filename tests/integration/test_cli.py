"""The operators' commands against the real daemon: what they show, and what they do."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import httpx
import pytest

from sse_daemon.producer import AckedProducer, Envelope
from tests.integration.daemon import COMMAND, RunningDaemon, command, environ

Until = Callable[..., Any]


@pytest.fixture
def daemon() -> Iterator[RunningDaemon]:
    with RunningDaemon() as running:
        yield running


class Stream:
    """One client, as plain as can be: what it has got is in `text`."""

    def __init__(self, daemon: RunningDaemon, participant: str) -> None:
        self.socket = socket.create_connection(("127.0.0.1", daemon.http_port), timeout=30.0)
        self.text, self.id = "", ""
        self.socket.sendall(f"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: {participant}\r\n\r\n".encode())

    def open(self) -> None:
        """Returns once the daemon has said `connected`."""
        self.read_until('"participant"')
        self.id = json.loads(self.text.partition("data: ")[2].partition("\n")[0])["client_id"]

    def read_until(self, part: str) -> None:
        """Reads until `part` has come; fails when the stream ends or nothing comes for long."""
        while part not in self.text:
            piece = self.socket.recv(65536)
            assert piece, f"the stream ended before {part!r}: {self.text}"
            self.text += piece.decode()

    def read_to_end(self) -> None:
        while piece := self.socket.recv(65536):
            self.text += piece.decode()


@contextmanager
def stream(daemon: RunningDaemon, participant: str) -> Iterator[Stream]:
    opened = Stream(daemon, participant)
    try:
        opened.open()
        yield opened
    finally:
        opened.socket.close()


@contextmanager
def asking(daemon: RunningDaemon, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`sse-daemon ARGUMENTS` while the test goes on."""
    waiting = subprocess.Popen(
        [*COMMAND, *arguments],
        env=environ({"SSE_DAEMON_ADMIN_SOCKET": str(daemon.admin)}),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with waiting:
        try:
            yield waiting
        finally:
            waiting.kill()


def rows(text: str) -> list[list[str]]:
    """The cells of a printed table, without its head."""
    return [line.split() for line in text.splitlines()[1:]]


@pytest.fixture
def producer(daemon: RunningDaemon) -> Iterator[AckedProducer]:
    with AckedProducer(daemon.acked, name="test") as connected:
        yield connected


# Listings


def test_clients_lists_each_stream(daemon: RunningDaemon, producer: AckedProducer, until_blocking: Until) -> None:
    with stream(daemon, "bob") as bob, stream(daemon, "alice") as alice:
        producer.publish("x", to=["bob"])
        bob.read_until("data: x")
        found = daemon.ask("clients", "--sort", "participant")["clients"]
        assert [(row["participant"], row["id"], row["delivered"]) for row in found] == [
            ("alice", alice.id, 0),
            ("bob", bob.id, 1),
        ]
        assert {row["route"] for row in found} == {"/events"}
        assert found[0]["address"] == "{}:{}".format(*alice.socket.getsockname())
        printed = rows(daemon.command("clients", "--sort", "delivered").stdout)
        assert [row[:3] for row in printed] == [[bob.id, "bob", "/events"], [alice.id, "alice", "/events"]]
        assert [row["id"] for row in daemon.ask("clients", "--participant", "alice")["clients"]] == [alice.id]
    until_blocking(lambda: not daemon.ask("clients")["clients"], "both streams to be closed")
    closed = daemon.ask("clients", "--closed", "--participant", "bob")["clients"]
    assert [(row["id"], row["delivered"], row["reason"]) for row in closed] == [(bob.id, 1, "client")]
    (printed_row,) = rows(daemon.command("clients", "--closed", "--participant", "bob").stdout)
    assert printed_row[:2] == [bob.id, "bob"] and printed_row[-1] == "client"


@pytest.mark.parametrize("sort", ["id", "participant", "route", "address", "age", "delivered", "lag", "state"])
def test_clients_sorts_by_every_column(daemon: RunningDaemon, sort: str) -> None:
    with stream(daemon, "b"), stream(daemon, "a"):
        values = [row["opened" if sort == "age" else sort] for row in daemon.ask("clients", "--sort", sort)["clients"]]
    assert values == sorted(values, reverse=sort in ("delivered", "lag"))


def test_empty_listings_say_so_in_words(daemon: RunningDaemon) -> None:
    said = {
        ("clients",): "No stream is open.\n",
        ("clients", "--participant", "x\x1b"): "No stream is open of participant x\\x1b.\n",
        ("clients", "--closed"): "No stream was closed lately.\n",
        ("producers",): "No producer has been seen that says who it is (the envelope's `from` and `n`).\n",
        ("groups",): "The log holds no group.\n\nNo topic is declared.\n",
        ("retained",): "The log holds no retained snapshot.\n",
    }
    assert {arguments: daemon.command(*arguments).stdout for arguments in said} == said


def test_producers_groups_and_retained(daemon: RunningDaemon, producer: AckedProducer) -> None:
    producer.set_group("team", ["alice", "bob"])
    producer.declare_topic("chat.1")
    producer.publish_batch([Envelope("snapshot", to="*", topic="weather", type="now", retain=True, ttl=3600)])
    (row,) = daemon.ask("producers")["producers"]
    assert (row["from"], row["highest"], row["accepted"], row["missing"]) == (producer.sender, 3, 3, 0)
    assert rows(daemon.command("producers").stdout)[0][0] == producer.sender
    assert daemon.ask("groups") == {"groups": [{"name": "team", "members": ["alice", "bob"]}], "topics": ["chat.1"]}
    assert daemon.command("groups").stdout.split() == [
        "GROUP",
        "SIZE",
        "MEMBERS",
        "team",
        "2",
        "alice,",
        "bob",
        "DECLARED",
        "TOPIC",
        "chat.1",
    ]
    (kept,) = daemon.ask("retained")["retained"]
    assert (kept["to"], kept["topic"], kept["type"], kept["bytes"]) == ("*", "weather", "now", 8)
    (printed,) = rows(daemon.command("retained").stdout)
    assert printed[:6] == [kept["id"], "*", "weather", "now", "8", "B"] and printed[6].endswith("m")


def test_stats_are_the_metrics(daemon: RunningDaemon, producer: AckedProducer) -> None:
    producer.publish("x", to=["nobody"])
    daemon.command("inject", "--group", "unknown", "x")
    answer = daemon.ask("stats")
    assert answer["not_ready"] is None
    assert answer["about"]["http"] in daemon.http
    assert answer["metrics"]["events_accepted_total"] == 1
    printed = daemon.command("stats").stdout
    assert ["ready", "yes"] in rows(printed)
    assert ["events_accepted_total", "1"] in rows(printed)
    assert ["messages_refused_total", "unknown_group", "1"] in rows(printed)
    assert {row[0] for row in rows(printed.partition("METRIC")[2])} >= {
        name for name, value in answer["metrics"].items() if not isinstance(value, dict)
    }


# inject


def test_inject_reaches_whom_it_names_with_all_that_it_says(daemon: RunningDaemon) -> None:
    with stream(daemon, "alice") as alice, stream(daemon, "bob") as bob, stream(daemon, "carol") as carol:
        event = ("--to", "alice", "--to", "bob", "--type", "note", "--topic", "t.1", "--attr", "a=1", "--attr", "a=2")
        done = daemon.command("inject", *event, "grüße\nzwei")
        assert (done.returncode, done.stderr) == (0, "")
        for got in (alice, bob):
            got.read_until("data: zwei")
            assert f"id: {done.stdout.strip()}\nevent: note\ndata: grüße\ndata: zwei\n\n" in got.text
        assert daemon.command("inject", "--to", "*", "for all", "--wait").returncode == 0
        carol.read_until("data: for all")
        assert "zwei" not in carol.text


def test_inject_waits_for_the_streams_that_read_it(daemon: RunningDaemon) -> None:
    with stream(daemon, "alice") as one, stream(daemon, "alice") as two, stream(daemon, "bob"):
        answer = daemon.ask("inject", "--to", "alice", "--wait", "30s", "x")
        assert {row["id"] for row in answer["streams"]} == {one.id, two.id}
        assert all(row["written"] for row in answer["streams"])
        printed = daemon.command("inject", "--to", "alice", "--wait", "x").stdout.splitlines()
        assert printed[1].split() == ["STREAM", "PARTICIPANT", "WRITTEN", "STATE"]
        assert {tuple(line.split()[:3]) for line in printed[2:]} == {(one.id, "alice", "yes"), (two.id, "alice", "yes")}
    nobody = daemon.command("inject", "--to", "carol", "--wait", "x")
    assert nobody.stdout.splitlines()[1:] == ["No open stream reads it."]
    assert nobody.returncode == 0


def test_inject_fails_when_a_stream_does_not_take_it(daemon: RunningDaemon, producer: AckedProducer) -> None:
    with stream(daemon, "alice") as stalled:
        for _ in range(40):  # more than the sockets between hold; alice reads none of it
            producer.publish("x" * 500_000, to=["alice"])
        done = daemon.command("inject", "--to", "alice", "--wait", "50ms", "last")
        assert done.returncode == 1
        assert "1 of 1 streams had not taken it" in done.stderr
        assert done.stdout.splitlines()[-1].split() == [stalled.id, "alice", "no", "behind"]


def test_inject_waits_for_a_stream_that_takes_it_late(
    daemon: RunningDaemon, producer: AckedProducer, until_blocking: Until
) -> None:
    with stream(daemon, "alice") as slow:
        for _ in range(40):
            producer.publish("x" * 500_000, to=["alice"])
        with asking(daemon, "inject", "--to", "alice", "--wait", "30s", "last") as waiting:
            until_blocking(lambda: daemon.ask("stats")["metrics"]["events_accepted_total"] == 41, "the event to be stored")
            assert waiting.poll() is None
            slow.read_until("data: last")
            output, errors = waiting.communicate(timeout=30)
    assert (waiting.returncode, errors) == (0, "")
    assert output.splitlines()[-1].split()[:3] == [slow.id, "alice", "yes"]


def test_inject_keeps_and_clears_a_snapshot(daemon: RunningDaemon) -> None:
    slot = ("inject", "--to", "alice", "--topic", "t", "--retain")
    daemon.command(*slot, "kept")
    with stream(daemon, "alice") as late:
        late.read_until("data: kept")
    daemon.command(*slot)
    assert daemon.ask("retained")["retained"] == []


def test_inject_tells_what_the_daemon_refuses(daemon: RunningDaemon) -> None:
    refused = {
        ("--to", "a b"): "bad_participant",
        ("--group", "nobody-knows"): "unknown_group",
        ("--to", "a", "--type", "bye"): "reserved_type",
        ("--to", "a", "--ttl", "0"): "bad_ttl",
    }
    for options, code in refused.items():
        done = daemon.command("inject", *options, "x")
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"sse-daemon: refused: {code}: ")
        assert json.loads(daemon.command("inject", *options, "x", "--json").stdout)["code"] == code
    assert daemon.ask("stats")["metrics"]["events_accepted_total"] == 0


# kick, drain


def test_kick_closes_one_stream_by_its_id(daemon: RunningDaemon) -> None:
    with stream(daemon, "alice") as one, stream(daemon, "alice") as two:
        done = daemon.command("kick", one.id)
        assert (done.returncode, done.stdout) == (0, f"closed {one.id}\n")
        one.read_to_end()
        assert 'event: bye\ndata: {"reason":"kicked"}' in one.text
        assert [row["id"] for row in daemon.ask("clients")["clients"]] == [two.id]
    again = daemon.command("kick", one.id)
    assert (again.returncode, again.stderr) == (1, f"sse-daemon: no open stream has the id {one.id}\n")


def test_kick_closes_all_of_a_participant_and_keeps_it_out(daemon: RunningDaemon) -> None:
    with stream(daemon, "alice") as one, stream(daemon, "alice") as two, stream(daemon, "bob") as bob:
        assert set(daemon.ask("kick", "--participant", "alice", "--for", "1h")["closed"]) == {one.id, two.id}
        one.read_to_end()
        two.read_to_end()
        refused = command("subscribe", daemon.events, "--participant", "alice")
        assert refused.returncode == 1
        assert refused.stderr.startswith("sse-daemon: 403 kicked: ")
        daemon.command("inject", "--to", "*", "still here")
        bob.read_until("still here")
    absent = daemon.command("kick", "--participant", "carol", "--for", "90s")
    assert (absent.returncode, absent.stdout) == (0, "carol is refused for 1m 30s; --for 0 would end that\n")


def test_who_is_kept_out_is_listed_and_can_be_let_in_again(daemon: RunningDaemon) -> None:
    assert "Nobody is refused." in daemon.command("clients", "--kicked").stdout
    for key, time in (("alice", "1h"), ("bob", "10m")):
        assert daemon.command("kick", "--participant", key, "--for", time).returncode == 0
    rows = daemon.command("clients", "--kicked").stdout.splitlines()
    assert [row.split()[0] for row in rows] == ["PARTICIPANT", "alice", "bob"]
    (only,) = daemon.ask("clients", "--kicked", "--participant", "bob")["kicked"]
    assert only["participant"] == "bob" and 500 < only["left"] <= 600
    assert daemon.command("clients", "--kicked", "--participant", "carol").stdout == "carol is not refused.\n"
    again = daemon.command("kick", "--participant", "alice", "--for", "0")
    assert (again.returncode, again.stdout) == (0, "alice is not refused any more\n")
    assert len(daemon.lines("kicked")) == 2
    (line,) = daemon.lines("let in again")
    assert line["participant"] == "alice"
    with stream(daemon, "alice") as alice:
        assert [row["participant"] for row in daemon.ask("clients", "--kicked")["kicked"]] == ["bob"]
        # Taken back once more, or by mistake: it costs nobody a stream.
        never = daemon.command("kick", "--participant", "alice", "--for", "0")
        assert (never.returncode, never.stderr) == (1, "sse-daemon: alice is not refused\n")
        daemon.command("inject", "--to", "alice", "still here")
        alice.read_until("still here")


def test_what_kicked_nobody_is_not_logged_as_if_it_had(daemon: RunningDaemon) -> None:
    assert daemon.command("kick", "nonexist").returncode == 1
    assert not daemon.lines("kicked")
    (line,) = daemon.lines("nobody was there to kick")
    assert (line["client"], line["streams"]) == ("nonexist", "0") and "participant" not in line


def test_drain_sends_everybody_away_and_the_daemon_runs_on(daemon: RunningDaemon, producer: AckedProducer) -> None:
    with stream(daemon, "alice") as alice, stream(daemon, "bob") as bob:
        done = daemon.command("drain", "--over", "100ms")
        assert (done.returncode, done.stdout.partition(":")[0]) == (0, "streams sent away over 0s")
        for sent_away in (alice, bob):
            sent_away.read_to_end()
            assert 'event: bye\ndata: {"reason":"drain"}' in sent_away.text
    ready = httpx.get(f"{daemon.http}/readyz")
    assert (ready.status_code, ready.json()["error"]) == (503, "not_ready")
    assert ready.json()["detail"].startswith("draining")
    stats = daemon.ask("stats")
    assert (stats["not_ready"], stats["metrics"]["ready"]) == (ready.json()["detail"], 0.0)
    assert "is not ready: draining" in daemon.command("clients").stderr
    assert producer.publish("x", to=["alice"])
    with socket.create_connection(("127.0.0.1", daemon.http_port)) as late:
        late.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nAccept: text/event-stream\r\nX-Public-Key: late\r\n\r\n")
        late.settimeout(30.0)
        text = b""
        while b"event: bye" not in text:
            piece = late.recv(65536)
            assert piece, f"sent away without a word: {text!r}"
            text += piece
    # Who comes again too early gets a status, with the reason.
    headers = {"Accept": "text/event-stream", "X-Public-Key": "late"}
    early = httpx.get(f"{daemon.http}/events", headers=headers)
    assert (early.status_code, early.json()["error"]) == (503, "draining")
    # There is nothing to measure on it.
    done = daemon.command("bench", "--case", "idle")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the daemon is not ready: draining" in done.stderr


def test_drain_takes_its_time_and_goes_on_when_the_command_is_interrupted(daemon: RunningDaemon, until_blocking: Until) -> None:
    with stream(daemon, "alice") as alice, stream(daemon, "bob") as bob:
        with asking(daemon, "drain", "--over", "20h") as draining:
            alice.read_to_end()  # the first one goes at once, the second in ten hours
            assert [row["id"] for row in daemon.ask("clients")["clients"]] == [bob.id]
            assert draining.poll() is None
            draining.send_signal(signal.SIGINT)
            assert draining.communicate(timeout=30) == ("", "\nAborted!\n")
        assert draining.returncode == 1
        assert [row["id"] for row in daemon.ask("clients")["clients"]] == [bob.id]
        daemon.stop()
        bob.read_to_end()
        assert "event: bye" in bob.text


# Faults


@pytest.mark.parametrize(
    "arguments",
    [
        ("clients", "--sort", "colour"),
        ("clients", "--sort", "reason"),
        ("clients", "--closed", "--sort", "lag"),
        ("clients", "extra"),
        ("inject", "data"),
        ("inject", "--to", "*", "--to", "alice"),
        ("inject", "--to", "alice", "--attr", "x"),
        ("inject", "--to", "alice", "--wait=1h"),
        ("inject", "--to", "alice", "--ttl", "soon"),
        ("kick",),
        ("kick", "id", "--participant", "alice"),
        ("kick", "id", "--for", "10m"),
        ("kick", "id", "--for", "0"),
        ("clients", "--kicked", "--closed"),
        ("clients", "--kicked", "--sort", "id"),
        ("drain", "--over", "2d"),
        ("tail", "--count", "0"),
        ("publish",),
        ("publish", "--to", "alice", "--lines", "data"),
        ("publish", "--to", "alice", "--type", "bye"),
        ("publish", "--to", "alice", "--address", "nonsense"),
        ("subscribe", "ftp://127.0.0.1/"),
        ("subscribe", "--participant", "a b"),
        ("serve", "--nonsense"),
        ("serve", "--http", "nonsense", "--dev"),
        ("nonsense",),
    ],
)
def test_wrong_usage_is_status_2_and_words(arguments: tuple[str, ...]) -> None:
    done = command(*arguments, SSE_DAEMON_ADMIN_SOCKET="/nonexistent/admin.sock")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Traceback" not in done.stderr and done.stderr


ASKING = (
    ("clients",),
    ("producers",),
    ("groups",),
    ("retained",),
    ("stats",),
    ("inject", "--to", "alice"),
    ("tail",),
    ("kick", "id"),
    ("drain",),
)


@pytest.mark.parametrize("arguments", ASKING)
def test_without_a_daemon_one_line_says_where_it_was_looked_for(arguments: tuple[str, ...]) -> None:
    for done in (
        command(*arguments, "--admin", "/nonexistent/admin.sock"),
        command(*arguments, SSE_DAEMON_ADMIN_SOCKET="/nonexistent/admin.sock"),
    ):
        assert (done.returncode, done.stdout) == (1, "")
        (line,) = done.stderr.splitlines()
        assert line.startswith("sse-daemon: no daemon listens on /nonexistent/admin.sock: start it with")


def test_after_a_kill_the_socket_is_known_to_be_dead(daemon: RunningDaemon) -> None:
    daemon.kill()
    done = daemon.command("clients")
    assert done.returncode == 1
    assert done.stderr.startswith(f"sse-daemon: the daemon that listened on {daemon.admin} is gone")
    daemon.start()
    assert daemon.command("clients").returncode == 0


def test_output_that_cannot_be_written_is_one_line(daemon: RunningDaemon) -> None:
    for arguments in (("groups",), ("clients", "--json"), ("--help",), ("stats", "--help")):
        with open("/dev/full", "w") as full:
            done = subprocess.run(
                [*COMMAND, *arguments],
                env=environ({"SSE_DAEMON_ADMIN_SOCKET": str(daemon.admin)}),
                stdout=full,
                stderr=subprocess.PIPE,
                text=True,
                check=False,
            )
        assert (done.returncode, done.stderr) == (1, "sse-daemon: cannot write: No space left on device\n")


def test_a_reader_that_goes_away_is_no_traceback(daemon: RunningDaemon) -> None:
    shell = f"{' '.join(COMMAND)} stats | head -n 1"
    done = subprocess.run(
        ["bash", "-c", shell],
        env=environ({"SSE_DAEMON_ADMIN_SOCKET": str(daemon.admin)}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == "DAEMON\n"
    (line,) = done.stderr.splitlines()
    assert "nothing proves" in line


def test_what_the_terminal_cannot_show_is_escaped(daemon: RunningDaemon, producer: AckedProducer) -> None:
    producer.set_group("漢字", ["alice"])
    done = command("groups", SSE_DAEMON_ADMIN_SOCKET=str(daemon.admin), PYTHONIOENCODING="latin-1:strict")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\\u6f22\\u5b57  " in done.stdout


def test_sigint_while_the_daemon_is_silent(daemon: RunningDaemon, until_blocking: Until) -> None:
    """The daemon is stopped, so the command waits for its answer for as long as the test needs."""
    daemon.signal(signal.SIGSTOP)
    try:
        with asking(daemon, "clients") as waiting:
            until_blocking(lambda: connected(waiting.pid), "the command to have connected")
            waiting.send_signal(signal.SIGINT)
            output, errors = waiting.communicate(timeout=30)
        assert (waiting.returncode, output) == (1, "")
        assert errors.strip() == "Aborted!"
    finally:
        daemon.signal(signal.SIGCONT)


def connected(pid: int) -> bool:
    """Whether the process has any socket: it opens one only to ask the daemon."""
    try:
        return any(os.readlink(f"/proc/{pid}/fd/{fd}").startswith("socket:") for fd in os.listdir(f"/proc/{pid}/fd"))
    except OSError:  # a descriptor that is gone again
        return False
