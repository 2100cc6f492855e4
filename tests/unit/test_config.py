"""The configuration: defaults, every source, `--dev`, and what a reload can change."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from attrs import fields
from attrs.exceptions import FrozenInstanceError

from sse_daemon import header
from sse_daemon.address import Tcp, Unix, is_loopback, listen_address, zmq_address
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
from tests.unit.loading import mistakes, read

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
    return {f"{table}.{each.name}" for table, cls in TABLES.items() for each in fields(cls)} | {"stream"}


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
