from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _old_sqlite(expect_log: Any) -> None:
    """Where SQLite is an old one the log says so; whether it does is tested by itself."""
    expect_log("sse_daemon.backends.sqlite_file", "can, rarely, damage a file", required=False)
