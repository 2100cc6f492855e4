"""One end of the socket pair between two processes of a daemon: messages in order, questions with an answer each.

A message is either posted (nobody answers) or asks something; both name what they are about. What the other side does not take
waits in memory, up to a limit: a process that is stuck is cut off, it never makes the other one grow.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from sse_daemon import codec
from sse_daemon.errors import BackendError, BackendUnavailable, BackendUnusable, StorageFull

READ = 128 * 1024
"""Bytes taken from the socket before the loop gets a turn: about 700 small events, which are 7 ms of work."""
QUEUE_BYTES = 32 * 1024 * 1024
"""What may wait for a process that does not read: seconds of the fastest log, and no more of our memory than half a window."""
ENTRY_BYTES = 400
"""What each message that waits takes beside its payload: for a batch of one small event that is most of it."""
MAX_CALLS = 1024
"""Questions of the other side that may be unanswered at once; it asks at most half as many itself."""

_POST, _CALL, _ANSWER, _FAULT = range(4)
_FAULTS: dict[str, type[BackendError]] = {kind.code: kind for kind in (StorageFull, BackendUnavailable, BackendUnusable)}

_log = logging.getLogger("sse_daemon.link")


class Link:
    """Owns `sock`, a connected stream socket.

    posts: what is called with the arguments of a posted message, by its name. calls: likewise for questions, a coroutine
    function that gives the answer, something that `codec` can carry; BackendError travels, any other exception is our defect.
    taken: called when all that had come was taken, so that many messages can be handled as one.
    closed: called once, when the other side is gone or was cut off.
    """

    def __init__(self, sock: socket.socket, loop: asyncio.AbstractEventLoop, limit: int = QUEUE_BYTES) -> None:
        self.posts: dict[str, Callable[..., None]] = {}
        self.calls: dict[str, Callable[..., Awaitable[Any]]] = {}
        self.taken: Callable[[], None] = lambda: None
        self.closed: Callable[[], None] = lambda: None
        self.unsent = 0
        """Bytes that the other side has not taken."""
        self.moved = loop.time()
        """When the other side last took something of what waits for it, or nothing waited."""
        self._sock = sock
        self._loop = loop
        self._limit = limit
        self._queue: deque[tuple[memoryview, bool]] = deque()
        """What waits, and whether it is an answer."""
        self._answers = 0
        """Bytes of the answers in it. Whoever asked wants them, however large they are, and who asks much must not be cut off for it."""
        # Kept, for 128 KiB made anew for each frame of a few events cost more than taking it.
        self._room = memoryview(bytearray(READ))
        self._partial = bytearray()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._number = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False
        sock.setblocking(False)

    def start(self) -> None:
        """Reads from now on; to be called when `posts`, `calls` and `closed` are set."""
        self._loop.add_reader(self._sock.fileno(), self._readable)

    @property
    def over(self) -> bool:
        """True once nothing goes in or out any more."""
        return self._over

    @property
    def unasked(self) -> int:
        """Of `unsent`, what is no answer."""
        return self.unsent - self._answers

    def post(self, name: str, *arguments: Any) -> None:
        """Sends a message that nobody answers."""
        self.push(posted(name, *arguments))

    def push(self, frame: bytes) -> None:
        """Sends what `posted` made; one frame can go to several links."""
        self._push(frame, answer=False)

    def _push(self, frame: bytes, answer: bool) -> None:
        if self._over:
            return
        rest = memoryview(frame)
        if not self._queue:
            sent = self._send(rest)
            if sent == len(rest) or self._over:
                return
            rest = rest[sent:]
            self.moved = self._loop.time()
            self._loop.add_writer(self._sock.fileno(), self._writable)
        self._queue.append((rest, answer))
        self.unsent += len(rest)
        self._answers += len(rest) if answer else 0
        if self.unasked + ENTRY_BYTES * len(self._queue) > self._limit:
            _log.warning("the process at the other end does not read", extra={"unsent": self.unsent})
            self.close()

    async def call(self, name: str, *arguments: Any) -> Any:
        """Asks, and waits for the answer as long as the link stands. Raises BackendError."""
        if self._over:
            raise BackendUnavailable("the process that has it is gone")
        self._number += 1
        number = self._number
        answer = self._asked[number] = self._loop.create_future()
        try:
            self.push(codec.frame((_CALL, number, name, arguments)))
            return await answer
        finally:
            self._asked.pop(number, None)

    def close(self) -> None:
        """Ends it, as if the other side had gone."""
        if self._over:
            return
        self._over = True
        self._loop.remove_reader(self._sock.fileno())
        self._loop.remove_writer(self._sock.fileno())
        self._sock.close()
        self._queue.clear()
        for answer in tuple(self._asked.values()):
            if not answer.done():
                answer.set_exception(BackendUnavailable("the process that has it is gone"))
        for task in self._tasks:
            task.cancel()
        self._loop.call_soon(self.closed)

    # Sending.

    def _send(self, part: memoryview) -> int:
        try:
            return self._sock.send(part)
        except (BlockingIOError, InterruptedError):
            return 0
        except OSError:
            self.close()  # its other end is closed: reading would say the same a moment later
            return 0

    def _writable(self) -> None:
        while self._queue:
            part, answer = self._queue[0]
            sent = self._send(part)
            if self._over:
                return
            self.unsent -= sent
            self._answers -= sent if answer else 0
            if sent:
                self.moved = self._loop.time()
            if sent < len(part):
                self._queue[0] = part[sent:], answer
                return
            self._queue.popleft()
        self._loop.remove_writer(self._sock.fileno())

    # Receiving.

    def _readable(self) -> None:
        try:
            count = self._sock.recv_into(self._room)
        except (BlockingIOError, InterruptedError):
            return
        except OSError:
            count = 0
        if not count:
            self.close()
            return
        try:
            for message in self._whole(self._room[:count]):
                if not self._over:
                    self._take(message)
            if not self._over:
                self.taken()
        except Exception:  # noqa: BLE001
            # A defect. What follows in order cannot be followed any more without this message: the link ends, and is made anew.
            _log.exception("a message of another process could not be taken")
            self.close()

    def _whole(self, data: memoryview) -> list[Any]:
        """The messages that have come whole with this; what is left is kept for the next."""
        if not self._partial:
            messages, used = codec.frames(data)
            self._partial += data[used:]
        else:
            self._partial += data
            messages, used = codec.frames(self._partial)
            del self._partial[:used]
        return messages

    def _take(self, message: tuple[Any, ...]) -> None:
        kind = message[0]
        if kind == _POST:
            self.posts[message[1]](*message[2])
        elif kind == _CALL:
            self._begin(*message[1:])
        elif (answer := self._asked.get(message[1])) is not None and not answer.done():
            if kind == _ANSWER:
                answer.set_result(message[2])
            else:
                answer.set_exception(_FAULTS.get(message[2], BackendUnavailable)(message[3]))

    def _begin(self, number: int, name: str, arguments: tuple[Any, ...]) -> None:
        if len(self._tasks) >= MAX_CALLS:
            self._push(codec.frame((_FAULT, number, BackendUnavailable.code, "too many questions at once")), answer=True)
            return
        task = self._loop.create_task(self._answer(number, self.calls[name], arguments))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, number: int, ask: Callable[..., Awaitable[Any]], arguments: tuple[Any, ...]) -> None:
        try:
            frame = codec.frame((_ANSWER, number, await ask(*arguments)))
        except BackendError as error:
            frame = codec.frame((_FAULT, number, error.code, str(error)))
        except Exception:  # noqa: BLE001
            # A defect, met by one question: whoever asked is told, the others go on.
            _log.exception("a question of another process could not be answered")
            frame = codec.frame((_FAULT, number, BackendUnavailable.code, "a defect of the daemon; it is in its log"))
        self._push(frame, answer=True)


def posted(name: str, *arguments: Any) -> bytes:
    """A message for `push`."""
    return codec.frame((_POST, name, arguments))
