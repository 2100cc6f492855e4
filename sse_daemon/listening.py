"""All listening sockets for clients: opened once, kept as long as the daemon runs, and handed out to those who accept.

With several processes each has a socket of its own for every TCP address, among which the kernel spreads the connections. One that
dies leaves whoever waits in its queue to its successor, because the socket stays open here. Unix sockets, and those that come
from a service manager, are one for all.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

from sse_daemon.config_tables import StreamsConfig
from sse_daemon.listener import listen, listen_together, name_of, tune


class Listening:
    """sets: for each process the sockets that it accepts from. names: the addresses, as in configuration and logs."""

    def __init__(self, count: int) -> None:
        self.sets: list[list[socket.socket]] = [[] for _ in range(count)]
        self.names: list[str] = []
        self._locks: list[tuple[Path, TextIO]] = []
        self._inherited = False

    def inherit(self, sockets: Sequence[socket.socket], streams: StreamsConfig) -> None:
        """Takes sockets that were open before this process."""
        self._inherited = True
        for listening in sockets:
            listening.setblocking(False)
            self._share(listening)
        self.tune(streams)

    def open(self, addresses: Sequence[str], streams: StreamsConfig) -> None:
        """Opens one for each address, or one for each process. Raises AddressError."""
        for address in addresses:
            if address.startswith("unix:") or len(self.sets) == 1:
                listening, lock = listen(address, streams.send_buffer, streams.stall_timeout)
                if lock is not None:
                    self._locks.append((Path(address.removeprefix("unix:")), lock))
                self._share(listening)
            else:
                several = listen_together(address, len(self.sets), streams.send_buffer, streams.stall_timeout)
                for own, each in zip(several, self.sets, strict=True):
                    each.append(own)
                self.names.append(name_of(several[0]))

    def tune(self, streams: StreamsConfig) -> None:
        """Sets what those who are accepted from now on inherit."""
        for listening in self._sockets():
            if listening.fileno() >= 0:
                tune(listening, streams.send_buffer, streams.stall_timeout)

    def stop(self) -> None:
        """Nobody comes in any more. A service manager's socket stays: it keeps whoever comes now waiting for our successor."""
        if not self._inherited:
            self._close()

    def close(self) -> None:
        """Gives everything back."""
        self._close()
        for path, lock in self._locks:
            path.unlink(missing_ok=True)
            lock.close()

    def _close(self) -> None:
        for listening in self._sockets():
            listening.close()

    def _share(self, listening: socket.socket) -> None:
        self.names.append(name_of(listening))
        for each in self.sets:
            each.append(listening)

    def _sockets(self) -> dict[socket.socket, None]:
        return dict.fromkeys(listening for each in self.sets for listening in each)
