"""How the daemon starts, changes, drains and ends, and whose sockets are whose."""

from __future__ import annotations

import os
import re
import resource
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from tests.integration.daemon import COMMAND, RunningDaemon, environ
from tests.integration.peers import Acked, Client, Pub, ask, connect, event, files_of, metrics, operator, wait

STALLED = "x" * 200_000
"""Data of an event that does not fit into the socket of a client that does not read."""


@contextmanager
def stalled(daemon: RunningDaemon, participant: str = "stalled") -> Iterator[Client]:
    """A client whose socket is full, for as long as it does not read."""
    with connect(daemon, participant, buffer=4096) as client, Acked(daemon.acked) as acked:
        for _ in range(20):
            acked.store(event([participant], STALLED))
        wait(lambda: metrics(daemon)["streams_blocked"] == 1, "its socket to be full")
        yield client


# Ready ------------------------------------------------------------------------------------------------------------------------


def test_one_line_says_that_it_is_ready_and_names_every_address() -> None:
    daemon = RunningDaemon(http=("127.0.0.1:0", "[::1]:0"))
    daemon.http_addresses.append(f"unix:{daemon.directory}/http")
    daemon.pubsub_addresses.append(f"ipc://{daemon.directory}/pub")
    with daemon:
        (ready,) = daemon.lines("ready")
        assert re.fullmatch(r"127\.0\.0\.1:\d+,\[::1\]:\d+," + re.escape(f"unix:{daemon.directory}/http"), ready["http"])
        assert re.fullmatch(r"tcp://.*:\d+,ipc://.*/pub,tcp://.*:\d+", ready["ingest"])
        assert ready["admin"] == str(daemon.admin)
        assert ask(daemon, "GET", "/healthz").status == ask(daemon, "GET", "/readyz").status == 200


def test_what_was_published_before_it_was_ready_arrives() -> None:
    # Polling starts before readiness: a publisher that connects while the daemon starts loses nothing after its subscription.
    with RunningDaemon() as daemon:
        daemon.stop()
        with Acked(daemon.acked) as acked:
            id = acked.send(event(["early"], "1"))  # queued until there is a daemon
            daemon.start()
            assert list(acked.answers(1)) == [id]


def test_a_wrong_configuration_is_listed_before_any_socket_opens() -> None:
    daemon = RunningDaemon("[streams]\nhartbeat = 1\nlimit = 0\n[nonsense]\n")
    try:
        daemon.launch()
        assert daemon.wait() == 2
        lines = [line for line in daemon.log().splitlines() if "sse-daemon.toml" in line]
        assert len(lines) == 3
        assert {word for word in ("hartbeat", "limit", "nonsense") if any(word in line for line in lines)} == {
            "hartbeat",
            "limit",
            "nonsense",
        }
        assert not daemon.admin.exists()
    finally:
        daemon._end()


# One daemon an address --------------------------------------------------------------------------------------------------------


def refused(second: RunningDaemon, *names: str) -> None:
    """The second daemon must end with status 1 and one line that names what is in use."""
    try:
        second.launch()
        assert second.wait() == 1
        lines = second.log().splitlines()
        (reason,) = [line for line in lines if "level=error" in line]
        for name in names:
            assert name in reason
        assert "Traceback" not in second.log()
        assert not second.lines("ready")
    finally:
        second._end()


@pytest.mark.parametrize("kind", ["http", "http_unix", "pubsub", "acked", "pubsub_ipc", "acked_ipc", "admin", "sqlite"])
def test_what_one_daemon_has_no_other_can_take(kind: str) -> None:
    first = RunningDaemon(backend="sqlite://{directory}/log.db" if kind == "sqlite" else "memory://")
    first.http_addresses.append(f"unix:{first.directory}/http")
    first.pubsub_addresses.append(f"ipc://{first.directory}/pub")
    first.acked_addresses.append(f"ipc://{first.directory}/acked")
    with first:
        second = RunningDaemon()
        address = {
            "http": first.http_addresses[0],
            "http_unix": first.http_addresses[1],
            "pubsub": first.pubsub_addresses[0],
            "pubsub_ipc": first.pubsub_addresses[1],
            "acked": first.acked_addresses[0],
            "acked_ipc": first.acked_addresses[1],
            "admin": str(first.admin),
            "sqlite": f"{first.directory}/log.db",
        }[kind]
        if kind == "admin":
            second.admin = first.admin
        elif kind == "sqlite":
            second.backend = first.backend
        else:
            getattr(second, kind.partition("_")[0] + "_addresses")[0] = address
        refused(second, address, *([str(first.pid)] if kind == "sqlite" else []))
        # The first one is as before, on all of them.
        for path in (first.directory / "http", first.admin):
            assert path.is_socket()
        with connect(first, "still") as tcp, Client(first.directory / "http", "still").opened() as unix:
            for number, sub in enumerate(first.pubsub_addresses):
                with Pub(sub) as pub, Acked(first.acked_addresses[number]) as acked:
                    pub.send(event(["still"], "pub"))
                    tcp.wait_events(2 * number + 1)
                    acked.store(event(["still"], "acked"))
            assert tcp.wait_events(4) == unix.wait_events(4) == ["pub", "acked"] * 2
        assert operator(first, "/clients")


def test_dead_unix_sockets_are_removed() -> None:
    daemon = RunningDaemon()
    daemon.http_addresses.append(f"unix:{daemon.directory}/http")
    daemon.pubsub_addresses.append(f"ipc://{daemon.directory}/pub")
    with daemon:
        paths = [daemon.directory / "http", daemon.directory / "pub", daemon.admin]
        daemon.kill()
        assert all(path.is_socket() for path in paths), "a process that is killed leaves them"
        daemon.start()
        assert all(path.is_socket() for path in paths)
        assert ask(daemon.admin, "GET", "/stats").status == 200
        with Client(paths[0], "x").opened() as client, Pub(daemon.pubsub_addresses[1]) as pub:
            pub.send(event(["x"], "x"))
            assert client.wait_events(1) == ["x"]
        daemon.stop()
        assert not [path for path in paths if path.exists()]


@pytest.mark.parametrize("kind", ["http", "pubsub", "admin"])
def test_a_file_that_is_no_socket_is_left_alone(kind: str) -> None:
    daemon = RunningDaemon()
    path = daemon.directory / "precious"
    path.write_text("data")
    if kind == "admin":
        daemon.admin = path
    elif kind == "http":
        daemon.http_addresses[0] = f"unix:{path}"
    else:
        daemon.pubsub_addresses[0] = f"ipc://{path}"
    try:
        daemon.launch()
        assert daemon.wait() == 1
        assert str(path) in daemon.log()
        assert path.read_text() == "data"
    finally:
        daemon._end()


def test_sockets_are_for_the_daemons_user_and_group() -> None:
    daemon = RunningDaemon()
    daemon.http_addresses.append(f"unix:{daemon.directory}/http")
    daemon.pubsub_addresses.append(f"ipc://{daemon.directory}/pub")
    daemon.acked_addresses.append(f"ipc://{daemon.directory}/acked")
    before = os.umask(0)
    try:
        with daemon:
            for name in ("http", "pub", "acked", "admin.sock"):
                assert stat.S_IMODE((daemon.directory / name).stat().st_mode) == 0o660, name
    finally:
        os.umask(before)


# What accepted sockets inherit ------------------------------------------------------------------------------------------------


def test_streams_have_keepalive() -> None:
    with RunningDaemon() as daemon, connect(daemon, "x") as client:
        local, remote = client.sock.getpeername()[1], client.sock.getsockname()[1]
        rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
        (timer,) = [row[5] for row in rows if row[1].endswith(f":{local:04X}") and row[2].endswith(f":{remote:04X}")]
        assert timer.startswith("02:"), "2 is the keepalive timer (proc(5))"


# SIGTERM ----------------------------------------------------------------------------------------------------------------------


def test_sigterm_says_bye_to_all_and_ends() -> None:
    with RunningDaemon("[streams]\nretry_min = 1.0\nretry_max = 3.0") as daemon, ExitStack() as stack:
        clients = [stack.enter_context(connect(daemon, f"p{i % 10}")) for i in range(100)]
        with Acked(daemon.acked) as acked:
            acked.store(event("*", "the last"))
            daemon.signal(signal.SIGTERM)
            wait(lambda: all(client.closed for client in clients), "all to be closed", clients)
        assert daemon.wait() == 0
        for client in clients:
            assert client.ended and not client.reset and not client.parser.pending
            assert client.data == ["the last"]
            assert client.messages[-1].type == "bye"
            assert client.of("bye")[0]["reason"] == "drain"
        retries = [client.parser.retry for client in clients if client.parser.retry is not None]
        # Spread: wider than the 1-3 s that everybody gets when it comes.
        assert min(retries) < 4000 and max(retries) > 8000 and len(set(retries)) > 50
        with pytest.raises(ConnectionRefusedError):
            Client(daemon.http_port, "x")


def test_while_it_drains_it_is_not_ready_takes_nobody_and_refuses_producers() -> None:
    with RunningDaemon("[daemon]\ndrain_time = 20.0") as daemon, ExitStack() as stack:
        slow = stack.enter_context(stalled(daemon))
        quick = stack.enter_context(connect(daemon, "quick"))
        kept = stack.enter_context(Client(daemon.http_port, "x", path="/healthz"))
        acked, req = stack.enter_context(Acked(daemon.acked)), event(["quick"], "late", sender="late/1", n=1)
        wait(lambda: kept.status, "an answer", [kept])
        daemon.signal(signal.SIGTERM)
        quick.wait_closed()
        assert quick.messages[-1].type == "bye"
        # A connection from before is told; a new one finds nobody.
        kept.head, kept._left = b"", b""
        kept.sock.sendall(b"GET /readyz HTTP/1.1\r\nHost: localhost\r\n\r\n")
        wait(lambda: kept.status, "an answer", [kept])
        assert kept.status == 503
        with pytest.raises(ConnectionRefusedError):
            Client(daemon.http_port, "x")
        assert acked.refused(req) == ("draining", None)
        # What keeps it is that one client has not got its bye; as soon as it reads, it gets all that it had coming to it.
        slow.wait_closed()
        assert slow.ended and slow.messages[-1].type == "bye"
        assert daemon.wait() == 0
        assert daemon.lines("stopping")


def test_a_client_that_does_not_read_its_bye_does_not_keep_it_beyond_the_drain_time() -> None:
    with RunningDaemon("[daemon]\ndrain_time = 0.2") as daemon, stalled(daemon):
        daemon.signal(signal.SIGTERM)
        assert daemon.wait() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(number: signal.Signals) -> None:
    with RunningDaemon("[daemon]\ndrain_time = 3600.0") as daemon, stalled(daemon):
        daemon.signal(signal.SIGTERM)
        wait(lambda: daemon.lines("stopping"), "it to drain")
        assert daemon.process is not None and daemon.process.poll() is None
        daemon.signal(number)
        assert daemon.wait() == 0
        assert daemon.lines("stopping at once")


def test_what_was_accepted_before_sigterm_is_stored() -> None:
    frames = {n: event(["kept"], str(n), sender="kept/1", n=n) for n in range(1, 501)}
    with (
        RunningDaemon(backend="sqlite://{directory}/log.db") as daemon,
        connect(daemon, "kept") as client,
        Acked(daemon.acked) as acked,
    ):
        beginning = client.parser.last_event_id
        for n, frame in frames.items():
            acked.send(frame, id=b"first %d" % n)
        client.wait_events(1)
        daemon.signal(signal.SIGTERM)
        client.wait_closed()
        assert daemon.wait() == 0
        daemon.start()
        # Whatever became of the answers: it may be sent again, and is stored once.
        ids = {n: acked.store(frame)[0] for n, frame in frames.items()}
        with connect(daemon, "kept", last_id=beginning) as again:
            again.wait_events(500)
            assert sorted(map(int, again.data)) == list(frames)
            assert {int(m.data): m.id for m in again.events} == ids
            assert again.events[: len(client.events)] == client.events


def test_what_is_published_while_it_drains_waits_for_its_successor() -> None:
    with RunningDaemon("[daemon]\ndrain_time = 20.0", backend="sqlite://{directory}/log.db") as daemon, ExitStack() as stack:
        pub = stack.enter_context(Pub(daemon.pubsub))
        client = stack.enter_context(connect(daemon, "patient"))
        beginning = client.parser.last_event_id
        pub.send(event(["patient"], "before"))
        client.wait_events(1)
        slow = stack.enter_context(stalled(daemon))
        daemon.signal(signal.SIGTERM)
        client.wait_closed()
        for number in range(10):
            pub.send(event(["patient"], str(number)))
        slow.wait_closed()
        assert daemon.wait() == 0
        daemon.start()
        with connect(daemon, "patient", last_id=beginning) as again:
            assert again.wait_events(11) == ["before", *map(str, range(10))]


# SIGHUP -----------------------------------------------------------------------------------------------------------------------


def reload(daemon: RunningDaemon, config: str, message: str = "configuration reloaded") -> dict[str, str]:
    """Gives it another configuration; the line with which it answers."""
    before = len(daemon.lines(message))
    daemon.configure(config)
    daemon.signal(signal.SIGHUP)
    line: dict[str, str] = wait(lambda: daemon.lines(message)[before:], f"{message!r}")[-1]
    return line


def test_sighup_applies_what_can_change_and_names_what_cannot() -> None:
    with RunningDaemon("[ingest]\nmax_recipients = 2") as daemon, Acked(daemon.acked) as acked, connect(daemon, "a") as client:
        assert acked.refused(event(["a", "b", "c"])) == ("too_many_recipients", 0)
        config = """
            [ingest]
            max_recipients = 3
            queue_bytes = 1000
            [streams]
            max_streams = 1
            [log]
            format = "json"
            [[stream]]
            path = "/new/{name}"
            topic = "new.{name}"
            """
        line = reload(daemon, config)
        assert set(line["changed"].split(",")) == {"ingest.max_recipients", "streams.max_streams", "log.format", "stream"}
        assert (line["restart_needed_for"], line["level"]) == ("ingest.queue_bytes", "warning")
        acked.store(event(["a", "b", "c"], "x"))
        assert client.wait_events(1) == ["x"], "open streams stay"
        with Client(daemon.http_port, "b", path="/new/x") as more:
            more.wait_closed()
            assert more.of("bye")[0]["reason"] == "overload"
        assert daemon.log().splitlines()[-1].startswith("{")


def test_sighup_without_a_change_says_just_that_it_was_read() -> None:
    with RunningDaemon("[streams]\nlimit = 5\n") as daemon:
        line = reload(daemon, "[streams]\nlimit = 5\n")
        assert line["level"] == "info" and not {"changed", "restart_needed_for", "mistakes_in"} & line.keys()
        line = reload(daemon, "[streams]\nlimit = 6\n")
        assert (line["level"], line["changed"]) == ("info", "streams.limit") and "restart_needed_for" not in line


def test_sighup_with_a_mistake_anywhere_changes_nothing_and_says_so() -> None:
    with RunningDaemon("[ingest]\nmax_recipients = 2") as daemon, Acked(daemon.acked) as acked:
        line = reload(daemon, "[ingest]\nmax_recipients = 3\n[streams]\nlimit = 0\n", "configuration not reloaded")
        assert "limit" in line["mistake"]
        assert acked.refused(event(["a", "b", "c"])) == ("too_many_recipients", 0)
        reload(daemon, "this is no TOML", "configuration not reloaded")
        (daemon.directory / "sse-daemon.toml").unlink()
        daemon.signal(signal.SIGHUP)
        wait(lambda: len(daemon.lines("configuration not reloaded")) >= 3, "the file to be missed")
        acked.store(event(["a", "b"]))
        assert ask(daemon, "GET", "/readyz").status == 200
        reload(daemon, "[ingest]\nmax_recipients = 3\n")
        acked.store(event(["a", "b", "c"]))


def test_sighup_brings_the_next_heartbeat_of_open_streams_nearer() -> None:
    with RunningDaemon("[streams]\nheartbeat = 1000") as daemon, connect(daemon, "a", heartbeat="event") as client:
        reload(daemon, "[streams]\nheartbeat = 0.3")
        wait(lambda: len(client.of("heartbeat")) >= 3, "heartbeats", [client])


def test_sighup_that_makes_heartbeats_rarer_loses_no_open_stream() -> None:
    with RunningDaemon("[streams]\nheartbeat = 0.3") as daemon, connect(daemon, "a", heartbeat="event") as client:
        wait(lambda: client.of("heartbeat"), "a heartbeat", [client])
        reload(daemon, "[streams]\nheartbeat = 0.6")
        count = len(client.of("heartbeat"))
        wait(lambda: len(client.of("heartbeat")) >= count + 3, "further heartbeats", [client])


SLOW_START = """
import asyncio, signal, sys
from sse_daemon.backend import Limits
from sse_daemon.backends.memory import MemoryBackend
from sse_daemon.config_tables import Config, AuthConfig, AdminConfig, HttpConfig, IngestConfig
from sse_daemon.daemon import serve

class Slow(MemoryBackend):
    async def open(self, deliver):
        print("opening", flush=True)
        await asyncio.sleep(0.3)
        return await super().open(deliver)

config = Config(auth=AuthConfig(mode="claim"), http=HttpConfig(listen=("127.0.0.1:0",)), admin=AdminConfig(socket=sys.argv[1]),
    ingest=IngestConfig(pubsub=("tcp://127.0.0.1:0",), acked=("tcp://127.0.0.1:0",)))
sys.exit(asyncio.run(serve(config, Slow("memory://", Limits()), lambda: config)))
"""


@pytest.mark.parametrize("number", [signal.SIGHUP, signal.SIGTERM])
def test_a_signal_while_it_starts_is_no_fault(number: signal.Signals, tmp_path: Path) -> None:
    log = tmp_path / "log"
    admin = f"/tmp/sse-daemon-{os.urandom(8).hex()}"
    with log.open("wb") as output:
        process = subprocess.Popen([sys.executable, "-c", SLOW_START, admin], stdout=output, stderr=output, env=environ({}))
    try:
        wait(lambda: "opening" in log.read_text(), "it to start")
        process.send_signal(number)
        if number == signal.SIGHUP:
            wait(lambda: "configuration reloaded" in log.read_text(), "the reload")
            process.terminate()
        assert process.wait(30) == 0
        assert "Traceback" not in log.read_text()
    finally:
        process.kill()
        process.wait()
        Path(admin + ".lock").unlink(missing_ok=True)


# The service manager ----------------------------------------------------------------------------------------------------------


class Manager:
    """What a daemon tells its service manager."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(path))
        self.socket.setblocking(False)
        self.told: list[str] = []

    def has(self, state: str) -> bool:
        """Whether it was told this by now."""
        while True:
            try:
                self.told += self.socket.recv(4096).decode().splitlines()
            except BlockingIOError:
                return state in self.told


@contextmanager
def manager(directory: Path) -> Iterator[Manager]:
    one = Manager(directory / "notify")
    try:
        yield one
    finally:
        one.socket.close()


def test_the_manager_is_told() -> None:
    daemon = RunningDaemon()
    with manager(daemon.directory) as told:
        daemon._environ.update(NOTIFY_SOCKET=str(told.path), WATCHDOG_USEC="200000")
        with daemon:
            wait(lambda: told.has("READY=1"), "READY")
            wait(lambda: told.has("WATCHDOG=1") and told.told.count("WATCHDOG=1") >= 3, "three pings")
            assert not told.has("STOPPING=1")
            # A daemon that hangs must fall silent.
            daemon.signal(signal.SIGSTOP)
            told.has("")
            told.told.clear()
            daemon.signal(signal.SIGCONT)
            wait(lambda: told.has("WATCHDOG=1"), "pings to go on")
            daemon.stop()
            assert told.has("STOPPING=1")


HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1", LISTEN_FDNAMES="http")
os.execv(sys.argv[2], sys.argv[2:])
"""


def inherited(daemon: RunningDaemon, listening: socket.socket) -> None:
    """Starts the daemon as a manager does that keeps the listening socket."""
    handed = os.dup(listening.fileno())
    command = [sys.executable, "-c", HAND_OVER, str(handed), *COMMAND, *daemon._arguments()]
    daemon._mark = daemon._log.stat().st_size
    with daemon._log.open("ab") as log:
        daemon.process = subprocess.Popen(command, pass_fds=[handed], env=daemon._environ, stdout=log, stderr=log)
    os.close(handed)


def test_with_an_inherited_socket_a_restart_refuses_nobody() -> None:
    with ExitStack() as stack:
        listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=1000))
        daemon = RunningDaemon(backend="sqlite://{directory}/log.db")
        stack.push(daemon.__exit__)
        inherited(daemon, listening)
        daemon.wait_ready()
        assert daemon.http_port == listening.getsockname()[1]
        acked = stack.enter_context(Acked(daemon.acked))
        acked.store(event(["a"], "0"))
        clients = []
        for number in range(1, 4):
            daemon.signal(signal.SIGTERM)
            for _ in range(20):  # before, while and after it ends: nobody is refused
                clients.append(stack.enter_context(Client(listening.getsockname()[1], "a")))
            assert daemon.wait() == 0
            clients.append(stack.enter_context(Client(listening.getsockname()[1], "a")))
            inherited(daemon, listening)
            daemon.wait_ready()
            wait(lambda: clients[-1].parser.retry is not None, "the one that waited", clients)
            assert daemon.http_addresses == [f"127.0.0.1:{listening.getsockname()[1]}"]
            assert not any(client.reset for client in clients), number
        wait(lambda: all(client.parser.retry is not None for client in clients), "everybody to be answered", clients)
        assert all(client.status == 200 for client in clients)


def test_systemds_own_tool_hands_over_the_socket() -> None:
    daemon = RunningDaemon()
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = ["systemd-socket-activate", "-l", f"127.0.0.1:{port}"]
    for name in ("PYTHONPATH", "PATH", "HOME"):
        command += ["-E", name]
    daemon.process = None
    try:
        with daemon._log.open("ab") as log:
            daemon._mark = 0
            daemon.process = subprocess.Popen(
                [*command, *COMMAND, *daemon._arguments()], env=daemon._environ, stdout=log, stderr=log
            )
        wait(lambda: "Listening on" in daemon.log(), "the tool")
        with Client(port, "a") as client:  # the daemon is started by the first one who comes
            client.opened()
            daemon.wait_ready()
            assert daemon.http_port == port
        daemon.stop()
    finally:
        daemon._end()


# Files ------------------------------------------------------------------------------------------------------------------------


def test_connections_that_come_and_go_leave_no_files_behind() -> None:
    with RunningDaemon() as daemon, Acked(daemon.acked) as acked:
        connect(daemon, "warm").sock.close()
        wait(lambda: metrics(daemon)["streams"] == 0, "it to be gone")
        before = files_of(daemon.pid)
        for number in range(500):
            client = connect(daemon, f"p{number % 7}") if number % 5 else Client(daemon.http_port, "p")
            if number % 3 == 0:
                client.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\0\0\0\0\0\0\0")  # a reset instead of a FIN
            elif number % 3 == 1:
                client.sock.shutdown(socket.SHUT_WR)
            client.sock.close()
            if number % 50 == 0:
                acked.store(event("*", "x"))
        wait(lambda: metrics(daemon)["streams"] == 0, "all to be gone")
        wait(lambda: files_of(daemon.pid) <= before, f"the {before} files of before, not more")
        assert metrics(daemon)["window_channels"] <= 1


def test_many_clients_that_close_at_once_disturb_nobody() -> None:
    with RunningDaemon() as daemon, ExitStack() as stack, connect(daemon, "stays") as stays, Acked(daemon.acked) as acked:
        leaving = [stack.enter_context(connect(daemon, "leaves")) for _ in range(300)]
        ids = [acked.send(event("*", str(n))) for n in range(200)]
        for client in leaving:
            client.sock.close()
        assert len(acked.answers(200)) == len(ids)
        assert stays.wait_events(200) == [str(n) for n in range(200)]
        wait(lambda: metrics(daemon)["streams"] == 1, "the others to be gone")
        assert metrics(daemon)["streams_closed_total"]["client"] == 300


def test_without_files_left_it_serves_on_and_recovers() -> None:
    with RunningDaemon() as daemon, ExitStack() as stack, Acked(daemon.acked) as acked:
        stays = stack.enter_context(connect(daemon, "stays"))
        limit = 600  # more than what is kept back from streams: some of those who ask are let in, and need another file
        before = resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, (limit, before[1]))
        idle = [stack.enter_context(socket.create_connection(("127.0.0.1", daemon.http_port))) for _ in range(600)]
        wait(lambda: daemon.lines("cannot accept connections, pausing"), "it to notice")
        # Those who had come in before ask only now, when there is not a file left for clients.
        for sock in idle:
            sock.sendall(b"GET /events HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: a\r\n\r\n")
        acked.store(event(["stays"], "1"))
        assert stays.wait_events(1) == ["1"]
        acked.store(*[event(["stays"], str(n)) for n in range(2, 12)])
        assert stays.wait_events(11) == [str(n) for n in range(1, 12)]
        assert len(daemon.lines("cannot accept connections, pausing")) <= 3
        for sock in idle:
            sock.close()
        resource.prlimit(daemon.pid, resource.RLIMIT_NOFILE, before)
        with connect(daemon, "new") as new:
            acked.store(event(["new"], "x"))
            assert new.wait_events(1) == ["x"]
        assert "Traceback" not in daemon.log()
