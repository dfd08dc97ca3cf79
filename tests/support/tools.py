"""Programs from Debian that some tests ask for a second opinion."""

from __future__ import annotations

import os
import shutil

import pytest


def tool(name: str) -> str:
    """Path of a program. Without it the test is skipped, or fails where nothing may be skipped."""
    path = shutil.which(name)
    if path is None:
        if os.environ.get("REQUIRE_TOOLS"):
            pytest.fail(f"{name} is not installed")
        pytest.skip(f"{name} is not installed")
    return path
