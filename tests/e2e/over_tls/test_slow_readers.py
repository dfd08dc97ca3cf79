"""tests/e2e/test_slow_readers.py over TLS."""

from tests.e2e.test_slow_readers import *  # noqa: F403  tests and fixtures are found by their names
