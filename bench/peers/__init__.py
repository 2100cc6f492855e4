"""The peers that the daemon is compared with: each one a module that starts and stops it. README.md has their settings."""

from __future__ import annotations

from bench.peers.base import HttpPublish, Peer, PeerError, Running, ZmqPublish
from bench.peers.better_sse import BetterSse
from bench.peers.compiled import CompiledDaemon
from bench.peers.daemon import Daemon
from bench.peers.floor import Floor
from bench.peers.nchan import Nchan
from bench.peers.pushpin import Pushpin
from bench.peers.sse_starlette import SseStarlette

_sse_starlette = SseStarlette()
_better_sse = BetterSse()

FLOOR = Floor()
PEERS: tuple[Peer, ...] = (Nchan(), Pushpin(), _sse_starlette, _better_sse)
INSTALLABLE = {peer.name: peer for peer in (_sse_starlette, _better_sse)}
"""Those that `python -m bench.peers install` brings, without root, into `.bench-peers/`."""

__all__ = [
    "FLOOR",
    "INSTALLABLE",
    "PEERS",
    "CompiledDaemon",
    "Daemon",
    "HttpPublish",
    "Peer",
    "PeerError",
    "Running",
    "ZmqPublish",
]
