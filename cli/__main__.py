"""`python -m sse_daemon.cli`, the same as `sse-daemon`; imported as sse_daemon.cli.__main__, never under the bare name."""

from __future__ import annotations

from sse_daemon.cli import main

if __name__ == "__main__":
    main(prog_name="sse-daemon")
