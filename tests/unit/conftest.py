"""What several of these tests begin with."""

from __future__ import annotations

from pathlib import Path

import pytest


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where a configuration is written to; nothing is there yet."""
    return tmp_path / "sse.toml"
