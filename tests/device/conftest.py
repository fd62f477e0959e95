"""The device that these tests compute on: a GPU where there is one."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    """`cuda` where there is one, else `cpu`; EXPUNGE_TEST_DEVICE names another."""
    asked = os.environ.get("EXPUNGE_TEST_DEVICE")
    return asked or ("cuda" if torch.cuda.is_available() else "cpu")
