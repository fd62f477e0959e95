"""The target task: other data, brought into the form that the source model reads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Literal

from pydantic import Field, field_validator

from expunge.errors import DataError
from expunge.training.recipe import Recipe, Settings

if TYPE_CHECKING:
    from torch import Tensor

    from expunge.data.load import Data
    from expunge.data.samples import Samples

DEFAULT = Recipe(epochs=10, batch_size=128, lr=0.02, augmentation="none")
"""Without augmentation: a digit must not be flipped because the source's images are."""


class TargetTask(Settings):
    """What a source model is adapted to, and how."""

    data: str = Field(description="data specification of the target task")
    scorer: Literal["cosine", "gradient"] = Field(
        default="cosine", description="how `harmful:K` scores source classes by their harm"
    )
    recipe: Recipe = Field(
        default=DEFAULT,
        description="of full fine-tuning; what it leaves out is as in the default; the linear probe has "
        "nothing to choose",
    )

    @field_validator("recipe", mode="before")
    @classmethod
    def _filled(cls, value: Any) -> Any:
        return {**DEFAULT.model_dump(), **value} if isinstance(value, Mapping) else value


def as_target(source: Data, target: Data) -> Data:
    """The target's images as the source model reads them: its size, channels and normalisation.

    Grey becomes three equal channels, colour its mean; sizes change by bilinear interpolation. The
    target's own samples are left as they are. Raises DataError for what is no image, unless it has
    the source's shape already.
    """
    shape = source.train.shape()
    mean_and_std = source.normalisation
    made = replace(target, train=_fitted(target.unstruck, shape), test=_fitted(target.test, shape))
    return made.with_normalisation(mean_and_std)


def _fitted(samples: Samples, shape: tuple[int, ...]) -> Samples:
    from expunge.data.samples import ResidentStore, resident

    if samples.shape() == shape:
        return samples
    images = resident(samples)
    if images is None or images.ndim != 4 or len(shape) != 3:
        raise DataError(
            f"the target's samples have shape {samples.shape()}, the source's {shape}; only images "
            "that are held in memory can be brought into another form"
        )
    changed = _resized(_with_channels(images, shape[0]), (shape[1], shape[2]))
    mark = "x".join(map(str, shape))
    return replace(
        samples, store=ResidentStore(changed), fingerprint=f"{samples.fingerprint}/{mark}"
    )


def _with_channels(images: Tensor, channels: int) -> Tensor:
    if images.shape[1] == channels:
        return images
    import torch

    grey = images
    if images.shape[1] != 1:
        mean = images.float().mean(dim=1, keepdim=True)
        grey = mean.round().to(images.dtype) if images.dtype == torch.uint8 else mean
    return grey.expand(-1, channels, -1, -1).contiguous()


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    if tuple(images.shape[2:]) == size:
        return images
    import torch

    changed = torch.nn.functional.interpolate(
        images.float(), size, mode="bilinear", antialias=True, align_corners=False
    )
    if images.dtype != torch.uint8:
        return changed.to(images.dtype)
    return changed.round().clamp(0, 255).to(torch.uint8)
