"""The configuration: defaults, every source, every kind of mistake, what a reload can change, and the two texts about it."""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from attrs.exceptions import FrozenInstanceError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_daemon import header
from sse_daemon.address import SOCKET_PATH, Tcp, Unix, is_loopback, listen_address, zmq_address
from sse_daemon.backend import Limits
from sse_daemon.config import (
    EVENTS,
    OPTIONS,
    RELOADABLE,
    AuthConfig,
    Config,
    HttpConfig,
    IngestConfig,
    ParticipantsConfig,
    Route,
    StreamsConfig,
    changed,
    default_admin_socket,
    load,
    merged,
    variable,
)
from sse_daemon.config_kinds import Conflicts
from sse_daemon.config_route import MAX_NAME
from sse_daemon.config_tables import TABLES
from sse_daemon.errors import ConfigError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "sse.toml"


def mistakes(
    file: Path | None, text: str = "", environ: Mapping[str, str] | None = None, options: Any = None, dev: bool = False
) -> list[str]:
    """The mistakes of a configuration, the file's path left out."""
    if file is not None:
        file.write_text(text)
    try:
        load(file, environ or {}, options or {}, dev=dev)
    except ConfigError as error:
        return [mistake.removeprefix(f"{file}: ") for mistake in error.mistakes]
    return []


def read(file: Path, text: str, **more: Any) -> Config:
    file.write_text(text)
    return load(file, more.pop("environ", {}), more.pop("options", {}), **more)


# The object.


def test_without_any_source_every_default_holds() -> None:
    config = load(None, {"XDG_RUNTIME_DIR": os.environ.get("XDG_RUNTIME_DIR", "")}, {})
    assert config == Config()
    assert config.http.listen == ("127.0.0.1:8080",)
    assert config.ingest.max_frame == 1024 * 1024
    assert config.streams.heartbeat == 15.0
    assert (config.auth.mode, config.keys) == ("proof", "ed25519")


def test_the_bounds_of_the_log_are_those_of_the_port() -> None:
    config = Config()
    mine = {name: getattr(config.backend, name) for name in Limits._fields if name != "max_producers"}
    assert Limits(**mine, max_producers=config.ingest.max_producers) == Limits()


def test_names_are_as_long_as_in_an_envelope() -> None:
    assert MAX_NAME == header.MAX_NAME


def test_nothing_can_be_changed_afterwards() -> None:
    config = Config()
    with pytest.raises(FrozenInstanceError):
        config.http = HttpConfig()  # type: ignore[misc]
    with pytest.raises(TypeError):
        EVENTS.filters["x"] = "type"  # type: ignore[index]


def test_an_invalid_object_cannot_be_constructed() -> None:
    with pytest.raises(ValueError, match="out of range"):
        StreamsConfig(heartbeat=0)
    with pytest.raises(Conflicts):
        StreamsConfig(retry_min=5, retry_max=1)
    with pytest.raises(Conflicts):
        Config(stream=(Route(path="/a"), Route(path="/a")))
    with pytest.raises(TypeError):
        Route()


def test_the_built_in_route_comes_first() -> None:
    config = Config(stream=(Route(path="/a"),))
    assert [route.path for route in config.routes] == ["/events", "/a"]
    assert dict(EVENTS.filters) == {"types": "type", "topics": "topic"}
    assert EVENTS.participant == "required"


@pytest.mark.parametrize(
    ("environ", "uid", "path"),
    [
        ({"XDG_RUNTIME_DIR": "/run/user/0"}, 0, "/run/sse-daemon/admin.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/7"}, 7, "/run/user/7/sse-daemon/admin.sock"),
        ({"XDG_RUNTIME_DIR": "/run/user/7/"}, 7, "/run/user/7/sse-daemon/admin.sock"),
        ({"XDG_RUNTIME_DIR": "relative"}, 7, "/tmp/sse-daemon-7/admin.sock"),
        ({}, 7, "/tmp/sse-daemon-7/admin.sock"),
    ],
)
def test_the_admin_socket_is_found_by_one_rule(environ: dict[str, str], uid: int, path: str) -> None:
    assert default_admin_socket(environ, uid) == path


# Sources.


def test_a_file_is_read(file: Path) -> None:
    config = read(
        file,
        """
        [http]
        listen = ["0.0.0.0:80", "[::1]:81", "unix:/run/x.sock"]
        [streams]
        heartbeat = 5
        [auth]
        mode = "claim"
        claim_is_trusted_network = "on"
        """,
    )
    assert config.http.listen == ("0.0.0.0:80", "[::1]:81", "unix:/run/x.sock")
    assert config.streams.heartbeat == 5.0 and isinstance(config.streams.heartbeat, float)
    assert config.auth.mode == "claim"
    assert config.ingest == Config().ingest


def test_a_variable_may_name_the_file(file: Path) -> None:
    file.write_text("[log]\nlevel = 'debug'\n")
    assert load(None, {"SSE_DAEMON_CONFIG": str(file)}, {}).log.level == "debug"
    assert load(None, {"SSE_DAEMON_CONFIG": ""}, {}).log.level == "info"


def test_the_given_file_wins_over_the_named_one(file: Path, tmp_path: Path) -> None:
    assert read(file, "[log]\nlevel = 'error'\n", environ={"SSE_DAEMON_CONFIG": str(tmp_path / "none")}).log.level == "error"


@pytest.mark.parametrize(
    ("name", "text", "dotted", "value"),
    [
        ("SSE_DAEMON_STREAMS_LIMIT", "7", "streams.limit", 7),
        ("SSE_DAEMON_STREAMS_HEARTBEAT", "2.5", "streams.heartbeat", 2.5),
        ("SSE_DAEMON_LOG_FORMAT", "json", "log.format", "json"),
        ("SSE_DAEMON_AUTH_MODE", "claim", "auth.mode", "claim"),
        ("SSE_DAEMON_ADMIN_SOCKET", "/x/admin.sock", "admin.socket", "/x/admin.sock"),
        ("SSE_DAEMON_HTTP_LISTEN", "[::1]:80, unix:/x", "http.listen", ("[::1]:80", "unix:/x")),
        ("SSE_DAEMON_HTTP_LISTEN", '["[::1]:80", "unix:/a,b"]', "http.listen", ("[::1]:80", "unix:/a,b")),
        ("SSE_DAEMON_HTTP_CORS_ORIGINS", "", "http.cors_origins", ()),
    ],
)
def test_the_environment_is_read(name: str, text: str, dotted: str, value: object) -> None:
    table, key = dotted.split(".")
    assert getattr(getattr(load(None, {name: text}, {}), table), key) == value


def test_every_key_has_a_variable() -> None:
    texts: dict[str, str] = {}
    for table, cls in TABLES.items():
        for attribute in fields(cls):
            default = getattr(getattr(Config(), table), attribute.name)
            texts[variable(table, attribute.name)] = ",".join(default) if isinstance(default, tuple) else str(default or 0)
    texts |= {
        "SSE_DAEMON_AUTH_CLAIM_IS_TRUSTED_NETWORK": "off",
        "SSE_DAEMON_AUTH_KEY_RESOLVER": "keri",
        "SSE_DAEMON_AUTH_STATE": "memory",
        "SSE_DAEMON_AUTH_TOKEN_KEYS": "/token-keys",
        "SSE_DAEMON_AUTH_TOKEN_AUDIENCE": "us",
        "SSE_DAEMON_AUTH_TOKEN_ISSUER": "them",
        "SSE_DAEMON_AUTH_HOOK_URL": "http://app/who",
        "SSE_DAEMON_AUTH_HOOK_SOCKET": "/app.sock",
        "SSE_DAEMON_PARTICIPANTS_KEYS": "ed25519",
        "SSE_DAEMON_INGEST_CURVE_SECRET": "/curve.key",
        "SSE_DAEMON_INGEST_AUTHORIZED_KEYS": "/producers",
    }
    wanted = Config(
        auth=AuthConfig(
            state="memory",
            key_resolver="keri",
            token_keys="/token-keys",
            token_audience="us",
            token_issuer="them",
            hook_url="http://app/who",
            hook_socket="/app.sock",
        ),
        participants=ParticipantsConfig(keys="ed25519"),
        ingest=IngestConfig(curve_secret="/curve.key", authorized_keys="/producers"),
    )
    assert load(None, texts, {}) == wanted


def test_options_win_over_the_environment_and_that_over_the_file(file: Path) -> None:
    text = '[backend]\nurl = "sqlite:///file"\n[http]\nlisten = ["h:1"]\n[admin]\nsocket = "/file"\n'
    environ = {"SSE_DAEMON_HTTP_LISTEN": "h:2", "SSE_DAEMON_ADMIN_SOCKET": "/environ"}
    config = read(file, text, environ=environ, options={("admin", "socket"): "/option"})
    assert (config.backend.url, config.http.listen, config.admin.socket) == ("sqlite:///file", ("h:2",), "/option")


def test_an_option_that_was_not_given_changes_nothing() -> None:
    config = load(None, {"SSE_DAEMON_HTTP_LISTEN": "h:2"}, {("http", "listen"): (), ("admin", "socket"): None})
    assert config.http.listen == ("h:2",)
    assert config.admin.socket == default_admin_socket({}, os.getuid())


def test_every_option_is_a_key() -> None:
    values = {
        ("http", "listen"): ("h:1",),
        ("ingest", "pubsub"): ("ipc:///a",),
        ("ingest", "acked"): ("ipc:///b",),
        ("admin", "socket"): "/c",
        ("backend", "url"): "sqlite:///d",
        ("daemon", "workers"): 3,
    }
    assert set(OPTIONS) == set(values)
    config = load(None, {}, values)
    assert {place: getattr(getattr(config, place[0]), place[1]) for place in values} == values


def test_a_route_is_read(file: Path) -> None:
    config = read(
        file,
        """
        [[stream]]
        path = "/chats/{chat}/events"
        topic = "chat.{chat}"
        participant = "optional"
        header = "X-Chat-Key"
        query = "key"
        filters = { msg_types = "type", agents = "attrs.processed_by" }
        heartbeat = "event"
        first_event = "hello"
        first_data = '{"chat":"{chat}","id":"{client_id}","who":"{participant}","topic":"{topic}","x":{}}'
        format = "json"
        unknown_topic = "404"
        [[stream]]
        path = "/quiet"
        first = "off"
        """,
    )
    chat, quiet = config.stream
    assert (chat.path, chat.topic, chat.first, chat.heartbeat) == ("/chats/{chat}/events", "chat.{chat}", True, "event")
    assert dict(chat.filters) == {"msg_types": "type", "agents": "attrs.processed_by"}
    assert quiet == Route(path="/quiet", first=False)


def test_a_configuration_can_be_hashed_and_compared(file: Path) -> None:
    text = '[[stream]]\npath = "/a"\nfilters = { a = "type" }\n'
    one, two = read(file, text), read(file, text)
    assert one == two and hash(one) == hash(two)
    assert one != read(file, text.replace('a = "type"', 'a = "topic"'))


# Mistakes.


def test_all_mistakes_are_reported_at_once(file: Path) -> None:
    found = mistakes(
        file,
        """
        [htp]
        [http]
        max_header = true
        [streams]
        hartbeat = 3
        retry_min = 5
        [[stream]]
        path = "/a"
        topic = "{b}"
        [[stream]]
        path = "/a"
        """,
        {"SSE_DAEMON_STREAMS_LIMIT": "many"},
        {("http", "listen"): ("8080",)},
    )
    assert found == [
        "[htp]: unknown table; did you mean [http]?",
        "[http] max_header: true is no whole number; bytes, 1024 to 1048576",
        "[streams] hartbeat: unknown key; did you mean heartbeat?",
        "[[stream]] 1 topic: the placeholder {b} is unknown; a path with placeholders",
        "SSE_DAEMON_STREAMS_LIMIT: 'many' is no whole number; a number, 1 to 1000000000",
        '--http: \'8080\' has no port; a list, each "host:port", "[::1]:port" or "unix:/path"',
        "[streams] retry_min: retry_min (5) is more than retry_max (3); at most as much",
        "[[stream]] 2 path: '/a' matches what [[stream]] 1 matches; another path",
    ]


def test_a_mistake_in_a_value_that_is_overridden_counts(file: Path) -> None:
    assert mistakes(file, "[log]\nlevel = 'loud'\n", {"SSE_DAEMON_LOG_LEVEL": "info"}) == [
        '[log] level: \'loud\' is not known; one of "debug", "info", "warning", "error"'
    ]


def test_every_mistake_names_its_file_and_is_one_line(file: Path) -> None:
    file.write_text('[log]\nlevel = "a\\nb"\n[x]\n')
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert len(caught.value.mistakes) == 2
    for mistake in caught.value.mistakes:
        assert mistake.startswith(f"{file}: [") and "\n" not in mistake


@pytest.mark.parametrize(
    ("text", "start"),
    [
        ("[http\n", "not TOML: "),
        ("listen = 3\n", "listen: this key is in no table; it belongs below [http]"),
        ("lst = 3\n", "lst: this key is in no table; known are http, "),
        ("http = 3\n", "[http]: 3 is no table; a line [http]"),
        ("[[http]]\n", "[http]: [{}] is no table"),
        ("[stream]\n", "[[stream]]: {} is no list of tables"),
        ("stream = [1]\n", "[[stream]]: [1] is no list of tables"),
        ("[zzz]\n", "[zzz]: unknown table; known are [http], "),
        ("[http]\nheartbeat = 1\n", "[http] heartbeat: unknown key; it belongs below [streams] or [[stream]]"),
        ("[daemon]\nzzz = 1\n", "[daemon] zzz: unknown key; known are drain_time"),
        ("[[stream]]\npath = '/a'\nlisten = 1\n", "[[stream]] 1 listen: unknown key; it belongs below [http]"),
        ("[[stream]]\n", "[[stream]] 1 path: is missing; such as"),
    ],
)
def test_a_file_of_another_form(file: Path, text: str, start: str) -> None:
    (mistake,) = mistakes(file, text)
    assert mistake.startswith(start)


def test_a_file_that_is_not_there(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, {}, {})
    assert caught.value.mistakes == (f"{file}: cannot be read: No such file or directory; a file that this user can read",)


def test_a_file_that_is_not_utf8(file: Path) -> None:
    file.write_bytes(b"# \xff")
    with pytest.raises(ConfigError, match="byte 2 is not UTF-8"):
        load(file, {}, {})


@pytest.mark.parametrize(
    ("name", "right"),
    [
        ("SSE_DAEMON_HTTP_LISTN", "did you mean SSE_DAEMON_HTTP_LISTEN?"),
        ("SSE_DAEMON_X", "such as SSE_DAEMON_HTTP_LISTEN"),
    ],
)
def test_an_unknown_variable(name: str, right: str) -> None:
    (mistake,) = mistakes(None, environ={name: ""})
    assert mistake.startswith(f"{name}: unknown variable; ") and mistake.endswith(right)


def test_what_kubernetes_sets_for_a_service_of_this_name_is_no_mistake() -> None:
    names = ["SERVICE_HOST", "SERVICE_PORT", "SERVICE_PORT_HTTP", "PORT", "PORT_8080_TCP", "PORT_8080_TCP_ADDR"]
    assert mistakes(None, environ={f"SSE_DAEMON_{name}": "tcp://10.0.0.1:8080" for name in names}) == []
    assert len(mistakes(None, environ={"SSE_DAEMON_PORTS": "1"})) == 1


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("http.listen", '"127.0.0.1:80"'),
        ("http.listen", "[80]"),
        ("http.listen", '["127.0.0.1"]'),
        ("http.listen", '[":80"]'),
        ("http.listen", '["::1:80"]'),
        ("http.listen", '["127.0.0.999:80"]'),
        ("http.listen", '["h:65536"]'),
        ("http.listen", '["h:-1"]'),
        ("http.listen", '["h h:1"]'),
        ("http.listen", '["unix:relative"]'),
        ("http.listen", '["unix:/dir/"]'),
        ("http.listen", f'["unix:/{"x" * SOCKET_PATH}"]'),
        ("http.listen", '["unix:/a\\u0000b"]'),
        ("http.cors_origins", '["*"]'),
        ("http.cors_origins", '["null"]'),
        ("http.cors_origins", '["https://a.example/"]'),
        ("http.cors_origins", '["https://A.example"]'),
        ("http.cors_origins", '["a.example"]'),
        ("http.cors_origins", '["https://a.example:443"]'),
        ("http.cors_origins", '["http://a.example:80"]'),
        ("http.header_timeout", "0"),
        ("http.max_header", "0"),
        ("ingest.pubsub", '["127.0.0.1:1"]'),
        ("ingest.pubsub", '["udp://127.0.0.1:1"]'),
        ("ingest.acked", '["ipc://relative"]'),
        ("ingest.acked", '["tcp://h"]'),
        ("ingest.max_frame", "1.5"),
        ("ingest.max_frame", "-1"),
        ("admin.socket", '"admin.sock"'),
        ("admin.socket", "3"),
        ("backend.url", '"memory"'),
        ("backend.url", '""'),
        ("backend.retention_bytes", "-1"),
        ("backend.retention_age", "inf"),
        ("auth.mode", '"none"'),
        ("auth.mode", '"trusted-proxy"'),
        ("auth.token_keys", '"keys.pem"'),
        ("auth.token_audience", '""'),
        ("auth.token_claim", '"a claim"'),
        ("auth.trusted_proxies", '["proxy.example"]'),
        ("http.forwarded_from", '["proxy.example"]'),
        ("http.forwarded_from", '["0.0.0.0/0"]'),
        ("auth.trusted_proxies", '["10.0.0.1/8"]'),
        ("auth.trusted_proxies", '["0.0.0.0/0"]'),
        ("auth.trusted_proxies", '["::/0"]'),
        ("auth.mode", '"hook"'),
        ("auth.hook_url", '"app/who"'),
        ("auth.hook_url", '"ftp://app/who"'),
        ("auth.hook_url", '"HTTP://app/who"'),
        ("auth.hook_url", '"http://user:secret@app/who"'),
        ("auth.hook_url", '"http://app:0/who"'),
        ("auth.hook_url", '"http://app:65536/who"'),
        ("auth.hook_url", '"http://app/who#part"'),
        ("auth.hook_url", '"http://app/who ever"'),
        ("auth.hook_socket", '"app.sock"'),
        ("auth.hook_headers", '["Cookie:"]'),
        ("auth.hook_headers", '["transfer-encoding"]'),
        ("auth.hook_headers", '["X-Forwarded-For"]'),
        ("auth.hook_timeout", "0"),
        ("auth.hook_timeout", "61"),
        ("auth.hook_concurrency", "0"),
        ("auth.hook_cache", "-1"),
        ("auth.hook_lifetime", "0"),
        ("streams.heartbeat", '"15"'),
        ("streams.heartbeat", "nan"),
        ("streams.heartbeat", "true"),
        ("streams.heartbeat", "-1"),
        ("streams.lifetime_jitter", "1.1"),
        ("streams.limit", "0"),
        ("streams.send_buffer", "1"),
        ("streams.wait", "61"),
        ("streams.retry_max", "0.5"),
        ("daemon.drain_time", "-0.1"),
        ("log.format", '"xml"'),
        ("log.level", '"DEBUG"'),
    ],
)
def test_a_wrong_value(file: Path, dotted: str, value: str) -> None:
    table, key = dotted.split(".")
    (mistake,) = mistakes(file, f"[{table}]\n{key} = {value}\n")
    wrong, _, right = mistake.partition("; ")
    assert wrong.startswith(f"[{table}] {key}: ")
    assert right


@pytest.mark.parametrize(
    ("dotted", "value"),
    [
        ("http.listen", "[]"),
        ("http.listen", '["localhost:0", "h:65535", "[fe80::1]:1", "unix:/a"]'),
        ("http.cors_origins", '["https://a.example", "http://localhost:3000", "http://[::1]:3000", "http://a.example:443"]'),
        ("ingest.pubsub", '["tcp://localhost:5556", "tcp://127.0.0.1:*", "tcp://[::1]:1", "ipc:///a"]'),
        ("backend.url", '"sqlite:///var/lib/log.db"'),
        ("backend.retention_bytes", "0"),
        ("streams.window_bytes", "0"),
        ("streams.lifetime", "0"),
        ("streams.lifetime_jitter", "1"),
        ("streams.heartbeat", "0.01"),
        ("streams.retry_min", "3"),
        ("daemon.drain_time", "0"),
    ],
)
def test_a_right_value(file: Path, dotted: str, value: str) -> None:
    table, key = dotted.split(".")
    assert mistakes(file, f"[{table}]\n{key} = {value}\n") == []


@pytest.mark.parametrize(
    ("line", "mode"),
    [
        ('hook_url = "http://127.0.0.1:8000/who"', "hook"),
        ('token_keys = "/keys.pem"', "token"),
        ('trusted_proxies = ["127.0.0.1"]', "trusted-proxy"),
    ],
)
def test_what_sets_up_a_mode_that_is_not_chosen_is_a_mistake(file: Path, line: str, mode: str) -> None:
    key = line.partition(" ")[0]
    (mistake,) = mistakes(file, f"[auth]\n{line}\n")
    assert mistake == f"[auth] {key}: has no effect in mode 'proof', the default; [auth] mode = {mode!r} beside it"
    # Whoever has chosen a mode means it: a variable for a try, --dev, or the others that are kept for later.
    assert mistakes(file, f'[auth]\nmode = "proof"\n{line}\n') == []
    assert mistakes(file, f"[auth]\n{line}\n", {"SSE_DAEMON_AUTH_MODE": "claim"}) == []
    assert mistakes(file, f"[auth]\n{line}\n", dev=True) == []
    assert len(mistakes(file, f'[auth]\nmode = "nonsense"\n{line}\n')) == 1
    assert mistakes(file, "[auth]\ntrusted_proxies = []\n") == []


def test_a_password_in_the_url_of_a_backend_is_not_repeated(file: Path) -> None:
    (mistake,) = mistakes(file, '[backend]\nurl = "redis:secret@host"\n')
    assert "secret" not in mistake


def test_a_long_value_is_shortened(file: Path) -> None:
    (mistake,) = mistakes(file, f"[log]\nlevel = '{'x' * 10_000}'\n")
    assert len(mistake) < 200


@pytest.mark.parametrize(
    ("key", "lines"),
    [
        ("path", "path = 'a'"),
        ("path", "path = '/a//b'"),
        ("path", "path = '/a?b'"),
        ("path", "path = '/a{b}'"),
        ("path", "path = '/{b}/{b}'"),
        ("path", "path = '/{B}'"),
        ("path", "path = '/{topic}'"),
        ("path", "path = '/events'"),
        ("path", "path = '/healthz'"),
        ("path", "path = '/readyz'"),
        ("path", "path = '/client.js'"),
        ("path", "path = 1"),
        ("topic", "path = '/a/{b}'\ntopic = 'x.{c}'"),
        ("topic", "path = '/a/{b}'\ntopic = 'x.{b'"),
        ("topic", "path = '/a'\ntopic = ''"),
        ("topic", f"path = '/a'\ntopic = '{'x' * 201}'"),
        ("topic", 'path = "/a"\ntopic = "a\\nb"'),
        ("participant", "path = '/a'\nparticipant = 'maybe'"),
        ("anonymous", "path = '/a'\nanonymous = 'yes'"),
        ("header", "path = '/a'\nheader = 'X Key'"),
        ("header", "path = '/a'\nheader = ''"),
        ("header", "path = '/a'\nheader = 'Last-Event-ID'"),
        ("query", "path = '/a'\nquery = 'a&b'"),
        ("query", "path = '/a'\nquery = 'lastEventId'"),
        ("filters", "path = '/a'\nfilters = { wait = 'type' }"),
        ("filters", "path = '/a'\nfilters = { 'attr.a' = 'type' }"),
        ("filters", "path = '/a'\nfilters = { public_key = 'type' }"),
        ("filters", "path = '/a'\nfilters = { a = 'data' }"),
        ("filters", "path = '/a'\nfilters = { a = 'attrs.' }"),
        ("filters", "path = '/a'\nfilters = { a = 'type', b = 'type' }"),
        ("filters", "path = '/a'\nfilters = 'type'"),
        ("filters", "path = '/a'\nfilters = { a = 1 }"),
        ("heartbeat", "path = '/a'\nheartbeat = 15"),
        ("first", "path = '/a'\nfirst = 'yes'"),
        ("first_event", "path = '/a'\nfirst_event = 'resync'"),
        ("first_event", 'path = "/a"\nfirst_event = "a\\rb"'),
        ("first_data", "path = '/a'\nfirst_data = '{x}'"),
        ("first_data", """path = '/a'\nfirst_data = '{"a":{client_id}}'"""),
        ("first_data", """path = '/a'\nfirst_data = '{"a":"{b}"}'"""),
        ("format", "path = '/a'\nformat = 'xml'"),
        ("unknown_topic", "path = '/a'\nunknown_topic = '404'"),
        ("unknown_topic", "path = '/a'\ntopic = 'x'\nunknown_topic = 404"),
    ],
)
def test_a_wrong_route(file: Path, key: str, lines: str) -> None:
    (mistake,) = mistakes(file, f"[[stream]]\n{lines}\n")
    wrong, _, right = mistake.partition("; ")
    assert wrong.startswith(f"[[stream]] 1 {key}: ")
    assert right


def test_two_routes_that_match_the_same_requests(file: Path) -> None:
    assert mistakes(file, "[[stream]]\npath = '/a/{b}'\n[[stream]]\npath = '/a/{c}'\n") == [
        "[[stream]] 2 path: '/a/{c}' matches what [[stream]] 1 matches; another path"
    ]


def test_a_refused_value_does_not_blame_the_default_that_stands_in_for_it(file: Path) -> None:
    text = (
        "[streams]\nretry_min = 5\nretry_max = 'x'\n[[stream]]\npath = 'a'\ntopic = '{b}'\n[[stream]]\n[[stream]]\npath = '/'\n"
    )
    places = [mistake.split(": ")[0] for mistake in mistakes(file, text)]
    assert places == ["[streams] retry_max", "[[stream]] 1 path", "[[stream]] 2 path"]
    assert len(mistakes(file, "[[stream]]\n[[stream]]\npath = '/'\n")) == 1


@pytest.mark.parametrize(
    ("text", "environ", "place"),
    [
        ("[http]\nlisten = ['h:1', 'h:1']\n", {}, "[http] listen"),
        ("[ingest]\nacked = ['tcp://127.0.0.1:5556']\n", {}, "[ingest] acked"),
        ("[ingest]\nacked = ['tcp://127.0.0.1:8080']\n", {}, "[ingest] acked"),
        ("", {"SSE_DAEMON_HTTP_LISTEN": "127.0.0.1:5557"}, "SSE_DAEMON_HTTP_LISTEN"),
        ("[admin]\nsocket = '/x'\n[http]\nlisten = ['unix:/x']\n", {}, "[admin] socket"),
    ],
)
def test_an_address_belongs_to_one_listener(file: Path, text: str, environ: dict[str, str], place: str) -> None:
    (mistake,) = mistakes(file, text, environ)
    assert mistake.startswith(f"{place}: ") and "listened on twice" in mistake


def test_any_free_port_may_be_asked_for_twice(file: Path) -> None:
    assert (
        mistakes(
            file, "[http]\nlisten = ['h:0', 'h:0']\n[ingest]\npubsub = ['tcp://localhost:*']\nacked = ['tcp://localhost:0']\n"
        )
        == []
    )


def test_the_default_of_the_admin_socket_may_be_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "getuid", lambda: 7)  # root's does not depend on the environment
    assert load(None, {"XDG_RUNTIME_DIR": "/run/user/7"}, {}).admin.socket == "/run/user/7/sse-daemon/admin.sock"
    environ = {"XDG_RUNTIME_DIR": "/a", "SSE_DAEMON_HTTP_LISTEN": "unix:/a/sse-daemon/admin.sock"}
    (mistake,) = mistakes(None, environ=environ)
    assert mistake.startswith("SSE_DAEMON_HTTP_LISTEN: ")
    too_long = {"XDG_RUNTIME_DIR": "/" + "x" * SOCKET_PATH}
    monkeypatch.setenv("XDG_RUNTIME_DIR", too_long["XDG_RUNTIME_DIR"])
    (mistake,) = mistakes(None, environ=too_long)
    assert mistake.startswith("XDG_RUNTIME_DIR: ")
    assert mistakes(None, environ=too_long, options={("admin", "socket"): "/a"}) == []


scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20)
values = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=9), inner), max_leaves=5)
keys = [(table, attribute.name) for table, cls in TABLES.items() for attribute in fields(cls)]


@given(st.dictionaries(st.sampled_from(sorted(OPTIONS)), values), st.dictionaries(st.sampled_from(keys), st.text(max_size=30)))
@settings(max_examples=200, deadline=None)
def test_whatever_is_given_comes_to_a_configuration_or_to_mistakes(options: Any, texts: dict[tuple[str, str], str]) -> None:
    try:
        load(None, {variable(*place): text for place, text in texts.items()}, options)
    except ConfigError as error:
        assert error.mistakes
        assert all("\n" not in mistake for mistake in error.mistakes)


@given(st.dictionaries(st.sampled_from([a.name for a in fields(Route)]), values))
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_a_route_is_valid_or_a_value_error(given_values: dict[str, Any]) -> None:
    try:
        route = Route(**{"path": "/a", **given_values})
    except ValueError:
        return
    assert Route(**{a.name: getattr(route, a.name) for a in fields(Route)}) == route


# --dev.


def test_dev_trusts_claims_and_keeps_the_log_in_memory(file: Path) -> None:
    config = read(file, '[backend]\nurl = "sqlite:///x"\n', environ={"SSE_DAEMON_BACKEND_URL": "sqlite:///y"}, dev=True)
    assert (config.auth.mode, config.backend.url) == ("claim", "memory://")


def test_dev_uses_the_log_that_an_option_names() -> None:
    assert load(None, {}, {("backend", "url"): "sqlite:///z"}, dev=True).backend.url == "sqlite:///z"


def test_dev_limits_no_participant_unless_it_is_told_to(file: Path) -> None:
    assert (read(file, "", dev=True).streams.max_per_participant, read(file, "", dev=True).streams.open_rate) == (0, 0.0)
    told = read(file, "[streams]\nmax_per_participant = 7\n", environ={"SSE_DAEMON_STREAMS_OPEN_RATE": "3"}, dev=True).streams
    assert (told.max_per_participant, told.open_rate) == (7, 3.0)
    assert read(file, "", dev=False).streams.max_per_participant > 0


def test_dev_listens_where_only_this_machine_can_reach_it(file: Path) -> None:
    text = "[ingest]\npubsub = ['tcp://*:1', 'tcp://127.0.0.1:2', 'ipc:///x']\ncurve_secret = '/k'\nauthorized_keys = '/p'\n"
    options = {("http", "listen"): ("0.0.0.0:4", "[::1]:5")}
    found = mistakes(file, text, {"SSE_DAEMON_INGEST_ACKED": "tcp://eth0:3"}, options, dev=True)
    assert [mistake.split(" can be")[0] for mistake in found] == [
        "--http: '0.0.0.0:4'",
        "[ingest] pubsub: 'tcp://*:1'",
        "SSE_DAEMON_INGEST_ACKED: 'tcp://eth0:3'",
    ]
    assert mistakes(file, text) == []


# Addresses.


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:80", Tcp("127.0.0.1", 80)),
        ("[0:0::1]:80", Tcp("::1", 80)),
        ("localhost:0", Tcp("localhost", 0)),
        ("unix:/a b", Unix("/a b")),
    ],
)
def test_what_a_listen_address_means(text: str, address: object) -> None:
    assert listen_address(text) == address


@pytest.mark.parametrize(
    ("text", "loopback"),
    [
        ("tcp://127.9.9.9:1", True),
        ("tcp://localhost:1", True),
        ("tcp://[::1]:1", True),
        ("ipc:///a", True),
        ("tcp://*:1", False),
        ("tcp://0.0.0.0:1", False),
        ("tcp://[::]:1", False),
        ("tcp://lo:1", False),
        ("tcp://192.0.2.1:1", False),
    ],
)
def test_which_addresses_only_this_machine_can_reach(text: str, loopback: bool) -> None:
    assert is_loopback(zmq_address(text)) is loopback


# Reload.


def all_keys() -> set[str]:
    return {f"{table}.{key}" for table, key in keys} | {"stream"}


def test_what_is_reloadable_exists() -> None:
    assert not RELOADABLE - all_keys()


def test_nothing_differs_from_itself() -> None:
    assert changed(Config(), Config()) == ((), ())


def test_changes_are_told_apart(file: Path) -> None:
    new = read(file, "[http]\nmax_header = 2048\n[log]\nlevel = 'debug'\n[streams]\nheartbeat = 1\n[[stream]]\npath = '/a'\n")
    assert changed(Config(), new) == (("streams.heartbeat", "log.level", "stream"), ("http.max_header",))


def test_a_merged_configuration_has_what_can_change(file: Path) -> None:
    old = Config()
    new = read(file, "[streams]\nheartbeat = 1\nretry_min = 9\nretry_max = 9\nsend_buffer = 8192\n[[stream]]\npath = '/a'\n")
    now = merged(old, new)
    assert (now.streams.heartbeat, now.streams.retry_min, now.streams.send_buffer) == (1.0, 9.0, 65536)
    assert now.stream == new.stream
    assert changed(now, new) == ((), ("streams.send_buffer",))


def test_keys_that_are_tied_together_can_change_together() -> None:
    for pair in (("streams.retry_min", "streams.retry_max"), ("streams.wait", "streams.max_wait")):
        assert len(RELOADABLE.intersection(pair)) in (0, 2)


# The two texts.


def defaults() -> dict[str, dict[str, Any]]:
    """By table: each key's default, as root has it; None for none."""
    config = Config()
    found = {table: {a.name: getattr(getattr(config, table), a.name) for a in fields(cls)} for table, cls in TABLES.items()}
    found["admin"]["socket"] = default_admin_socket({}, 0)
    route = Route(path="/")
    return found | {"stream": {a.name: getattr(route, a.name) for a in fields(Route)} | {"path": None}}


def as_read(table: str, key: str, value: object) -> Any:
    """`value`, from TOML, as its key's kind reads it."""
    cls = Route if table == "stream" else TABLES[table]
    return next(a.metadata["kind"] for a in fields(cls) if a.name == key).read(value)


def entries() -> Iterator[tuple[str, str, str, str]]:
    """(table, key, value as TOML, the comment above) of each key of the annotated file."""
    table, comment = "", ""
    for line in (ROOT / "systemd" / "sse-daemon.toml").read_text().splitlines():
        if header := re.fullmatch(r"#?\[?\[(\w+)\]\]?", line):
            table, comment = header[1], ""
        elif entry := re.fullmatch(r"#(\w+) = (.+)", line):
            yield table, entry[1], entry[2], comment
        else:
            comment = f"{comment} {line[1:]}" if line else ""


def test_the_annotated_file_has_every_key_with_its_default() -> None:
    expected = {(table, key): value for table, table_keys in defaults().items() for key, value in table_keys.items()}
    assert sorted((table, key) for table, key, _, _ in entries()) == sorted(expected)
    for table, key, value, comment in entries():
        if expected[table, key] is None:
            assert "No default" in comment, key
        else:
            assert as_read(table, key, tomllib.loads(f"v = {value}")["v"]) == expected[table, key], key


def test_the_annotated_file_says_what_each_key_does_and_what_can_change() -> None:
    for table, key, _, comment in entries():
        assert len(comment) > 20, key
        if table != "stream":
            assert ("(reload)" in comment) == (f"{table}.{key}" in RELOADABLE), key


def test_the_annotated_file_loads_as_it_is_and_uncommented(file: Path) -> None:
    text = (ROOT / "systemd" / "sse-daemon.toml").read_text()
    assert read(file, text) == load(None, {}, {})
    config = read(file, re.sub(r"(?m)^#(?=[\w\[])", "", text))
    assert config.auth.mode == "proof"
    (route,) = config.stream
    assert route.topic == "chat.{chat}"


def rows() -> Iterator[tuple[str, str, str, str]]:
    """(table, key, default, reloadable) of each row of the documentation."""
    table = ""
    for line in (ROOT / "docs" / "configuration.md").read_text().splitlines():
        if header := re.fullmatch(r"## \[?\[(\w+)\]\]?", line):
            table = header[1]
        elif row := re.fullmatch(r"\| `(\w+)` \| (.+?) \| .+ \| (yes|no) \|", line):
            yield table, row[1], row[2], row[3]


def test_the_documentation_has_every_key_in_order_with_its_default() -> None:
    expected = [(table, key, value) for table, table_keys in defaults().items() for key, value in table_keys.items()]
    assert [(table, key) for table, key, _, _ in rows()] == [(table, key) for table, key, _ in expected]
    for (table, key, text, _), (_, _, value) in zip(rows(), expected, strict=True):
        if value is None:
            assert text == "none", key
        else:
            assert as_read(table, key, tomllib.loads(f"v = {text.strip('`')}")["v"]) == value, key


def test_the_documentation_says_what_can_change() -> None:
    for table, key, _, reloadable in rows():
        dotted = "stream" if table == "stream" else f"{table}.{key}"
        assert (reloadable == "yes") == (dotted in RELOADABLE), key


def test_the_mistakes_and_the_route_in_the_documentation_are_real(file: Path) -> None:
    text = (ROOT / "docs" / "configuration.md").read_text()
    found = mistakes(file, "[streams]\nhartbeat = 1\n", {"SSE_DAEMON_STREAMS_LIMIT": "many"}, {("http", "listen"): ("8080",)})
    for mistake in found:
        assert mistake in text
    (example,) = re.findall(r"```toml\n(.+?)```", text, re.DOTALL)
    assert mistakes(file, example) == []
