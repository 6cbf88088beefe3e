"""Fixtures that the tests of the readers share."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of the real feedback files beside the repository; the test is skipped where there is none."""
    if not _SHARED.is_dir():
        pytest.skip("the shared data folder is not beside this checkout")
    return _SHARED
