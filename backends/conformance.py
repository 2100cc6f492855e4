"""One check for every promise of the port, for our backends and a third party's; imported as sse_daemon.backends.conformance, never
under the bare name.

    for name, check in checks_of(backend).items():
        await run(check, make)      # make(limits, clock): the backend, not opened, always on the same storage, empty at first

Each check wants an empty storage of its own. A broken promise raises PromiseBroken with the promise in words.
"""

from __future__ import annotations

from sse_daemon.backend import Backend
from sse_daemon.backends import conformance_append, conformance_life, conformance_read
from sse_daemon.backends.conformance_harness import CHECKS, Check, Clock, Follower, Harness, Make, PromiseBroken, draft

__all__ = ["CHECKS", "Check", "Clock", "Follower", "Harness", "Make", "PromiseBroken", "checks_of", "draft", "run"]

PARTS = (conformance_append, conformance_read, conformance_life)
"""Where the checks are; to import them is to register them."""


def checks_of(backend: type[Backend] | Backend, *, clock: bool = True) -> dict[str, Check]:
    """The checks that concern the backend; `clock`: it takes its time from the clock that it is made with."""
    return {
        name: check for name, check in CHECKS.items() if (backend.durable or not check.durable) and (clock or not check.clock)
    }


async def run(check: Check, make: Make) -> None:
    """Runs one check on an empty storage. Raises PromiseBroken, or whatever the backend raised."""
    harness = Harness(make)
    try:
        await check.run(harness)
    finally:
        await harness.close()
