"""What every test runs under: no writing outside temporary folders, no clock in hypothesis."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
import torch
from hypothesis import settings

settings.register_profile("expunge", deadline=None)  # other work shares the processor
settings.load_profile("expunge")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fingerprints are remembered in a cache; a test must neither find nor leave any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _every_warning() -> None:
    """torch warns of some things once in a process; here every time, so that order is no matter."""
    torch.set_warn_always(True)


@pytest.fixture(autouse=True, scope="session")
def _no_data_folder() -> Iterator[None]:
    """`cifar10` is found only by tests that say where it lies."""
    before = os.environ.pop("EXPUNGE_DATA", None)
    yield
    if before is not None:
        os.environ["EXPUNGE_DATA"] = before
