"""The daemon, publisher and connections of the integration tests, for golden bytes."""

from tests.integration.conftest import daemon, door, get, publisher, pytest_generate_tests

__all__ = ["daemon", "door", "get", "publisher", "pytest_generate_tests"]
