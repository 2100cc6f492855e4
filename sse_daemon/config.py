"""The configuration: read from a TOML file, the environment and the options of `serve` into one `Config`.

An option wins over an environment variable, that over the file, that over the default. Every mistake is found at once, also one
in a value that is overridden, and each is one line: where it is, what is wrong, what would be right.
"""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from attrs import fields

from sse_daemon.address import Tcp, Unix, is_loopback
from sse_daemon.config_change import RELOADABLE, changed, merged
from sse_daemon.config_kinds import Conflict, Conflicts, Kind, shown
from sse_daemon.config_route import EVENTS, Route
from sse_daemon.config_tables import (
    TABLES,
    AdminConfig,
    AuthConfig,
    BackendConfig,
    Config,
    DaemonConfig,
    HttpConfig,
    IngestConfig,
    LogConfig,
    ParticipantsConfig,
    StreamsConfig,
    addresses,
    default_admin_socket,
)
from sse_daemon.errors import ConfigError

__all__ = [
    "EVENTS",
    "OPTIONS",
    "RELOADABLE",
    "AdminConfig",
    "AuthConfig",
    "BackendConfig",
    "Config",
    "DaemonConfig",
    "HttpConfig",
    "IngestConfig",
    "LogConfig",
    "ParticipantsConfig",
    "Route",
    "StreamsConfig",
    "changed",
    "default_admin_socket",
    "load",
    "merged",
    "variable",
]

PREFIX = "SSE_DAEMON_"
CONFIG_VARIABLE = f"{PREFIX}CONFIG"
"""Names the file; every other variable with the prefix is a key."""

OPTIONS: Mapping[tuple[str, str], str] = {
    ("http", "listen"): "--http",
    ("ingest", "pubsub"): "--pubsub",
    ("ingest", "acked"): "--acked",
    ("admin", "socket"): "--admin",
    ("backend", "url"): "--backend",
    ("daemon", "workers"): "--workers",
}
"""The keys that differ for each daemon on one machine, or are tried out on one, and their options of `serve`."""


def variable(table: str, key: str) -> str:
    """The environment variable of a key."""
    return f"{PREFIX}{table}_{key}".upper()


def load(
    path: Path | None,
    environ: Mapping[str, str],
    overrides: Mapping[tuple[str, str], object] = MappingProxyType({}),
    *,
    dev: bool = False,
    check_url: Callable[[str], None] = lambda url: None,
) -> Config:
    """The configuration of `path` (None: what SSE_DAEMON_CONFIG names, if anything), `environ` and `overrides`.

    overrides: values by (table, key), as TOML would give them; None and () mean that the option was not given. dev: what
    `serve --dev` stands for: claimed keys are trusted, so nothing may be reachable from outside, and the log is in memory
    unless an option names another. check_url: raises ValueError for a URL that no backend takes.

    Raises ConfigError with all mistakes. Reads the file and nothing else.
    """
    reader = _Reader(check_url)
    named = environ.get(CONFIG_VARIABLE)
    if path is not None or named:
        reader.take_file(path or Path(str(named)))
    reader.take_environ(environ)
    given = {place: value for place, value in overrides.items() if value not in (None, ())}
    reader.take_options(given)
    reader.take_default_socket(environ)
    if dev:
        reader.take_dev(keep_backend=("backend", "url") in given)
    return reader.config(dev)


def _kinds(cls: Any) -> Mapping[str, Kind]:
    return {attribute.name: attribute.metadata["kind"] for attribute in fields(cls)}


_KEYS: Mapping[str, Mapping[str, Kind]] = {table: _kinds(cls) for table, cls in TABLES.items()}
_ROUTE_KEYS = _kinds(Route)
_VARIABLES: Mapping[str, tuple[str, str]] = {variable(table, key): (table, key) for table in _KEYS for key in _KEYS[table]}


_MODES_BY_KEY = {"token_keys": "token", "trusted_proxies": "trusted-proxy", "hook_url": "hook"}
"""The mode that each of these is for, and cannot do without it."""

# Kubernetes sets these in every container beside a service that is named sse-daemon; nobody wrote them by mistake.
_FOREIGN = re.compile(rf"{PREFIX}(SERVICE_HOST|SERVICE_PORT(_\w+)?|PORT(_\d+_\w+)?)")


def _meant(name: str, known: Collection[str], form: str = "{}") -> str:
    """What would be right instead of the unknown `name`."""
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {form.format(near[0])}?"
    return f"known are {', '.join(form.format(each) for each in known)}"


def _meant_key(key: str, known: Collection[str]) -> str:
    """The same for a key where `known` are expected: it may only stand in the wrong table."""
    tables = {f"[{table}]": keys for table, keys in _KEYS.items()} | {"[[stream]]": _ROUTE_KEYS}
    right = [table for table, keys in tables.items() if key in keys]
    return f"it belongs below {' or '.join(right)}" if right else _meant(key, known)


def _meant_variable(name: str) -> str:
    # Without the prefix, which all of them share: with it, everything looks alike.
    known = [each.removeprefix(PREFIX) for each in _VARIABLES]
    near = difflib.get_close_matches(name.removeprefix(PREFIX), known, n=1)
    return f"did you mean {PREFIX}{near[0]}?" if near else f"{PREFIX}<TABLE>_<KEY>, such as {variable('http', 'listen')}"


class _Reader:
    """Collects valid values, layer over layer, and mistakes.

    values: by table and key. places: where the value of a dotted key came from. bad: dotted keys whose last value was refused;
    a conflict that involves one of them would blame the default, so it is not reported.
    """

    def __init__(self, check_url: Callable[[str], None]) -> None:
        self.check_url = check_url
        self.mistakes: list[str] = []
        self.values: dict[str, dict[str, Any]] = {table: {} for table in TABLES}
        self.routes: list[Route] = []
        self.places: dict[str, str] = {}
        self.bad: set[str] = set()

    def take_file(self, path: Path) -> None:
        for name, content in self._toml(path).items():
            if name == "stream":
                self._take_routes(f"{path}: [[stream]]", content)
            elif name in TABLES:
                self._take_table(f"{path}: [{name}]", name, content)
            elif isinstance(content, dict):
                self.mistakes.append(f"{path}: [{name}]: unknown table; {_meant(name, (*TABLES, 'stream'), '[{}]')}")
            else:
                self.mistakes.append(f"{path}: {name}: this key is in no table; {_meant_key(name, TABLES)}")

    def _toml(self, path: Path) -> Mapping[str, Any]:
        try:
            return tomllib.loads(path.read_bytes().decode())
        except OSError as error:
            self.mistakes.append(f"{path}: cannot be read: {error.strerror}; a file that this user can read")
        except UnicodeDecodeError as error:
            self.mistakes.append(f"{path}: byte {error.start} is not UTF-8; TOML is UTF-8")
        except tomllib.TOMLDecodeError as error:
            self.mistakes.append(f"{path}: not TOML: {error}; see https://toml.io")
        return {}

    def _take_table(self, place: str, table: str, content: object) -> None:
        if not isinstance(content, dict):
            self.mistakes.append(f"{place}: {shown(content)} is no table; a line [{table}], and its keys below")
            return
        for key, value in content.items():
            if key in _KEYS[table]:
                self._take(f"{place} {key}", table, key, value)
            else:
                self.mistakes.append(f"{place} {key}: unknown key; {_meant_key(key, _KEYS[table])}")

    def take_environ(self, environ: Mapping[str, str]) -> None:
        for name in sorted(environ):
            if name in _VARIABLES:
                table, key = _VARIABLES[name]
                self._take(name, table, key, _KEYS[table][key].parse(environ[name]))
            elif name.startswith(PREFIX) and name != CONFIG_VARIABLE and not _FOREIGN.fullmatch(name):
                self.mistakes.append(f"{name}: unknown variable; {_meant_variable(name)}")

    def take_options(self, given: Mapping[tuple[str, str], object]) -> None:
        for (table, key), value in given.items():
            self._take(OPTIONS[table, key], table, key, value)

    def take_default_socket(self, environ: Mapping[str, str]) -> None:
        """The default depends on the environment, so it can be wrong as well."""
        if "socket" in self.values["admin"]:
            return
        self._take("XDG_RUNTIME_DIR", "admin", "socket", default_admin_socket(environ, os.getuid()))
        self.places.pop("admin.socket", None)
        # Any valid path will do for finding the other mistakes.
        self.values["admin"].setdefault("socket", default_admin_socket({}, 0))

    def take_dev(self, keep_backend: bool) -> None:
        self._take("--dev", "auth", "mode", "claim")
        if not keep_backend:
            self._take("--dev", "backend", "url", "memory://")
        for key in ("max_per_participant", "open_rate"):
            # Keys are made up here, and one is often everybody's: no limit, unless it is limits that are to be tried.
            if key not in self.values["streams"]:
                self._take("--dev", "streams", key, 0)

    def _take(self, place: str, table: str, key: str, value: object) -> None:
        dotted = f"{table}.{key}"
        try:
            self.values[table][key] = _KEYS[table][key].read(value)
        except ValueError as error:
            self.mistakes.append(f"{place}: {error}")
            self.bad.add(dotted)
        else:
            self.places[dotted] = place
            self.bad.discard(dotted)

    def _take_routes(self, place: str, content: object) -> None:
        if not isinstance(content, list) or not all(isinstance(each, dict) for each in content):
            self.mistakes.append(f"{place}: {shown(content)} is no list of tables; a line [[stream]], bracketed so, for each one")
            return
        for number, each in enumerate(content, 1):
            self.routes.append(self._route(f"{place} {number}", f"stream.{number}", each))

    def _route(self, place: str, dotted: str, content: Mapping[str, object]) -> Route:
        self.places |= {f"{dotted}.{key}": f"{place} {key}" for key in content}
        values = dict(self._route_values(place, dotted, content))
        if "path" not in content:
            self.mistakes.append(f"{place} path: is missing; {_ROUTE_KEYS['path'].right}")
        if "path" not in values:
            self.bad.add(f"{dotted}.path")
            values["path"] = "/"
        try:
            return Route(**values)
        except Conflicts as error:
            self._report(error.found, dotted)
            return Route(path=values["path"])

    def _route_values(self, place: str, dotted: str, content: Mapping[str, object]) -> Iterator[tuple[str, Any]]:
        for key, value in content.items():
            try:
                if key not in _ROUTE_KEYS:
                    raise ValueError(f"unknown key; {_meant_key(key, _ROUTE_KEYS)}")
                yield key, _ROUTE_KEYS[key].read(value)
            except ValueError as error:
                self.mistakes.append(f"{place} {key}: {error}")
                self.bad.add(f"{dotted}.{key}")

    def config(self, dev: bool) -> Config:
        """What was collected, if there is no mistake. Raises ConfigError."""
        self._check_backend()
        self._check_mode()
        tables = {table: self._table(table) for table in TABLES}
        if dev:
            self._check_dev(addresses(tables["http"], tables["ingest"], tables["admin"]))
        try:
            config = Config(**tables, stream=tuple(self.routes))
        except Conflicts as error:
            self._report(error.found)
            raise ConfigError(self.mistakes) from None
        if self.mistakes:
            raise ConfigError(self.mistakes)
        return config

    def _table(self, table: str) -> Any:
        try:
            return TABLES[table](**self.values[table])
        except Conflicts as error:
            self._report(error.found, table)
            return TABLES[table]()

    def _report(self, found: Iterable[Conflict], under: str | None = None) -> None:
        for conflict in found:
            keys = [f"{under}.{key}" if under else key for key in conflict.keys]
            if not self.bad.intersection(keys):
                # A default cannot be in conflict with defaults only: one of the keys was given.
                place = next(self.places[key] for key in keys if key in self.places)
                self.mistakes.append(f"{place}: {conflict.message}")

    def _check_backend(self) -> None:
        """Only of the URL that counts: with --dev the file's may be of a backend that is not installed here."""
        if "backend.url" not in self.places or "backend.url" in self.bad:
            return
        try:
            self.check_url(self.values["backend"]["url"])
        except ValueError as error:
            self.mistakes.append(f"{self.places['backend.url']}: {error}")

    def _check_mode(self) -> None:
        """Who sets one mode up and chooses none would get the default, which is another one."""
        if "auth.mode" in self.places or "auth.mode" in self.bad:
            return
        for key, mode in _MODES_BY_KEY.items():
            if self.values["auth"].get(key):
                wrong = f"has no effect in mode {shown(AuthConfig().mode)}, the default"
                self.mistakes.append(f"{self.places[f'auth.{key}']}: {wrong}; [auth] mode = {shown(mode)} beside it")

    def _check_dev(self, listening: Iterable[tuple[str, str, Tcp | Unix]]) -> None:
        for key, text, address in listening:
            if not is_loopback(address):
                wrong = f"{shown(text)} can be reached from outside of this machine"
                self.mistakes.append(f"{self.places[key]}: {wrong}; with --dev 127.0.0.1, [::1] or a Unix socket")
                self.bad.add(key)
