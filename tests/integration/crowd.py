"""Many clients as a process of its own: `crowd.py PORT COUNT MARK`.

Each has a filter of its own, so that the daemon has work of its own for it. A line "open" is printed when all streams are open, and
from then on, whenever all of them have got one more event with MARK in its data, a JSON pair of when the first of them had it and
when the last (seconds on the monotonic clock, which all processes share). It ends when its standard input does.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import defaultdict

AT_ONCE = 64
"""Connections whose opening is awaited: a larger backlog would only time the kernel's queue."""
REQUEST = "GET /events?types=message,other{number} HTTP/1.1\r\nHost: localhost\r\nX-Public-Key: crowd{number}\r\n\r\n"


class Crowd:
    """The streams, and how many have got each marked event."""

    def __init__(self, port: int, count: int, mark: bytes) -> None:
        self.port, self.count, self.mark = port, count, mark
        self.poll = select.epoll()
        self.poll.register(0, select.EPOLLIN)
        self.streams: dict[int, socket.socket] = {}
        self.marks: dict[int, int] = {}
        self.open = 0
        self.got: defaultdict[int, int] = defaultdict(int)
        self.first: dict[int, float] = {}

    def run(self) -> None:
        while True:
            while len(self.streams) < self.count and len(self.streams) - self.open < AT_ONCE:
                self.connect(len(self.streams))
            for fd, _ in self.poll.poll():
                if fd == 0:
                    return
                self.take(fd)

    def connect(self, number: int) -> None:
        stream = socket.create_connection(("127.0.0.1", self.port))
        stream.sendall(REQUEST.format(number=number).encode())
        stream.setblocking(False)
        self.streams[stream.fileno()] = stream
        self.marks[stream.fileno()] = -1  # not open yet
        self.poll.register(stream.fileno(), select.EPOLLIN)

    def take(self, fd: int) -> None:
        data = self.streams[fd].recv(1 << 18)
        if not data:
            sys.exit("the daemon closed a stream")
        if self.marks[fd] < 0:
            self.opened(fd, data)
        for _ in range(data.count(self.mark)):
            self.marked(fd)

    def opened(self, fd: int, data: bytes) -> None:
        if not data.startswith(b"HTTP/1.1 200 "):
            sys.exit(f"the daemon answered {data!r}")
        self.marks[fd] = 0
        self.open += 1
        if self.open == self.count:
            print("open", flush=True)

    def marked(self, fd: int) -> None:
        number = self.marks[fd] = self.marks[fd] + 1
        now = time.monotonic()
        self.first.setdefault(number, now)
        self.got[number] += 1
        if self.got[number] == self.count:
            print(json.dumps([self.first[number], now]), flush=True)


if __name__ == "__main__":
    Crowd(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3].encode()).run()
