"""The doors of the integration tests."""

from tests.integration.conftest import door, pytest_generate_tests

__all__ = ["door", "pytest_generate_tests"]
