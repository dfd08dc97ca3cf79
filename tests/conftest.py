"""Fixtures that several test modules share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.containers import Container


@pytest.fixture(scope="session")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    """One real scoring container with the demo's model, for the whole session."""
    with Container(tmp_path_factory.mktemp("container")) as running:
        yield running


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The public test data."""
    return Path(__file__).resolve().parent / "corpora"
