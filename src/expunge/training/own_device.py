"""accelerate's object for one process, with a device of its own."""

from __future__ import annotations

from typing import Any

import torch
from accelerate import Accelerator


class OwnDevice(Accelerator):  # type: ignore[misc]  # it publishes no annotations
    """An accelerate object with a device of its own, where there is one process.

    accelerate keeps one device for a whole process, that of whoever asked first, and a process may well
    train on a graphics card and compare on the processor.
    """

    def __init__(self, own: torch.device, **options: Any) -> None:
        self._own = own
        super().__init__(**options)

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        shared: torch.device = super().device
        return self._own if self.num_processes == 1 else shared
