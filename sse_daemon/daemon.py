"""The process: what starts in which order, what signals do, and how it ends. It is given a backend and never chooses one.

With one process it holds the streams itself (`floor.py`), with workers they do (`crew.py`); the rest is the same.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import socket
import time
from collections.abc import Callable, Coroutine, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, TextIO

from tornado.httpserver import HTTPServer

import sse_daemon
from sse_daemon import admin, announce, log, producer_keys, systemd
from sse_daemon.appender import Appender, Log
from sse_daemon.auth_link import answers
from sse_daemon.auth_modes import book, renew
from sse_daemon.backend import Backend, Opened
from sse_daemon.census import Census
from sse_daemon.config import Config
from sse_daemon.config_change import changed, merged
from sse_daemon.crew import Crew
from sse_daemon.desk import Streams
from sse_daemon.directory import Directory
from sse_daemon.envelope import Bounds
from sse_daemon.errors import AddressError, AuthUnusable, BackendError, ConfigError, KeyCheckDead, WorkerFailed
from sse_daemon.event import Event, Logged
from sse_daemon.floor import Floor
from sse_daemon.ingest import Ingest
from sse_daemon.keys import reader
from sse_daemon.listener import Listener, listen_unix
from sse_daemon.listening import Listening
from sse_daemon.metrics import Values
from sse_daemon.relay import Relay
from sse_daemon.timely import PATIENCE, Timely

PROBE = 5.0
"""Seconds between two questions to a backend that works, whether it does."""
PROBE_FAILED = 1.0
"""The same for one that failed."""
RELOAD_AGAIN = 0.1
"""Seconds until a SIGHUP that came during the start is looked at again."""

_log = log.logger("daemon")


class Daemon:
    """One running daemon.

    reload: reads the configuration again for SIGHUP; raises ConfigError. inherited: listening sockets from systemd; if there
    are any they take the place of `[http] listen`.
    """

    def __init__(
        self, config: Config, backend: Backend, reload: Callable[[], Config], inherited: Sequence[socket.socket] = ()
    ) -> None:
        self.config = config
        self.started = time.time()
        self._backend = Timely(backend)
        self._reload_config = reload
        self._inherited = inherited
        self._read_key = reader(config)
        self._loop = asyncio.get_running_loop()
        self._why_not: str | None = "starting"
        self._head = 0
        self._tasks: set[asyncio.Task[Any]] = set()
        self._ended: asyncio.Future[int] = self._loop.create_future()
        self._exit = AsyncExitStack()

    async def run(self) -> int:
        """Starts, serves until a signal ends it, drains; the exit status. Raises AddressError, BackendError."""
        async with self._exit:
            starting = self._loop.create_task(self._start())
            try:
                # A log that does not let itself be opened must not keep a signal waiting.
                await asyncio.wait((starting, self._ended), return_when=asyncio.FIRST_COMPLETED)
            finally:
                starting.cancel()  # nothing, if it is done
                await asyncio.wait((starting,))
            if not starting.cancelled():
                starting.result()
            status = await self._ended
        return status

    # Start, in order: what can fail for good first, and no client before everything works.

    async def _start(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, self._stop)
        self._loop.add_signal_handler(signal.SIGHUP, self._reload)
        await self._open_book()
        await self._open_backend()
        self._exit.push_async_callback(self._close_tasks)
        await self._bind_ingest()
        self._listen_http()
        self._listen_admin()
        await self._front.start(self._listening.sets)
        self._begin()

    async def _open_book(self) -> None:
        self._book = book(self.config, os.environ, os.getuid(), time.time, time.monotonic)
        if self._book is not None:
            self._exit.callback(self._book.close)
            if self.config.auth.mode == "proof":
                await self._book.ready()

    async def _open_backend(self) -> None:
        self._front: Floor | Crew  # set below, without an await between: `deliver` is not called before
        opened = await self._backend.open(self._deliver)
        self._exit.push_async_callback(self._backend.close)
        self._incarnation, self._head = opened.incarnation, opened.head
        ingest = self.config.ingest
        self._directory = Directory(opened.groups, opened.topics, max_groups=ingest.max_groups, max_topics=ingest.max_topics)
        self._listening = Listening(self.config.daemon.processes)
        self._exit.callback(self._listening.close)
        self._front = self._floor(opened) if self.config.daemon.processes == 1 else self._crew(opened)
        self._exit.push_async_callback(self._front.close)

    def _floor(self, opened: Opened) -> Floor:
        floor = Floor(self.config, self._backend, opened, self._directory, lambda: self.why_not_ready, proofs=self._book)
        self._streams: Streams = floor.desk
        self._log: Log = self._backend
        return floor

    def _crew(self, opened: Opened) -> Crew:
        relay = self._log = Relay(self._backend, opened.incarnation, opened.head, lambda: self._directory.topics)
        crew = self._streams = Crew(self.config, relay, lambda: self.why_not_ready, self._spawn, answers(self._book))
        return crew

    async def _bind_ingest(self) -> None:
        self._census = Census(self.config.ingest.max_producers)
        self._appender = Appender(
            self._log,
            self._directory,
            self._bounds(),
            self.config.ingest.queue_bytes,
            time.time,
            lambda: self._ingest.room(),
            lambda outcomes: self._ingest.settled(outcomes),
        )
        keys = producer_keys.load(self.config.ingest, self._read_key)
        self._ingest = Ingest(
            self._appender,
            self._census,
            self._incarnation,
            self._head,
            self._loop,
            time.time,
            keys,
            self.config.ingest.max_connections,
        )
        self._exit.callback(self._ingest.close)
        await self._ingest.bind(self.config.ingest.pubsub, self.config.ingest.acked)

    def _bounds(self) -> Bounds:
        ingest = self.config.ingest
        return Bounds(
            ingest.max_frame,
            ingest.max_frames,
            ingest.max_recipients,
            ingest.max_members,
            self._read_key,
            max_message=ingest.max_message,
            max_message_recipients=ingest.max_message_recipients,
        )

    def _listen_http(self) -> None:
        if self._inherited:
            self._listening.inherit(self._inherited, self.config.streams)
        else:
            self._listening.open(self.config.http.listen, self.config.streams)

    def _listen_admin(self) -> None:
        office = admin.Office(
            streams=self._streams,
            incarnation=self._incarnation,
            ingest=self._ingest,
            census=self._census,
            directory=self._directory,
            backend=self._backend,
            values=self._values,
            ready=lambda: self.why_not_ready,
            about=self._about(),
            wall=time.time,
            read_key=self._read_key,
            revoke=lambda key: 0 if self._book is None else self._book.revoke(key),
        )
        path = Path(self.config.admin.socket)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            listening, lock = listen_unix(path, 0o660)
        except OSError as error:
            raise AddressError(f"unix:{path}", error.strerror or str(error)) from None
        server = admin.server(office, self.config.ingest.max_frame, path.stat().st_gid)
        self._admin = Listener(
            listening,
            self._loop,
            self.config.streams.send_buffer,
            lambda connection, peer: server.serve(connection),
        )
        self._exit.push_async_callback(self._close_admin, server, path, lock)

    def _begin(self) -> None:
        self._spawn(self._appender.run())
        self._spawn(self._watch_backend())
        self._spawn(self._ingest.watch())
        self._ingest.start()
        self._admin.start()
        self._why_not = None
        if isinstance(self._front, Crew):
            self._front.tell_ready()
        if interval := systemd.watchdog_interval():
            self._spawn(systemd.ping(interval))
        # What exists now lives as long as the process: later collections need not look at it again.
        gc.collect()
        gc.freeze()
        self._spawn(announce.started(self._addresses(), lambda: self.why_not_ready))

    def _addresses(self) -> dict[str, str]:
        return {
            "http": ",".join(self._listening.names),
            "ingest": ",".join(self._ingest.addresses),
            "admin": str(self.config.admin.socket),
            "backend": self.config.backend.url,
            "auth": self.config.auth.mode,
            "version": sse_daemon.__version__,
        }

    def _about(self) -> dict[str, str]:
        return {**self._addresses(), "incarnation": self._incarnation, "pid": str(os.getpid())}

    # While it runs.

    @property
    def why_not_ready(self) -> str | None:
        """Why no client should be sent here just now, or None."""
        if self._why_not is not None:
            return self._why_not
        if (fault := self._appender.fault) is not None:
            return f"the backend failed: {fault}"
        if self._ingest.fault is not None:
            return self._ingest.fault
        silent = self._backend.silent_for()
        if silent >= PATIENCE:
            return f"the backend has not answered for {silent:.0f} s"
        return self._front.why_not_ready

    def _deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        for item in batch:
            if not isinstance(item, Event):
                self._directory.apply(item)
        self._head = last
        self._front.deliver(batch, after, last)

    async def _watch_backend(self) -> None:
        """Asks the backend now and then, one that failed more often: readiness neither comes nor goes with a producer's help alone."""
        asked = 0.0
        while True:
            await asyncio.sleep(PROBE_FAILED)
            before = self._appender.fault
            if before is None and self._loop.time() - asked < PROBE:
                continue
            try:
                await self._backend.check()
            except BackendError as error:
                self._appender.fault = error
                if before is None:
                    _log.error("the backend fails", extra={"reason": str(error)})
            else:
                self._appender.fault = None
                if before is not None:
                    _log.info("the backend works again")
            asked = self._loop.time()

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("a part of the daemon died", exc_info=error)
            self._end(1)

    async def _values(self) -> Values:
        census = self._census
        return {
            **await self._streams.values(),
            "events_accepted_total": census.accepted,
            "events_repeated_total": census.repeated,
            "events_lost_total": census.lost,
            "events_missing": census.missing,
            "messages_refused_total": dict(census.refused),
            "answers_undeliverable_total": self._ingest.unanswered,
            "producer_connections": len(self._ingest.peers),
            "producer_connections_cut_total": dict(self._ingest.peers.cut),
            "producer_handshakes_failed_total": dict(self._ingest.peers.failed),
            "producers": len(census.tallies),
            "groups": len(self._directory.groups),
            "topics": len(self._directory.topics),
            "append_queue_bytes": self._appender.bytes,
            "log_position": self._head,
            "nonces": 0 if self._book is None else self._book.nonces,
            "sessions": 0 if self._book is None else self._book.sessions,
            "clients_unproven": float(self.config.auth.mode == "claim"),
            "ready": float(self.why_not_ready is None),
            "start_time_seconds": self.started,
        }

    # Change and end.

    def _reload(self) -> None:
        if self._why_not == "starting":
            # There is nothing yet to put it in force in, and the file may have changed since it was read: once there is.
            self._loop.call_later(RELOAD_AGAIN, self._reload)
            return
        mistaken = self._read_keys()
        try:
            new = self._reload_config()
        except ConfigError as error:
            for mistake in error.mistakes:
                _log.error("configuration not reloaded", extra={"mistake": mistake})
            # Nothing is new in it; but those who hold streams look again at what was read anew beside it.
            self.config = merged(self.config, self.config)
            self._front.apply(self.config)
            return
        applied, ignored = changed(self.config, new)
        self.config = merged(self.config, new)
        self._apply()
        announce.reloaded(applied, ignored, mistaken)

    def _read_keys(self) -> list[str]:
        """Reads again what stands in files of its own; the keys of the configuration whose files have mistakes."""
        whole = {"ingest.authorized_keys": self._ingest.reload_keys(), "auth.token_keys": renew(self.config.auth, self._book)}
        return [key for key, read in whole.items() if not read]

    def _apply(self) -> None:
        """Puts what can change while it runs in force."""
        log.setup(self.config.log.format, self.config.log.level)
        self._appender.bounds = self._bounds()
        self._listening.tune(self.config.streams)
        self._front.apply(self.config)

    def _stop(self) -> None:
        """SIGTERM: drains and ends; while it starts, or a second time, it ends at once."""
        if self._why_not is not None:
            _log.warning("stopping at once")
            self._end(0)
            return
        self._why_not = "draining"
        _log.info("stopping")
        systemd.notify(systemd.STOPPING, systemd.status("draining"))
        if isinstance(self._front, Crew):
            self._front.tell_ready()
        self._front.stop_listening()
        self._listening.stop()
        self._ingest.drain()
        self._spawn(self._drain(self.config.daemon.drain_time))

    async def _drain(self, seconds: float) -> None:
        """Takes what was accepted into the log and lets the streams take their `bye`, for at most so long; then ends."""
        deadline = self._loop.time() + seconds
        while not self._appender.idle and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        await self._front.end(max(0.0, deadline - self._loop.time()))
        self._end(0)

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def _close_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_admin(self, server: HTTPServer, path: Path, lock: TextIO) -> None:
        self._admin.stop()
        self._admin.socket.close()
        await server.close_all_connections()
        path.unlink(missing_ok=True)
        lock.close()


async def serve(config: Config, backend: Backend, reload: Callable[[], Config]) -> int:
    """Runs a daemon in this process until it ends; the exit status."""
    log.setup(config.log.format, config.log.level)
    try:
        inherited = [found.socket for found in systemd.inherited_sockets()]
        return await Daemon(config, backend, reload, inherited).run()
    except (AddressError, AuthUnusable, BackendError, ConfigError, KeyCheckDead, WorkerFailed) as error:
        logging.getLogger("sse_daemon").error("cannot start", extra={"reason": str(error)})
        return 1
