"""The configuration: `Config` and `Route`."""

from __future__ import annotations

from sse_daemon.config_route import EVENTS, Route
from sse_daemon.config_tables import Config, default_admin_socket

__all__ = ["EVENTS", "Config", "Route", "default_admin_socket"]
