"""The configuration as one frozen object: `Config`, with an object for each table and a `Route` for each `[[stream]]`.

Durations are float seconds, sizes are int bytes. Each default stands here and nowhere else: systemd/sse-daemon.toml and
docs/configuration.md repeat it for people, and a test compares. What is not valid cannot be constructed: ValueError for one
value, `Conflicts` for values that do not go together.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from typing import Literal

from attrs import AttrsInstance, Factory, field, frozen

from sse_daemon.address import Tcp, Unix, is_loopback, listen_address, zmq_address
from sse_daemon.config_hook import HEADERS, HOOK_URL
from sse_daemon.config_kinds import (
    CLAIM,
    ENTRY_POINT,
    HOSTS,
    KEY_FILE,
    KEY_FOLDER,
    LISTEN,
    ORIGINS,
    PROXIES,
    SHARED,
    SOCKET,
    STATE,
    URL,
    ZMQ,
    Conflict,
    Decimal,
    Maybe,
    Or,
    Switch,
    Whole,
    Word,
    count,
    rate,
    refuse,
    seconds,
    setting,
    shown,
    size,
)
from sse_daemon.config_route import EVENTS, RESERVED_PATHS, Route, shape

KIB = 1024
MIB = 1024 * KIB
MAX_WORKERS = 256
MODES = ("proof", "token", "hook", "trusted-proxy", "claim")


def default_admin_socket(environ: Mapping[str, str], uid: int) -> str:
    """Where the daemon of user `uid` has its admin socket, and where its commands look for it, unless told otherwise.

    A relative XDG_RUNTIME_DIR is ignored, as the XDG base directory specification demands.
    """
    if uid == 0:
        return "/run/sse-daemon/admin.sock"
    runtime = environ.get("XDG_RUNTIME_DIR", "")
    if runtime.startswith("/"):
        return f"{runtime.rstrip('/')}/sse-daemon/admin.sock"
    return f"/tmp/sse-daemon-{uid}/admin.sock"


@frozen(kw_only=True)
class HttpConfig:
    """`[http]`: where clients come in, and how long a request may take to arrive."""

    listen: tuple[str, ...] = setting(LISTEN, ("127.0.0.1:8080",))
    hosts: tuple[str, ...] = setting(HOSTS, ())
    cors_origins: tuple[str, ...] = setting(ORIGINS, ())
    header_timeout: float = setting(seconds(above=True), 10.0)
    body_timeout: float = setting(seconds(above=True), 10.0)
    max_header: int = setting(size(KIB, MIB), 16 * KIB)
    max_per_address: int = setting(count(), 500)
    shared_addresses: tuple[str, ...] = setting(SHARED, ("127.0.0.0/8", "::1", "unix"))
    forwarded_from: tuple[str, ...] = setting(PROXIES, ())


@frozen(kw_only=True)
class IngestConfig:
    """`[ingest]`: where producers come in, and the bounds of what they may send."""

    pubsub: tuple[str, ...] = setting(ZMQ, ("tcp://127.0.0.1:5556",))
    acked: tuple[str, ...] = setting(ZMQ, ("tcp://127.0.0.1:5557",))
    curve_secret: str | None = setting(Maybe(KEY_FILE), None)
    authorized_keys: str | None = setting(Maybe(KEY_FOLDER), None)
    max_frame: int = setting(size(1, 1024 * MIB), MIB)
    max_frames: int = setting(count(1), 1000)
    max_recipients: int = setting(count(1), 1000)
    max_message: int = setting(size(1), 4 * MIB)
    max_message_recipients: int = setting(count(1), 20_000)
    max_connections: int = setting(count(1), 200)
    queue_bytes: int = setting(size(1), 16 * MIB)
    max_producers: int = setting(count(1), 10_000)
    max_groups: int = setting(count(), 10_000)
    max_members: int = setting(count(), 1000)
    max_topics: int = setting(count(), 100_000)

    def __attrs_post_init__(self) -> None:
        refuse(self._half_a_key())

    def _half_a_key(self) -> Iterator[Conflict]:
        pair = ("curve_secret", "authorized_keys")
        for key, other in (pair, pair[::-1]):
            if getattr(self, key) is not None and getattr(self, other) is None:
                yield Conflict((key,), f"needs {other} beside it; both, or neither")


def _own_admin_socket() -> str:
    return default_admin_socket(os.environ, os.getuid())


@frozen(kw_only=True)
class AdminConfig:
    """`[admin]`: where operators come in."""

    socket: str = setting(SOCKET, Factory(_own_admin_socket))


@frozen(kw_only=True)
class BackendConfig:
    """`[backend]`: which log, and how much of it is kept."""

    url: str = setting(URL, "memory://")
    retention_bytes: int = setting(size(), 256 * MIB)
    retention_age: float = setting(seconds(), 86400.0)
    retained_bytes: int = setting(size(), 64 * MIB)
    retained_slots: int = setting(count(), 100_000)
    dedupe_window: float = setting(seconds(), 600.0)


@frozen(kw_only=True)
class AuthConfig:
    """`[auth]`: how a client shows who it is."""

    mode: Literal["proof", "token", "hook", "trusted-proxy", "claim"] = setting(Word(MODES), "proof")
    state: str | None = setting(Maybe(STATE), None)
    proof_lifetime: float = setting(seconds(above=True), 3600.0)
    # Nobody can look a browser's session up without its cookie, but whoever has stolen one has it for as long.
    session_lifetime: float = setting(Decimal("seconds", 1, 86_400), 900.0)
    # 60 to 70 s of as many signatures as are checked; about 150 bytes each.
    max_nonces: int = setting(count(1), 200_000)
    max_sessions: int = setting(count(), 100_000)
    # A hundred addresses have to work together to fill the table, and an office with a session or two for each page fits.
    max_sessions_address: int = setting(count(), 1000)
    # A check is 0.1 ms of the loop's time: this is a fifth of a core.
    verify_rate: float = setting(rate(), 2000.0)
    verify_rate_address: float = setting(rate(), 200.0)
    token_keys: str | None = setting(Maybe(KEY_FILE), None)
    token_audience: str | None = setting(Maybe(CLAIM), None)
    token_issuer: str | None = setting(Maybe(CLAIM), None)
    token_claim: str = setting(CLAIM, "sub")
    trusted_proxies: tuple[str, ...] = setting(PROXIES, ())
    hook_url: str | None = setting(Maybe(HOOK_URL), None)
    hook_socket: str | None = setting(Maybe(SOCKET), None)
    # What a client claims to be is not among them: an application might take the daemon's word for it.
    hook_headers: tuple[str, ...] = setting(HEADERS, ("Authorization", "Cookie"))
    hook_timeout: float = setting(Decimal("seconds", 0, 60, above=True), 2.0)
    hook_concurrency: int = setting(Whole("a number", 1, 1000), 16)
    hook_queue: int = setting(count(), 1000)
    # For so long somebody who has logged out can still open a stream.
    hook_cache: float = setting(Decimal("seconds", 0, 60), 5.0)
    # And for so long keeps one that is open.
    hook_lifetime: float = setting(seconds(above=True), 900.0)
    claim_is_trusted_network: bool = setting(Switch(), False)
    key_resolver: str | None = setting(Maybe(ENTRY_POINT), None)

    def __attrs_post_init__(self) -> None:
        refuse(self._conflicts())

    def _conflicts(self) -> Iterator[Conflict]:
        for key, right in (("token_keys", "the file of the keys that sign tokens"), ("token_audience", "what their aud says")):
            if self.mode == "token" and getattr(self, key) is None:
                yield Conflict(("mode", key), f"needs {key}; {right}")
        if self.mode == "trusted-proxy" and not self.trusted_proxies:
            yield Conflict(("mode", "trusted_proxies"), "needs trusted_proxies; the addresses of those that say who a client is")
        if self.mode == "hook" and self.hook_url is None:
            yield Conflict(("mode", "hook_url"), "needs hook_url; where the application says who asks")


@frozen(kw_only=True)
class ParticipantsConfig:
    """`[participants]`: what a participant's key is; None: what the mode needs."""

    keys: Literal["opaque", "ed25519"] | None = setting(Maybe(Word(("opaque", "ed25519"))), None)


@frozen(kw_only=True)
class StreamsConfig:
    """`[streams]`: how the daemon treats open streams."""

    heartbeat: float = setting(seconds(above=True), 15.0)
    stall_timeout: float = setting(seconds(above=True), 30.0)
    lifetime: float = setting(seconds(), 0.0)
    lifetime_jitter: float = setting(Decimal("a fraction", 0.0, 1.0), 0.1)
    max_streams: int = setting(count(), 0)
    max_per_participant: int = setting(count(), 1000)
    max_per_address: int = setting(count(), 1000)
    open_rate: float = setting(Decimal("a number a second", 0.0, 1e6), 50.0)
    # A fan-out holds the loop for 20 ms at a time; what is late by this much for seconds has more to do than it can.
    shed_lag: float = setting(seconds(), 0.5)
    # Linux doubles what is asked and keeps at least 4608 (socket(7)); beyond 1 MiB the kernel hides how slow a client is.
    send_buffer: int = setting(size(4 * KIB, MIB), 64 * KIB)
    pinned_limit: int = setting(size(), 64 * MIB)
    window_bytes: int = setting(size(), 64 * MIB)
    retry_min: float = setting(seconds(), 1.0)
    retry_max: float = setting(seconds(), 3.0)
    wait: float = setting(seconds(), 25.0)
    max_wait: float = setting(seconds(), 60.0)
    limit: int = setting(count(1), 1000)
    max_filters: int = setting(count(), 100)

    def __attrs_post_init__(self) -> None:
        refuse(self._conflicts())

    def _conflicts(self) -> Iterator[Conflict]:
        for low, high in (("retry_min", "retry_max"), ("wait", "max_wait")):
            least, most = getattr(self, low), getattr(self, high)
            if least > most:
                yield Conflict((low, high), f"{low} ({least:g}) is more than {high} ({most:g}); at most as much")


@frozen(kw_only=True)
class DaemonConfig:
    """`[daemon]`: the process itself."""

    drain_time: float = setting(seconds(), 2.0)
    # Beyond the cores there is nothing to gain; a senseless number must not start a thousand processes.
    workers: int | Literal["auto"] = setting(Or("auto", Whole("a number", 1, MAX_WORKERS)), 1)

    @property
    def processes(self) -> int:
        """How many processes hold streams: as configured, or as many as there are cores for this one."""
        cores = len(os.sched_getaffinity(0))
        return min(cores, MAX_WORKERS) if self.workers == "auto" else self.workers


@frozen(kw_only=True)
class LogConfig:
    """`[log]`: what the daemon writes to standard error."""

    format: Literal["logfmt", "json"] = setting(Word(("logfmt", "json")), "logfmt")
    level: Literal["debug", "info", "warning", "error"] = setting(Word(("debug", "info", "warning", "error")), "info")


@frozen(kw_only=True)
class Config:
    """The whole configuration. `stream`: the routes of the `[[stream]]` tables, in their order."""

    http: HttpConfig = field(factory=HttpConfig)
    ingest: IngestConfig = field(factory=IngestConfig)
    admin: AdminConfig = field(factory=AdminConfig)
    backend: BackendConfig = field(factory=BackendConfig)
    auth: AuthConfig = field(factory=AuthConfig)
    participants: ParticipantsConfig = field(factory=ParticipantsConfig)
    streams: StreamsConfig = field(factory=StreamsConfig)
    daemon: DaemonConfig = field(factory=DaemonConfig)
    log: LogConfig = field(factory=LogConfig)
    stream: tuple[Route, ...] = ()

    @property
    def routes(self) -> tuple[Route, ...]:
        """Every route in the order in which it is tried: the built-in one, then `stream`."""
        return (EVENTS, *self.stream)

    @property
    def keys(self) -> Literal["opaque", "ed25519"]:
        """What a participant's key is: as configured, or as the mode needs it."""
        return self.participants.keys or ("ed25519" if self.auth.mode == "proof" else "opaque")

    @property
    def proxies(self) -> tuple[str, ...]:
        """Who is believed about the address of whom it speaks for: nobody, unless listed, for that or by the mode."""
        return (*self.http.forwarded_from, *(self.auth.trusted_proxies if self.auth.mode == "trusted-proxy" else ()))

    @property
    def shared_addresses(self) -> tuple[str, ...]:
        """From where many clients come, so that nothing is limited there."""
        return (*self.http.shared_addresses, *self.proxies)

    def __attrs_post_init__(self) -> None:
        refuse((*self._shared_addresses(), *self._shared_paths(), *self._unproven(), *self._open_to_all()))

    def _unproven(self) -> Iterator[Conflict]:
        auth = self.auth
        if auth.mode == "proof" and self.keys == "opaque":
            yield Conflict(("participants.keys", "auth.mode"), 'with mode "proof" keys have to be able to sign; "ed25519"')
        for text in self.http.listen:
            host = listen_address(text)
            if auth.mode == "claim" and not auth.claim_is_trusted_network and not is_loopback(host):
                wrong = (
                    f'{shown(text)} can be reached from outside of this machine, and mode "claim" believes what every client says'
                )
                right = 'mode "proof", or claim_is_trusted_network = "on" if nobody is there who would lie'
                yield Conflict(("auth.mode", "http.listen"), f"{wrong}; {right}")

    def _open_to_all(self) -> Iterator[Conflict]:
        for key, text, address in addresses(self.http, self.ingest, self.admin):
            if key.startswith("ingest.") and self.ingest.curve_secret is None and not is_loopback(address):
                wrong = f"{shown(text)} can be reached from outside of this machine, where anybody could publish to everybody"
                right = "[ingest] curve_secret and authorized_keys, or a loopback address"
                yield Conflict((key, "ingest.curve_secret"), f"{wrong}; {right}")

    def _shared_addresses(self) -> Iterator[Conflict]:
        seen: dict[Tcp | Unix, str] = {}
        for key, text, address in addresses(self.http, self.ingest, self.admin):
            if isinstance(address, Tcp) and address.port == 0:
                continue
            if address in seen:
                wrong = f"{shown(text)} is listened on twice, by {seen[address]} and {key}"
                yield Conflict((key, seen[address]), f"{wrong}; an address of its own for each")
            seen.setdefault(address, key)

    def _shared_paths(self) -> Iterator[Conflict]:
        seen: dict[str, str] = {}
        for number, route in enumerate(self.stream, 1):
            key = f"stream.{number}.path"
            first = seen.setdefault(shape(route.path), key)
            if route.path in (EVENTS.path, *RESERVED_PATHS):
                yield Conflict((key,), f"{shown(route.path)} is the daemon's own; another path")
            elif first != key:
                other = f"[[stream]] {first.split('.')[1]}"
                yield Conflict((key, first), f"{shown(route.path)} matches what {other} matches; another path")


TABLES: Mapping[str, type[AttrsInstance]] = {
    "http": HttpConfig,
    "ingest": IngestConfig,
    "admin": AdminConfig,
    "backend": BackendConfig,
    "auth": AuthConfig,
    "participants": ParticipantsConfig,
    "streams": StreamsConfig,
    "daemon": DaemonConfig,
    "log": LogConfig,
}
"""The class of every table with one value for each key, in the order of `Config`."""


def addresses(http: HttpConfig, ingest: IngestConfig, admin: AdminConfig) -> Iterator[tuple[str, str, Tcp | Unix]]:
    """Every address that is listened on, as (dotted key, text, address)."""
    kinds: tuple[tuple[str, tuple[str, ...], Callable[[str], Tcp | Unix]], ...] = (
        ("http.listen", http.listen, listen_address),
        ("ingest.pubsub", ingest.pubsub, zmq_address),
        ("ingest.acked", ingest.acked, zmq_address),
    )
    for key, texts, parse in kinds:
        yield from ((key, text, parse(text)) for text in texts)
    yield "admin.socket", admin.socket, Unix(admin.socket)
