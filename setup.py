"""Says nothing that setup.cfg does not, unless SSE_DAEMON_COMPILE=1 asks for the compiled core.

Then the modules that every event passes through are translated to C by mypyc from the very source that runs without it
(docs/decisions/0013-compiled-core.md): SSE_DAEMON_COMPILE=1 pip install . needs a C compiler and Python's headers.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from setuptools import setup

COMPILER = "mypy>=2.4,<2.5"
OPTIONS = ("--config-file=", "--ignore-missing-imports", "--follow-imports=silent")
"""The compiler's: types were checked before, and what is not compiled is none of its business."""
COMPILED = (
    "event", "participant", "header", "envelope", "sse", "subscription", "window", "census", "directory", "backend", "timely",
    "stream", "poller", "waiter", "plan", "batches", "hub", "appender", "zmq_reader", "ingest", "codec", "followed", "link", "relay",
    "backends.broker", "backends.pages", "backends.producers", "backends.ledger", "backends.memory",
)  # fmt: skip
"""What one event costs is spent here; everything else is left as it is."""


def compiled() -> Mapping[str, Any]:
    """setup()'s arguments for the compiled core."""
    try:
        from mypyc.build import mypycify
    except ImportError:
        if "egg_info" in sys.argv:  # the builder asks what it has to install first
            return {"setup_requires": [COMPILER]}
        raise SystemExit(f"SSE_DAEMON_COMPILE: the compiler is missing: pip install '{COMPILER}'") from None
    return {"setup_requires": [COMPILER], "ext_modules": mypycify([*OPTIONS, *staged()])}


def staged() -> list[str]:
    """The sources in one folder as they are imported, for backends/ stands beside its package in the tree."""
    root = Path(__file__).resolve().parent
    stage = root / "build" / "staged"
    shutil.rmtree(stage, ignore_errors=True)
    shutil.copytree(
        root / "sse_daemon", stage / "sse_daemon", ignore=shutil.ignore_patterns("backends", "cli", "__pycache__", "*.so")
    )
    shutil.copytree(root / "backends", stage / "sse_daemon" / "backends", ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    os.chdir(root)
    return [str((stage / "sse_daemon" / name.replace(".", "/")).with_suffix(".py").relative_to(root)) for name in COMPILED]


setup(**(compiled() if os.environ.get("SSE_DAEMON_COMPILE") == "1" else {}))
