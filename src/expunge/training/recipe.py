"""How a model is trained, as one validated object: what a folder stores and a study varies."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from expunge.errors import ConfigError, nearest


class Settings(BaseModel):
    """Base of recipes and methods: frozen, no unknown fields, errors that say what to change.

    What validates is built when a class is first used, for most are only looked at.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, defer_build=True)

    def __init__(self, /, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise ConfigError(explain(error, type(self))) from None


class Recipe(Settings):
    """Everything that decides how `fit` trains, but the data and the model.

    The defaults suit CIFAR-10 with a ResNet: SGD with momentum 0.9, one-cycle to 0.1, weight decay
    5e-4, batch 256. The published recipe of the sparsity paper is 182 epochs of schedule "step"
    from 0.1 with milestones 91 and 136.
    """

    epochs: int = Field(default=30, ge=1, description="passes over the data")
    batch_size: int = Field(default=256, ge=1, description="samples a step, over all processes")
    optimizer: Literal["sgd", "adam", "adamw"] = Field(default="sgd", description="update rule")
    lr: float = Field(default=0.1, gt=0, description="learning rate; the peak of one-cycle")
    momentum: float = Field(default=0.9, ge=0, lt=1, description="of SGD; Adam's first beta")
    nesterov: bool = Field(default=False, description="Nesterov momentum, SGD only")
    weight_decay: float = Field(default=5e-4, ge=0, description="L2 penalty; decoupled in adamw")
    schedule: Literal["constant", "step", "cosine", "onecycle", "triangle", "plateau"] = Field(
        default="onecycle",
        description="of the learning rate; triangle rises epoch by epoch to lr half way, then falls; "
        "plateau watches the validation loss",
    )
    milestones: tuple[int, ...] = Field(
        default=(), description="epochs at which `step` multiplies by gamma"
    )
    gamma: float = Field(default=0.1, gt=0, le=1, description="factor of `step` and `plateau`")
    warmup_fraction: float = Field(default=0.3, gt=0, lt=1, description="rising share of one-cycle")
    patience: int = Field(
        default=5, ge=0, description="epochs without progress before `plateau` acts"
    )
    clip_norm: float | None = Field(
        default=None, gt=0, description="largest norm of the whole gradient"
    )
    clip_value: float | None = Field(
        default=None, gt=0, description="largest entry of the gradient"
    )
    augmentation: Literal["auto", "none", "crop", "flip", "crop_flip"] = Field(
        default="auto",
        description="auto: crop and flip for colour images of 16 pixels and more, else none",
    )
    precision: Literal["auto", "float32", "bfloat16"] = Field(
        default="auto",
        description="auto: bfloat16 autocast for convolutions where the processor has it",
    )
    compile: bool = Field(
        default=False, description="torch.compile the model; pays on long GPU runs"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Recipe:
        if self.clip_norm is not None and self.clip_value is not None:
            raise ValueError("clip_norm and clip_value exclude each other; set one of them")
        if self.schedule == "step" and not self.milestones:
            raise ValueError("schedule 'step' needs milestones, such as milestones=(91, 136)")
        if self.nesterov and (self.optimizer != "sgd" or self.momentum == 0):
            raise ValueError("nesterov needs optimizer 'sgd' with momentum above 0")
        return self

    def but(self, **changes: Any) -> Recipe:
        """This recipe with some fields changed, validated again."""
        return Recipe(**{**self.model_dump(), **changes})


def explain(error: ValidationError, kind: type[BaseModel]) -> str:
    """One line for the first thing that pydantic found wrong."""
    problem = error.errors()[0]
    name = ".".join(str(part) for part in problem["loc"])
    known = list(kind.model_fields)
    if problem["type"] == "extra_forbidden":
        return (
            f"{kind.__name__} has no setting {name!r:.200}{nearest(name, known)}; it has: "
            f"{', '.join(known) or 'none'}"
        )
    message = str(problem["msg"]).removeprefix("Value error, ")
    message = message[:1].lower() + message[1:]
    if not name:
        return f"{kind.__name__}: {message}"
    return f"{kind.__name__}: {name[:100]} = {problem['input']!r:.200}: {message}"
