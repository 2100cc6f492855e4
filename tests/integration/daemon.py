"""The real daemon as a process of its own, for tests: `with RunningDaemon() as daemon: ... daemon.http, daemon.pubsub ...`

The system chooses the ports; what it chose is in the daemon's ready line, and a restart asks for the same again. The calls
block, for well under a second where nothing is wrong; an async test whose loop must go on meanwhile uses asyncio.to_thread.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

ROOT = Path(__file__).resolve().parents[2]
UNDER_TEST = Path(os.environ.get("SSE_DAEMON_UNDER_TEST", ROOT))
"""Where the daemon's process imports sse_daemon from: the tree, or an installation of it such as the compiled one."""
COMMAND = (sys.executable, "-m", "sse_daemon.cli")
DEADLINE = 30.0
ANY_PORT = ("tcp://127.0.0.1:0",)
UNCLEAN = re.compile(r"Traceback|Exception ignored|never retrieved|was never awaited|ResourceWarning")


class RunningDaemon:
    """A daemon that runs from `start` (or `with`) to `stop`.

    config: the text of a TOML file. options: further arguments of `serve`. env: environment variables, the only ones that begin
    with SSE_DAEMON_. backend: its URL, `{directory}` stands for `directory`, a folder that lives as long as this object is in
    its `with`; empty: what `config` says. dev: with --dev. http, pubsub, acked: where to listen.
    """

    def __init__(
        self,
        config: str = "",
        options: Sequence[str] = (),
        env: Mapping[str, str] | None = None,
        backend: str = "memory://",
        dev: bool = True,
        http: Sequence[str] = ("127.0.0.1:0",),
        pubsub: Sequence[str] = ANY_PORT,
        acked: Sequence[str] = ANY_PORT,
    ) -> None:
        # Not below pytest's tmp_path: the name of a long test would exceed what a Unix socket's path may have.
        self.directory = Path(tempfile.mkdtemp(prefix="sse-daemon-"))
        self.admin = self.directory / "admin.sock"
        self.backend = backend.format(directory=self.directory)
        self.process: subprocess.Popen[bytes] | None = None
        self.ready: dict[str, str] = {}
        """The facts of the latest ready line."""
        self.http_addresses, self.pubsub_addresses, self.acked_addresses = list(http), list(pubsub), list(acked)
        self._config = self.directory / "sse-daemon.toml"
        self._config.write_text(config)
        self._options, self._dev = tuple(options), dev
        self._environ = environ({"STATE_DIRECTORY": str(self.directory / "state"), **(env or {})})
        self._log = self.directory / "log"
        self._log.touch()

    # Where it listens: the first address of each kind, once it has started.

    @property
    def http(self) -> str:
        """The base URL, such as http://127.0.0.1:43125; of the first TCP address."""
        return "http://" + next(address for address in self.http_addresses if not address.startswith("unix:"))

    @property
    def events(self) -> str:
        """The URL of the built-in route."""
        return f"{self.http}/events"

    @property
    def http_port(self) -> int:
        return int(self.http.rpartition(":")[2])

    @property
    def pubsub(self) -> str:
        return self.pubsub_addresses[0]

    @property
    def acked(self) -> str:
        return self.acked_addresses[0]

    @property
    def pid(self) -> int:
        assert self.process is not None, "it does not run"
        return self.process.pid

    # Its life.

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        try:
            if kind is None:
                self.stop()
            else:
                # pytest shows what was printed with a test that failed.
                print(f"log of the daemon:\n{self.log()}")
        finally:
            self._end()

    def start(self, *options: str) -> None:
        """Starts it and returns when it is ready. Fails with its log if it ends instead."""
        self.launch(*options)
        self.wait_ready()

    def launch(self, *options: str) -> None:
        """Starts the process, no more: for those that are meant to fail. `wait` gives the exit status."""
        assert self.process is None or self.process.returncode is not None, "it runs"
        self._mark = self._log.stat().st_size
        with self._log.open("ab") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *self._arguments(), *options],
                env=self._environ,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.directory,
            )

    def _arguments(self) -> list[str]:
        arguments = ["serve", "--config", str(self._config), "--admin", str(self.admin)]
        arguments += ["--backend", self.backend] if self.backend else []
        for option, addresses in (
            ("--http", self.http_addresses),
            ("--pubsub", self.pubsub_addresses),
            ("--acked", self.acked_addresses),
        ):
            for address in addresses:
                arguments += [option, address]
        return arguments + (["--dev"] if self._dev else []) + list(self._options)

    def wait_ready(self) -> None:
        """Waits for the ready line of the latest start, and takes the addresses from it."""
        assert self.process is not None
        deadline = time.monotonic() + DEADLINE
        # Started is enough: what a daemon waits for before it is ready may be what the test is about.
        while not (ready := self.lines("ready", since=self._mark) or self.lines("started", since=self._mark)):
            assert self.process.poll() is None, f"it ended with {self.process.returncode} instead of being ready:\n{self.log()}"
            assert time.monotonic() < deadline, f"it was not ready in {DEADLINE:g} s:\n{self.log()}"
            time.sleep(0.01)
        self.ready = ready[0]
        bound = self.ready["ingest"].split(",")
        self.http_addresses = self.ready["http"].split(",")
        self.pubsub_addresses, self.acked_addresses = bound[: len(self.pubsub_addresses)], bound[len(self.pubsub_addresses) :]

    def stop(self, status: int = 0) -> None:
        """SIGTERM, as a service manager does; it must end with `status`, its log without any traceback. Not running is fine."""
        if self.process is None:
            return
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            assert self.wait() == status, f"it ended with {self.process.returncode}:\n{self.log()}"
        assert not UNCLEAN.search(self.log()), f"the log is not clean:\n{self.log()}"

    def kill(self) -> None:
        """SIGKILL: what was not safe is lost."""
        assert self.process is not None
        self.process.kill()
        self.wait()

    def restart(self, *, kill: bool = False) -> None:
        """Ends it (kill: by SIGKILL) and starts it again on the same addresses."""
        if kill:
            self.kill()
        else:
            self.stop()
        self.start()

    def signal(self, number: int) -> None:
        """Sends it a signal."""
        assert self.process is not None
        self.process.send_signal(number)

    def wait(self, seconds: float = DEADLINE) -> int:
        """Its exit status, once it has ended by itself."""
        assert self.process is not None
        try:
            return self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"it did not end in {seconds:g} s:\n{self.log()}") from None

    def _end(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        shutil.rmtree(self.directory, ignore_errors=True)

    # What it says.

    def log(self) -> str:
        """Everything that it wrote, of all its starts."""
        return self._log.read_text(errors="replace")

    def lines(self, message: str | None = None, since: int = 0) -> list[dict[str, str]]:
        """The complete log lines as dictionaries; only those whose `msg` is `message`, if given."""
        text = self._log.read_bytes()[since:].decode(errors="replace")
        found = [facts(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
        return [line for line in found if line and (message is None or line.get("msg") == message)]

    def configure(self, config: str) -> None:
        """Writes another configuration, for SIGHUP or the next start."""
        self._config.write_text(config)

    # The command line beside it.

    def command(self, *arguments: str, input: str | None = None, timeout: float = DEADLINE) -> subprocess.CompletedProcess[str]:
        """Runs `sse-daemon ARGUMENTS`, which finds this daemon's admin socket; any exit status is fine."""
        return command(*arguments, input=input, timeout=timeout, SSE_DAEMON_ADMIN_SOCKET=str(self.admin))

    def ask(self, *arguments: str) -> Any:
        """What `sse-daemon ARGUMENTS --json` answers, decoded; it must succeed."""
        done = self.command(*arguments, "--json")
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def environ(added: Mapping[str, str]) -> dict[str, str]:
    """The environment for a process of ours: nothing that configures a daemon but `added`, and what is tested before any other."""
    path = os.pathsep.join(filter(None, (str(UNDER_TEST), os.environ.get("PYTHONPATH"))))
    kept = {name: value for name, value in os.environ.items() if not name.startswith("SSE_DAEMON_")}
    return {**kept, "PYTHONPATH": path, **added}


def command(
    *arguments: str, input: str | None = None, timeout: float = DEADLINE, **added: str
) -> subprocess.CompletedProcess[str]:
    """Runs `sse-daemon ARGUMENTS` to its end; added: environment variables."""
    return subprocess.run(
        [*COMMAND, *arguments],
        env=environ(added),
        input=input if input is not None else "",
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


_FACT = re.compile(r'(\w+)=("(?:[^"\\]|\\.)*"|\S*)')


def facts(line: str) -> dict[str, str]:
    """A log line, logfmt or JSON, as a dictionary of texts; empty for a line of anything else."""
    if line.startswith("{"):
        return {key: str(value) for key, value in json.loads(line).items()}
    if not line.startswith("time="):
        return {}
    return {key: json.loads(value) if value.startswith('"') else value for key, value in _FACT.findall(line)}
