"""The peers that the daemon is compared with: each one a module that starts and stops it. README.md has their settings."""

from __future__ import annotations

from bench.peers.base import HttpPublish, Peer, PeerError, Running, ZmqPublish

PEERS: tuple[Peer, ...] = ()

__all__ = ["PEERS", "HttpPublish", "Peer", "PeerError", "Running", "ZmqPublish"]
