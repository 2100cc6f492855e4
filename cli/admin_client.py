"""Asks the daemon of this machine over its admin socket; imported as sse_daemon.cli.admin_client, never under the bare name."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urlencode

from sse_daemon.cli.faults import Failed, note

TIMEOUT = 10.0
"""Seconds for an answer that waits for nothing. A healthy daemon needs milliseconds; beyond this it hangs."""

ELSEWHERE = "if its socket is elsewhere, name it with --admin PATH or SSE_DAEMON_ADMIN_SOCKET"


CLAIMED = '[auth] mode is "claim": nothing proves that the participants are who they say they are.'


def silence(answer: Mapping[str, Any]) -> str | None:
    """What an answer lacks because processes of the daemon did not answer, as a sentence; None if it is whole."""
    names = answer["silent"]
    if not names:
        return None
    if len(names) == 1:
        return f"worker {names[0]} does not answer: its streams are missing here"
    return f"workers {', '.join(names)} do not answer: their streams are missing here"


def check_whole(answer: Mapping[str, Any]) -> None:
    """Raises Failed if something was not done or not told everywhere."""
    if (lacks := silence(answer)) is not None:
        raise Failed(lacks)


def remark(answer: Mapping[str, Any], auth: str) -> None:
    """What whoever looks has to know beside what was asked for, on standard error."""
    if auth == "claim":
        note(CLAIMED)
    if (lacks := silence(answer)) is not None:
        note(lacks)


class Admin:
    """The admin API at the socket `path`. Each call is a connection of its own; every fault is a `Failed` of one line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def get(self, what: str, query: Mapping[str, str | None] | None = None, timeout: float = TIMEOUT) -> dict[str, Any]:
        """The answer to GET `what`; members of the query that are None are left out. timeout: seconds."""
        return self._ask("GET", _target(what, query), None, timeout)

    def post(self, what: str, body: Mapping[str, Any], timeout: float = TIMEOUT) -> dict[str, Any]:
        """The answer to POST `what` with a JSON body. timeout: seconds."""
        return self._ask("POST", what, json.dumps(body).encode(), timeout)

    def lines(self, what: str, query: Mapping[str, str | None]) -> Iterator[dict[str, Any]]:
        """The objects of an answer that comes line by line, as they come, until the daemon ends it."""
        connection = Connection(self.path, TIMEOUT)
        with self._faults(), connection.closing():
            response = connection.ask("GET", _target(what, query))
            _check(response)
            # From here silence is no fault; a daemon that is gone shows as the end of the connection.
            connection.wait_for_ever()
            with suppress(http.client.IncompleteRead):  # it was killed: an end like any other
                while line := response.readline():
                    yield json.loads(line)

    def _ask(self, method: str, target: str, body: bytes | None, timeout: float) -> dict[str, Any]:
        connection = Connection(self.path, timeout)
        with self._faults(), connection.closing():
            response = connection.ask(method, target, body)
            _check(response)
            answer = json.loads(response.read())
            if not isinstance(answer, dict):
                raise ValueError("the daemon's answers are objects")
            return answer

    @contextmanager
    def _faults(self) -> Iterator[None]:
        """Every way in which there may be no daemon at the path, as one line that says what to do."""
        try:
            yield
        except (FileNotFoundError, NotADirectoryError):
            raise Failed(f"no daemon listens on {self.path}: start it with `sse-daemon serve`; {ELSEWHERE}") from None
        except ConnectionRefusedError:
            raise Failed(f"the daemon that listened on {self.path} is gone: start it again; {ELSEWHERE}") from None
        except PermissionError:
            raise Failed(f"no permission for {self.path}: be the daemon's user, or in its group, or root") from None
        except TimeoutError:
            raise Failed(f"the daemon on {self.path} does not answer; its log may say why") from None
        except ConnectionError:
            raise Failed(f"the daemon on {self.path} ended before it had answered") from None
        except OSError as error:
            raise Failed(f"cannot ask the daemon on {self.path}: {error.strerror or error}") from None
        except (http.client.HTTPException, ValueError):
            raise Failed(f"what listens on {self.path} is no sse-daemon, or one of another version") from None


class Connection(http.client.HTTPConnection):
    """HTTP over a Unix socket."""

    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)

    def ask(self, method: str, target: str, body: bytes | None = None) -> http.client.HTTPResponse:
        """The answer's head. A daemon that lets nobody in may have answered and closed before the question was there."""
        with suppress(BrokenPipeError):
            self.request(method, target, body, {"Content-Type": "application/json"} if body else {})
        return self.getresponse()

    def wait_for_ever(self) -> None:
        """Reads without a time limit from now on."""
        self.sock.settimeout(None)

    @contextmanager
    def closing(self) -> Iterator[None]:
        """Closes at the end, whatever happened."""
        try:
            yield
        finally:
            self.close()


def _target(what: str, query: Mapping[str, str | None] | None) -> str:
    given = {name: value for name, value in (query or {}).items() if value is not None}
    return f"{what}?{urlencode(given)}" if given else what


def _check(response: http.client.HTTPResponse) -> None:
    """Raises Failed with the daemon's own words if it refused."""
    if response.status != 200:
        answer = json.loads(response.read())
        if not isinstance(answer, dict):
            raise ValueError("the daemon's own errors are objects")
        raise Failed(f"the daemon refuses: {answer.get('detail', response.reason)}")
