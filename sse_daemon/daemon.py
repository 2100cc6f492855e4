"""The process: what starts in which order, what signals do, and how it ends. It is given a backend and never chooses one."""

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
from functools import partial
from pathlib import Path
from typing import Any, TextIO

from tornado.httpserver import HTTPServer

import sse_daemon
from sse_daemon import admin, log, systemd, web
from sse_daemon.appender import Appender
from sse_daemon.auth import authenticator
from sse_daemon.backend import Backend
from sse_daemon.catchup import CatchUp
from sse_daemon.census import Census
from sse_daemon.config import Config
from sse_daemon.config_change import changed, merged
from sse_daemon.directory import Directory
from sse_daemon.door import Door
from sse_daemon.envelope import Bounds
from sse_daemon.errors import AddressError, BackendError, ConfigError
from sse_daemon.event import Event, Logged
from sse_daemon.hub import Hub
from sse_daemon.ingest import Ingest
from sse_daemon.listener import Accepted, Listener, listen, listen_unix, name_of, tune
from sse_daemon.liveness import Liveness, Timing
from sse_daemon.longpoll import LongPoll
from sse_daemon.loop_lag import LoopLag
from sse_daemon.metrics import Values
from sse_daemon.timely import PATIENCE, Timely
from sse_daemon.web_site import Site
from sse_daemon.window import Window

LAST_WORDS = 0.1
"""Seconds in which requests that had been accepted when the drain began still get an answer."""
PROBE_EVERY = 1.0
"""Seconds between two questions to a backend that failed, whether it works again."""
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
        self._loop = asyncio.get_running_loop()
        self._why_not: str | None = "starting"
        self._listeners: list[Listener] = []
        """Where clients come in."""
        self._doors: list[Listener] = []
        """All listeners, the operators' included."""
        self._servers: list[HTTPServer | web.Entrance] = []
        self._locks: list[tuple[Path, TextIO]] = []
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
        await self._open_backend()
        self._exit.push_async_callback(self._close_listeners)
        self._exit.push_async_callback(self._close_tasks)
        self._bind_ingest()
        self._listen_http()
        self._listen_admin()
        self._begin()

    async def _open_backend(self) -> None:
        self._hub: Hub  # set below, without an await between: `deliver` is not called before
        opened = await self._backend.open(self._deliver)
        self._exit.push_async_callback(self._backend.close)
        config, streams = self.config, self.config.streams
        self._directory = Directory(
            opened.groups, opened.topics, max_groups=config.ingest.max_groups, max_topics=config.ingest.max_topics
        )
        self._door = Door(streams, lambda: len(self._hub.streams), self._loop.time)
        self._catchup = CatchUp(self._backend, self._loop, self._door.bye_ms)
        window = Window(streams.window_bytes, opened.head)
        self._hub = self._catchup.hub = Hub(window, opened.incarnation, self._loop, self._catchup.fetch, time.time)
        self._exit.callback(self._hub.shutdown)
        self._exit.push_async_callback(self._catchup.close)
        self._liveness = Liveness(self._hub, _timing(config), self._loop, time.time, self._door.bye_ms)
        self._exit.callback(self._liveness.close)
        self._loop_lag = LoopLag(self._loop)
        self._exit.callback(self._loop_lag.close)
        self._longpoll = LongPoll(self._hub, self._catchup, self._backend, self._loop)

    def _bind_ingest(self) -> None:
        self._census = Census(self.config.ingest.max_producers)
        self._appender = Appender(
            self._backend,
            self._directory,
            _bounds(self.config),
            self.config.ingest.queue_bytes,
            time.time,
            lambda: self._ingest.room(),
            lambda outcomes: self._ingest.settled(outcomes),
        )
        self._ingest = Ingest(self._appender, self._census, self._hub.incarnation, self._hub.end, self._loop, time.time)
        self._exit.callback(self._ingest.close)
        self._ingest.bind(self.config.ingest.pubsub, self.config.ingest.acked)

    def _listen_http(self) -> None:
        self._site = Site(
            config=lambda: self.config,
            hub=self._hub,
            catchup=self._catchup,
            longpoll=self._longpoll,
            liveness=self._liveness,
            backend=self._backend,
            directory=self._directory,
            authenticator=authenticator(self.config.auth.mode or ""),
            door=self._door,
            ready=lambda: self.why_not_ready,
            wall=time.time,
        )
        self._http = web.Entrance(self._site)
        self._servers.append(self._http)
        send_buffer, stall_timeout = self.config.streams.send_buffer, self.config.streams.stall_timeout
        for listening in self._inherited:
            listening.setblocking(False)
            tune(listening, send_buffer, stall_timeout)
            self._listeners.append(self._listener(listening, self._http.serve))
        for address in () if self._inherited else self.config.http.listen:
            listening, lock = listen(address, send_buffer, stall_timeout)
            self._keep_lock(lock, Path(address.removeprefix("unix:")))
            self._listeners.append(self._listener(listening, self._http.serve))

    def _listener(self, listening: socket.socket, accepted: Accepted) -> Listener:
        listener = Listener(listening, self._loop, self.config.streams.send_buffer, accepted)
        self._doors.append(listener)
        return listener

    def _listen_admin(self) -> None:
        desk = admin.Desk(
            hub=self._hub,
            ingest=self._ingest,
            census=self._census,
            directory=self._directory,
            backend=self._backend,
            door=self._door,
            values=self._values,
            ready=lambda: self.why_not_ready,
            drain=self._drain_streams,
            about=self._about(),
            wall=time.time,
        )
        path = Path(self.config.admin.socket)
        try:
            path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
            listening, lock = listen_unix(path, 0o660)
        except OSError as error:
            raise AddressError(f"unix:{path}", error.strerror or str(error)) from None
        self._keep_lock(lock, path)
        server = admin.server(desk)
        self._servers.append(server)
        self._listener(listening, partial(web.serve, server))

    def _begin(self) -> None:
        self._spawn(self._appender.run())
        self._spawn(self._watch_backend())
        self._ingest.start()
        for listener in self._doors:
            listener.start()
        self._why_not = None
        if interval := systemd.watchdog_interval():
            self._spawn(systemd.ping(interval))
        # What exists now lives as long as the process: later collections need not look at it again.
        gc.collect()
        gc.freeze()
        _log.info("ready", extra=self._addresses())
        systemd.notify(systemd.READY, systemd.status(f"serving on {self._addresses()['http']}"))

    def _addresses(self) -> dict[str, str]:
        return {
            "http": ",".join(name_of(listener.socket) for listener in self._listeners),
            "ingest": ",".join(self._ingest.addresses),
            "admin": str(self.config.admin.socket),
            "backend": self.config.backend.url,
            "auth": self.config.auth.mode or "",
            "version": sse_daemon.__version__,
        }

    def _about(self) -> dict[str, str]:
        return {**self._addresses(), "incarnation": self._hub.incarnation, "pid": str(os.getpid())}

    # While it runs.

    @property
    def why_not_ready(self) -> str | None:
        """Why no client should be sent here just now, or None."""
        if self._why_not is not None:
            return self._why_not
        if (fault := self._appender.fault) is not None:
            return f"the backend failed: {fault}"
        silent = self._backend.silent_for()
        return None if silent < PATIENCE else f"the backend has not answered for {silent:.0f} s"

    def _deliver(self, batch: Sequence[Logged], after: int, last: int) -> None:
        for item in batch:
            if not isinstance(item, Event):
                self._directory.apply(item)
        self._hub.deliver(batch, after, last)

    async def _watch_backend(self) -> None:
        """Asks a backend that failed until it works again, so that readiness comes back without a producer's help."""
        while True:
            await asyncio.sleep(PROBE_EVERY)
            if self._appender.fault is None:
                continue
            try:
                await self._backend.check()
            except BackendError as error:
                self._appender.fault = error
            else:
                self._appender.fault = None
                _log.info("the backend works again")

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._task_done)

    def _task_done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.critical("a part of the daemon died", exc_info=error)
            self._end(1)

    def _values(self) -> Values:
        hub, census, window = self._hub, self._census, self._hub.window
        return {
            "streams": len(hub.streams),
            "streams_blocked": len(hub.blocked),
            "streams_opened_total": hub.opened,
            "streams_closed_total": dict(hub.closings),
            "streams_turned_away_total": self._door.turned_away,
            "resyncs_total": dict(self._catchup.resyncs),
            "deliveries_total": hub.delivered + sum(stream.delivered for stream in hub.streams.values()),
            "heartbeats_total": self._liveness.heartbeats,
            "events_accepted_total": census.accepted,
            "events_repeated_total": census.repeated,
            "events_lost_total": census.lost,
            "events_missing": census.missing,
            "messages_refused_total": dict(census.refused),
            "answers_undeliverable_total": self._ingest.unanswered,
            "producers": len(census.tallies),
            "groups": len(self._directory.groups),
            "topics": len(self._directory.topics),
            "append_queue_bytes": self._appender.bytes,
            "window_bytes": window.bytes,
            "window_events": len(window),
            "window_channels": len(window.channels),
            "pinned_bytes": hub.pinned(),
            "log_position": window.head,
            "sweep_position": hub.end,
            "loop_lag_seconds": self._loop_lag.worst,
            "ready": float(self.why_not_ready is None),
            "start_time_seconds": self.started,
        }

    # Change and end.

    def _reload(self) -> None:
        if self._why_not == "starting":
            # There is nothing yet to put it in force in, and the file may have changed since it was read: once there is.
            self._loop.call_later(RELOAD_AGAIN, self._reload)
            return
        try:
            new = self._reload_config()
        except ConfigError as error:
            for mistake in error.mistakes:
                _log.error("configuration not reloaded", extra={"mistake": mistake})
            return
        applied, ignored = changed(self.config, new)
        self.config = merged(self.config, new)
        self._apply()
        _log.info("configuration reloaded", extra={"changed": ",".join(applied), "restart_needed_for": ",".join(ignored)})

    def _apply(self) -> None:
        """Puts what can change while it runs in force."""
        log.setup(self.config.log.format, self.config.log.level)
        self._door.settings = self.config.streams
        self._liveness.timing = _timing(self.config)
        self._appender.bounds = _bounds(self.config)
        self._http.reload()
        for listener in self._listeners:
            if listener.socket.fileno() >= 0:  # for those who are accepted from now on
                tune(listener.socket, self.config.streams.send_buffer, self.config.streams.stall_timeout)

    def _stop(self) -> None:
        """SIGTERM: drains and ends; while it starts, or a second time, it ends at once."""
        if self._why_not is not None:
            _log.warning("stopping at once")
            self._end(0)
            return
        self._why_not = "draining"
        _log.info("stopping", extra={"streams": len(self._hub.streams)})
        systemd.notify(systemd.STOPPING, systemd.status("draining"))
        for listener in self._listeners:
            listener.stop()
            if not self._inherited:  # a socket of systemd's keeps whoever comes now waiting for our successor
                listener.socket.close()
        self._ingest.drain()
        self._spawn(self._drain(self.config.daemon.drain_time))

    async def _drain(self, seconds: float) -> None:
        """Takes what was accepted into the log and lets the streams take their `bye`, for at most so long; then ends."""
        deadline = self._loop.time() + seconds
        while not self._appender.idle and self._loop.time() < deadline:
            await asyncio.sleep(0.005)
        self._door.ending = True
        await self._drain_streams(0.0)
        await asyncio.sleep(min(LAST_WORDS, seconds))
        while self._hub.streams and self._loop.time() < deadline:
            await asyncio.sleep(0.01)
        self._end(0)

    async def _drain_streams(self, over: float) -> None:
        """Sends new streams away from now on, and ends the others evenly over so many seconds."""
        self._door.closed_for = "drain"
        self._longpoll.end()
        streams = list(self._hub.streams.values())
        begun = self._loop.time()
        for number, stream in enumerate(streams):
            due = begun + over * number / len(streams)
            if number % 64 == 63 or due > self._loop.time():
                await asyncio.sleep(max(0.0, due - self._loop.time()))
            self._hub.finish(stream, "drain", self._door.bye_ms())

    def _end(self, status: int) -> None:
        if not self._ended.done():
            self._ended.set_result(status)

    async def _close_tasks(self) -> None:
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _close_listeners(self) -> None:
        for listener in self._doors:
            listener.stop()
            listener.socket.close()
        for server in self._servers:
            await server.close_all_connections()
        for path, lock in self._locks:
            path.unlink(missing_ok=True)
            lock.close()

    def _keep_lock(self, lock: TextIO | None, path: Path) -> None:
        if lock is not None:
            self._locks.append((path, lock))


def _bounds(config: Config) -> Bounds:
    ingest = config.ingest
    return Bounds(ingest.max_frame, ingest.max_frames, ingest.max_recipients, ingest.max_members)


def _timing(config: Config) -> Timing:
    return Timing(config.streams.heartbeat, config.streams.stall_timeout, config.streams.pinned_limit)


async def serve(config: Config, backend: Backend, reload: Callable[[], Config]) -> int:
    """Runs a daemon in this process until it ends; the exit status."""
    log.setup(config.log.format, config.log.level)
    try:
        inherited = [found.socket for found in systemd.inherited_sockets()]
        return await Daemon(config, backend, reload, inherited).run()
    except (AddressError, BackendError) as error:
        logging.getLogger("sse_daemon").error("cannot start", extra={"reason": str(error)})
        return 1
