"""What a machine may lack, so that a test cannot run there."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def lacks(what: str) -> NoReturn:
    """Skip the test that needs it; fail where nothing may be skipped (EXPUNGE_NO_SKIPS)."""
    if os.environ.get("EXPUNGE_NO_SKIPS"):
        pytest.fail(f"{what} is missing", pytrace=False)
    pytest.skip(f"{what} is missing")
