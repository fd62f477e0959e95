"""Seeds from names, so that a result never depends on the order in which things were run."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def seed_for(*names: str | int) -> int:
    """A 63-bit seed that depends on the names alone.

    `seed_for("retrain", 0)` and `seed_for("retrain", 0, "floor")` are unrelated streams; the type
    of a name counts, so `0` and `"0"` differ.
    """
    text = "\x1f".join(f"{type(name).__name__}:{name}" for name in names)
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_generator(*names: str | int) -> np.random.Generator:
    """A numpy generator seeded from names."""
    import numpy as np

    return np.random.default_rng(seed_for(*names))


def torch_generator(*names: str | int, device: torch.device | str = "cpu") -> torch.Generator:
    """A torch generator seeded from names."""
    import torch

    return torch.Generator(device=device).manual_seed(seed_for(*names))
