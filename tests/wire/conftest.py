"""The daemon, publisher and connections of the integration tests, for golden bytes."""

from tests.integration.conftest import daemon, get, publisher

__all__ = ["daemon", "get", "publisher"]
