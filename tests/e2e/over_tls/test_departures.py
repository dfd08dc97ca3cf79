"""tests/e2e/test_departures.py over TLS."""

from tests.e2e.test_departures import *  # noqa: F403  tests and fixtures are found by their names
