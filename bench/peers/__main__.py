"""`python -m bench.peers`: which peers can be started here. `python -m bench.peers install [NAME...]`: brings those that need no root."""

from __future__ import annotations

import argparse
import sys

from bench.peers import INSTALLABLE, PEERS, PeerError


def main() -> int:
    """The status of the process: 1 if one could not be installed."""
    parser = argparse.ArgumentParser(prog="python -m bench.peers")
    commands = parser.add_subparsers(dest="command")
    names = commands.add_parser("install").add_argument("names", nargs="*", metavar="NAME")
    names.choices = [*INSTALLABLE, []]
    arguments = parser.parse_args()
    if arguments.command == "install":
        return _install(arguments.names or list(INSTALLABLE))
    for peer in PEERS:
        print(f"{peer.name}: {peer.missing() or 'ready'}")
    return 0


def _install(names: list[str]) -> int:
    try:
        for name in names:
            print(f"==> {name}", flush=True)
            INSTALLABLE[name].install()
    except PeerError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
