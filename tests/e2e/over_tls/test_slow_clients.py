"""tests/e2e/test_slow_clients.py over TLS."""

from tests.e2e.test_slow_clients import *  # noqa: F403  tests and fixtures are found by their names
