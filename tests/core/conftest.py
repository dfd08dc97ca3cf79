"""How the property tests of the core run."""

from __future__ import annotations

from hypothesis import settings

# Nothing here is measured: on a busy machine an example may take longer than Hypothesis expects.
settings.register_profile("core", deadline=None)
settings.load_profile("core")
