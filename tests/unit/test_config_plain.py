"""A configuration that travels to another process is the same there."""

from __future__ import annotations

import marshal
from pathlib import Path

import pytest

from sse_daemon.config import load
from sse_daemon.config_plain import plain, share, unplain

EXAMPLE = Path(__file__).parents[2] / "systemd" / "sse-daemon.toml"


def test_what_is_sent_is_what_comes(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    # Every key that the example shows, with its value.
    lines = [
        line.removeprefix("#") if line.startswith("#") and not line.startswith("# ") else line
        for line in EXAMPLE.read_text().splitlines()
    ]
    file.write_text("\n".join(lines).replace("filters = {}", 'filters = { types = "type" }'))
    config = load(file, {})
    assert config.stream and config.stream[0].filters
    assert unplain(marshal.loads(marshal.dumps(plain(config)))) == config
    assert unplain(plain(load(None, {}))) == load(None, {})


@pytest.mark.parametrize(("streams", "pinned", "most", "limit"), [(0, 0, 0, 0), (1, 10, 1, 4), (100, 9, 34, 3)])
def test_limits_of_all_streams_are_divided(streams: int, pinned: int, most: int, limit: int) -> None:
    texts = {"SSE_DAEMON_STREAMS_MAX_STREAMS": str(streams), "SSE_DAEMON_STREAMS_PINNED_LIMIT": str(pinned)}
    config = load(None, texts)
    own = share(config, 3).streams
    assert (own.max_streams, own.pinned_limit) == (most, limit)
    assert share(config, 1) == config
