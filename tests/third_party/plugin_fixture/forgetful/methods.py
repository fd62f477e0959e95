"""A method that forgets everything a little."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from pydantic import Field
from torch import nn

from expunge import DataView, Method, Part, Run


class Shrink(Method):
    """Shrink every weight a little.

    The forget set is not looked at.
    """

    name: ClassVar[str] = "shrink"
    paper: ClassVar[str] = "none; for tests"
    reads: ClassVar[Part] = Part.RETAIN
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {"hard": {"share": 0.5}}

    share: float = Field(default=0.1, ge=0, lt=1, description="of each weight that goes")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        with torch.no_grad():
            for weight in model.parameters():
                weight.mul_(1 - self.share)
        return model
