"""sse-daemon: from producers on ZeroMQ to each participant's open page, over Server-Sent Events."""

__version__ = "0.1.0"
