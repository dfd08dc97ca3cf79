"""tests/e2e/test_body_streaming.py over TLS."""

from tests.e2e.test_body_streaming import *  # noqa: F403  tests and fixtures are found by their names
