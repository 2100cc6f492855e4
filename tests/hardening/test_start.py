"""What is wrong at the start ends the start: nothing is passed over, and no mode stands in for another that cannot do its work."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sse_daemon.curve_key import generate, write_secret
from tests.integration.daemon import RunningDaemon, command

MISTAKE, UNUSABLE = 2, 1
"""Exit statuses: the configuration is wrong, and would be again; something that it needs is not there."""
OUTSIDE = 'listen = ["0.0.0.0:0"]\n'


def tokens(file: str) -> str:
    """A configuration that takes tokens by the keys in this file of the place."""
    return f'[auth]\nmode = "token"\ntoken_audience = "x"\ntoken_keys = "{{place}}/{file}"\n'


def curve(secret: str, producers: str) -> str:
    """One for CURVE, with this file and this folder of the place."""
    return f'[ingest]\ncurve_secret = "{{place}}/{secret}"\nauthorized_keys = "{{place}}/{producers}"\n'


MATRIX: dict[str, tuple[str, int, str]] = {
    "an unknown key": ('[auth]\nmod = "claim"\n', MISTAKE, "unknown key"),
    "an unknown table": ('[atuh]\nmode = "claim"\n', MISTAKE, "unknown table"),
    "an unknown mode": ('[auth]\nmode = "none"\n', MISTAKE, "mode"),
    "a value of another kind": ('[streams]\nmax_per_participant = "many"\n', MISTAKE, "max_per_participant"),
    "claims outside, said once": (f'[http]\n{OUTSIDE}[auth]\nmode = "claim"\n', MISTAKE, "can be reached from outside"),
    "claims outside, by the other switch": (
        f'[http]\n{OUTSIDE}[auth]\nmode = "claim"\nclaim_is_trusted_network = "off"\n',
        MISTAKE,
        "can be reached from outside",
    ),
    "proof without keys": ('[participants]\nkeys = "opaque"\n', MISTAKE, "keys"),
    "proof without a memory": ('[auth]\nstate = "{place}/file/below"\n', UNUSABLE, "nonces cannot be kept"),
    "tokens without keys": ('[auth]\nmode = "token"\ntoken_audience = "x"\n', MISTAKE, "needs token_keys"),
    "tokens without an audience": ('[auth]\nmode = "token"\ntoken_keys = "{place}/file"\n', MISTAKE, "needs token_audience"),
    "tokens, keys not there": (tokens("none"), MISTAKE, "token_keys"),
    "tokens, keys are none": (tokens("file"), MISTAKE, "token_keys"),
    "a hook that is nowhere": ('[auth]\nmode = "hook"\n', MISTAKE, "needs hook_url"),
    "a proxy that nobody is": ('[auth]\nmode = "trusted-proxy"\n', MISTAKE, "needs trusted_proxies"),
    "a resolver that is not installed": ('[auth]\nkey_resolver = "nobody"\n', MISTAKE, "key_resolver"),
    "producers outside without keys": ('[ingest]\nacked = ["tcp://0.0.0.0:0"]\n', MISTAKE, "curve_secret"),
    "half of CURVE": ('[ingest]\ncurve_secret = "{place}/curve.key"\n', MISTAKE, "authorized_keys"),
    "a secret that is not there": (curve("none", "producers"), MISTAKE, "{place}/none"),
    "a secret that others may read": (curve("open.key", "producers"), MISTAKE, "{place}/open.key"),
    "a producer's file that is wrong": (curve("curve.key", "wrong"), MISTAKE, "{place}/wrong/a.toml"),
    "no folder of producers": (curve("curve.key", "none"), MISTAKE, "{place}/none"),
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with what the matrix names."""
    (tmp_path / "file").write_text("nothing of use")
    for name in ("curve.key", "open.key"):
        write_secret(tmp_path / name, generate())
    (tmp_path / "open.key").chmod(0o644)
    for name in ("producers", "wrong"):
        (tmp_path / name).mkdir()
    (tmp_path / "wrong" / "a.toml").write_text('public_key = "short"\n')
    return tmp_path


@pytest.mark.parametrize("case", MATRIX)
def test_it_does_not_start_and_says_why(case: str, place: Path) -> None:
    config, status, reason = MATRIX[case]
    own_addresses = "0.0.0.0" in config
    daemon = RunningDaemon(
        config.replace("{place}", str(place)), dev=False, http=() if own_addresses else ("127.0.0.1:0",), acked=()
    )
    try:
        daemon.launch()
        assert daemon.wait() == status, daemon.log()
        said = daemon.log()
        assert reason.replace("{place}", str(place)) in said
        assert not daemon.lines("ready") and "Traceback" not in said
        assert (place / "open.key").read_text().strip() not in said
        assert not daemon.admin.exists(), "it listened"
    finally:
        shutil.rmtree(daemon.directory)


@pytest.mark.parametrize("name", ["none", "file", "secret.pem"])
def test_keys_of_tokens_are_looked_at_before_it_starts(name: str, place: Path) -> None:
    (place / "secret.pem").write_text("-----BEGIN PRIVATE KEY-----\nMC4=\n-----END PRIVATE KEY-----\n")
    (place / "producers" / "a.toml").write_text("")
    config = place / "daemon.toml"
    config.write_text((curve("curve.key", "producers") + tokens(name)).replace("{place}", str(place)))
    done = command("check-config", str(config))
    # What is wrong in other files is said at once, too.
    assert done.returncode == 2 and f"{place}/producers/a.toml" in done.stderr
    assert f"[auth] token_keys: {place}/{name} " in done.stderr and "MC4" not in done.stderr


def test_where_nothing_is_wrong_it_starts(place: Path) -> None:
    """The same files, as they should be: what the matrix finds is what it says."""
    config = curve("curve.key", "producers") + '[auth]\nstate = "{place}/state"\n'
    with RunningDaemon(config.replace("{place}", str(place)), dev=False) as daemon:
        assert daemon.ready["auth"] == "proof"


@pytest.mark.parametrize("name", ["SSE_DAEMON_AUTH_MOD", "SSE_DAEMON_ATUH_MODE"])
def test_a_misspelt_variable_is_no_default(name: str) -> None:
    daemon = RunningDaemon(dev=False, env={name: "claim"})
    try:
        daemon.launch()
        assert daemon.wait() == MISTAKE
        assert f"{name}: unknown variable" in daemon.log()
    finally:
        shutil.rmtree(daemon.directory)
