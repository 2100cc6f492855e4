"""Imports run downhill. The table below is the design's; a new module has its place in it or these tests fail."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import pytest

from tests.architecture.source import ROOT, foreign, modules, own

# A module imports from lower layers, and inside its own layer only what stands before it.
LAYERS: dict[int, tuple[str, ...]] = {
    0: ("__init__", "errors"),
    1: ("event", "participant", "ed25519"),
    2: (
        *(
            "address",
            "bars",
            "buckets",
            "census",
            "codec",
            "directory",
            "header",
            "envelope",
            "metrics",
            "signature",
            "sse",
            "subscription",
            "tally",
            "window",
            "followed",
        ),
        *("gate", "rights", "forwarded"),
    ),
    3: (
        *("backend", "timely", "auth", "log", "link", "key_file", "curve_key"),
        *("config_kinds", "config_hook", "config_route", "config_tables", "config_change", "config_plain", "config"),
        *("keys", "nonce_file", "auth_book", "auth_link", "auth_claim", "auth_session", "auth_proof", "auth_proxy"),
        *("auth_question", "hook_client", "auth_asker", "auth_hook", "token_keys", "auth_token", "auth_modes"),
        "producer_keys",
    ),
    4: (
        *("stream", "poller", "waiter", "plan", "batches", "hub", "catchup", "liveness", "longpoll", "loop_lag"),
        *("appender", "listener", "listening", "door", "request", "relay", "desk", "guests"),
    ),
    5: (
        *("zmq_reader", "zmq_zap", "zmq_binding", "zmq_peers"),
        *(
            "ingest",
            "web_site",
            "web_request",
            "web_answer",
            "web_opening",
            "web_crowd",
            "web_lean",
            "web_handlers",
            "web_session",
            "web_client",
            "web",
        ),
        *("admin_door", "admin", "systemd", "announce", "floor", "crew"),
    ),
    6: ("worker", "daemon"),
}

# Libraries for programs that are not the daemon: light, each a ladder of its own on top of these modules.
LIBRARIES: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "producer": (
        ("errors", "event", "participant", "header", "key_file", "curve_key"),
        ("publishing", "publish_link", "async_producer", "producer"),
    ),
    "signer": (("errors", "signature"), ("signer",)),
    "consumer": (("errors", "event", "participant", "signature", "signer"), ("event_stream", "reconnecting", "consumer")),
    "bench": (
        (),
        (
            *(
                "bench",
                "bench.errors",
                "bench.target",
                "bench.payload",
                "bench.figures",
                "bench.process",
                "bench.crowd",
                "bench.sender",
            ),
            *("bench.load", "bench.result", "bench.words", "bench.session", "bench.cases", "bench.latencies", "bench.streams"),
            *("bench.growth", "bench.suite", "bench.daemon"),
        ),
    ),
}

# A backend is one module, or a family that begins with its name: sqlite, sqlite_file. It imports from layers 0 to 3, from the helpers
# here (each from those before it) and from its own family.
BACKENDS_SEE = 3
BACKEND_HELPERS = ("backends.producers", "backends.ledger", "backends.pages")
BACKENDS = ("memory", "sqlite", "broker", "conformance")

PURE = 2
"""Up to this layer nothing does I/O or asks for the time: it is given what it needs, and tested without a loop."""
IMPURE = {
    *("asyncio", "concurrent", "http", "io", "logging", "multiprocessing", "os", "pathlib", "random", "secrets", "select"),
    *("selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl", "subprocess", "sys", "tempfile", "threading"),
    *("time", "tornado", "urllib", "zmq"),
}
IMPURE_CALLS = {"open", "print", "input"}

# Who may import which library, as patterns of module names. The longest name counts: tornado.web has other rules than tornado.
WALLS: dict[str, tuple[str, ...]] = {
    "attrs": ("config*",),
    "cryptography": ("token_keys", "auth_token"),
    "jwt": ("auth_token",),
    "click": ("cli*",),
    "httpx": ("event_stream", "consumer", "cli*"),
    "nacl": ("ed25519", "signer"),
    "httpx_sse": ("event_stream", "consumer", "cli*"),
    "prometheus_client": ("metrics",),
    "rich": ("cli*",),
    "sqlite3": ("backends.sqlite*",),
    "tornado": ("web*", "admin", "admin_door", "daemon", "hook_client"),
    "tornado.web": ("web", "web_handlers", "web_session", "admin"),
    "ujson": ("header", "sse", "publishing", "request", "admin", "consumer", "backends.*", "cli*"),
    "zmq": ("ingest", "zmq_*", "curve_key", "publish_link", "async_producer", "producer", "bench.sender"),
}


def ladder() -> dict[str, tuple[int, int]]:
    """Module of the daemon -> its layer and its place there."""
    return {name: (layer, place) for layer, names in LAYERS.items() for place, name in enumerate(names)}


def family(backend: str) -> set[str]:
    """The modules of one backend."""
    return {name for name in modules() if name == f"backends.{backend}" or name.startswith(f"backends.{backend}_")}


def backend_modules() -> set[str]:
    return {"backends", *BACKEND_HELPERS, *(name for backend in BACKENDS for name in family(backend) or {f"backends.{backend}"})}


def library_modules() -> set[str]:
    return {name for _, names in LIBRARIES.values() for name in names}


def commands() -> set[str]:
    return {name for name in modules() if name.split(".")[0] == "cli"}


def test_every_module_has_its_place() -> None:
    listed = [*ladder(), *library_modules(), *backend_modules(), *commands()]
    assert sorted(set(modules()) - set(listed)) == [], "modules without a place in the table"
    assert sorted(set(listed) - set(modules())) == [], "places in the table without a module"
    assert len(listed) == len(set(listed)), "a module with two places"


def uphill(name: str, allowed: set[str]) -> list[str]:
    """The imports of `name` that are not in `allowed`."""
    return [f"{name} imports {target}" for target in own(modules()[name]) if target not in allowed] if name in modules() else []


def test_the_daemon_imports_downhill() -> None:
    places = ladder()
    wrong = [
        line for name, place in places.items() for line in uphill(name, {other for other, its in places.items() if its < place})
    ]
    assert not wrong


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_library_stands_on_little(library: str) -> None:
    below, names = LIBRARIES[library]
    assert not [line for place, name in enumerate(names) for line in uphill(name, {"__init__", *below, *names[:place]})]


def test_backends_see_the_port_and_never_each_other() -> None:
    port = {name for layer, names in LAYERS.items() if layer <= BACKENDS_SEE for name in names}
    wrong = [line for place, name in enumerate(BACKEND_HELPERS) for line in uphill(name, {*port, *BACKEND_HELPERS[:place]})]
    for backend in BACKENDS:
        wrong += [line for name in family(backend) for line in uphill(name, {*port, *BACKEND_HELPERS, *family(backend)})]
    wrong += uphill("backends", port)
    assert not wrong


def test_only_the_command_line_knows_daemon_and_backends() -> None:
    wrong = [
        name for name in {*ladder(), *library_modules()} & set(modules()) for x in own(modules()[name]) if x in backend_modules()
    ]
    wrong += [name for name in set(modules()) - commands() for target in own(modules()[name]) if target in commands()]
    assert not wrong


def test_no_import_runs_in_a_circle() -> None:
    graph = {name: set(own(path)) - {name} for name, path in modules().items()}
    while free := {name for name, targets in graph.items() if not targets & graph.keys()}:
        graph = {name: targets for name, targets in graph.items() if name not in free}
    assert not graph


def pure() -> Iterator[tuple[str, Path]]:
    for layer, names in LAYERS.items():
        if layer <= PURE:
            yield from ((name, modules()[name]) for name in names)


def test_the_lower_layers_do_nothing_but_compute() -> None:
    wrong = [f"{name} imports {x}" for name, path in pure() for x in foreign(path) if x.partition(".")[0] in IMPURE]
    for name, path in pure():
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
                wrong.append(f"{name}:{node.lineno} calls {node.func.id}")
            if isinstance(node, ast.AsyncFunctionDef):
                wrong.append(f"{name}:{node.lineno} is a coroutine")
    assert not wrong


def wall_of(imported: str) -> str | None:
    """The entry of WALLS that `imported` falls under; None for the standard library's other modules."""
    parts = imported.split(".")
    for length in range(len(parts), 0, -1):
        if (prefix := ".".join(parts[:length])) in WALLS:
            return prefix
    return None if parts[0] in sys.stdlib_module_names else f"{parts[0]}, a library without an entry"


def test_libraries_stay_behind_their_walls() -> None:
    wrong = []
    for name, path in modules().items():
        for imported in foreign(path):
            wall = wall_of(imported)
            if wall and not any(fnmatchcase(name, pattern) for pattern in WALLS.get(wall, ())):
                wrong.append(f"{name} imports {wall}")
    assert not wrong


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after `statement`."""
    code = f"import sys\n{statement}\nprint(*sorted({{name.partition('.')[0] for name in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    return set(done.stdout.split())


def test_a_producer_loads_zmq_and_ujson_only() -> None:
    loaded = loaded_by("import sse_daemon.producer")
    assert {"zmq", "ujson"} <= loaded
    assert not loaded & (set(WALLS) - {"zmq", "ujson"})


def test_asking_for_a_backend_loads_no_other() -> None:
    loaded = loaded_by(
        "from sse_daemon.backend import Limits; from sse_daemon.backends import create; create('memory://', Limits())"
    )
    assert "sqlite3" not in loaded
