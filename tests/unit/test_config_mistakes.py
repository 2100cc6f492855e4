"""Every kind of mistake in a configuration: it is found, with its place, and nothing else is blamed for it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from attrs import fields
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sse_daemon.address import SOCKET_PATH
from sse_daemon.config import (
    OPTIONS,
    Route,
    load,
    variable,
)
from sse_daemon.config_tables import TABLES
from sse_daemon.errors import ConfigError
from tests.unit.loading import mistakes


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
