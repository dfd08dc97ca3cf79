"""tests/e2e/test_isolation.py over TLS."""

from tests.e2e.test_isolation import *  # noqa: F403  tests and fixtures are found by their names
