"""`python -m tests.fuzz.guided TARGET [libFuzzer's arguments]`: one search, led by the coverage of what is searched (atheris)."""

from __future__ import annotations

import sys

import atheris

from tests.fuzz.targets import check_of

TORNADO = ("tornado.httputil", "tornado.http1connection", "tornado.escape")


def main() -> None:
    """Searches until libFuzzer ends the process: its status is 0 only if nothing was found."""
    name, *arguments = sys.argv[1:]
    # Not everything: the branches of the event loop would drown those of the parsers. Those of the checks lead somewhere, too.
    with atheris.instrument_imports(include=["sse_daemon", "tests", *TORNADO]):
        check = check_of(name)
        check(b"")  # which imports what it checks
    atheris.Setup([sys.argv[0], *arguments], lambda data: check(data) and None)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
