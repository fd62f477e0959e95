"""What every unlearning method is: validated settings, declared reads, one function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ConfigError, DivergenceError
from expunge.training.recipe import Recipe, Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


Scope = Literal["any", "class", "random", "head", "backdoor"]
"""Requests that a method is made for."""


class Method(Settings):
    """An unlearning method. Its fields are its hyper-parameters, with their paper's defaults.

    A new method is one file with such a class, and one line in `expunge.methods.METHODS`, or lies in
    a package of one's own; `expunge.testing.check_method` says whether it keeps what all promise.
    What is built in imports torch only where it computes, so that name, settings and scope are read
    at once.

    reads: the parts of the data that it reads; reading another raises AccessError. With its settings
        it may read less, see `reads_now`.
    scope: what it is made for. "any" request; whole classes, "class", and others are refused; samples
        of all classes, "random", and a request with a whole class is warned of; "head" for models of
        which it trained the last layer itself, and others are refused; "backdoor" for a model that may
        hold one, of which it reads clean samples alone: another request is warned of.
    guarantee: what is proved of the result: "exact" (equal in law to retraining), "none", or
        "certified(epsilon, delta)"; of one method with its settings, see `proves`.
    needs_classes: whether it needs the class logits of a model, or changes labels; for a task without
        classes it is refused then.
    takes_statistics: whether it takes models with running statistics (BatchNorm); others it refuses.
    seeded: whether another seed gives other weights.
    trains: whether it uses an optimiser of torch, the first of which takes a process seconds to load:
        that is then done before the clock starts.
    diverges: settings with which it must raise DivergenceError, for the contract suite. Empty for a
        method that has none, such as one that only ever shrinks weights.
    presets: published settings other than the defaults, by name: `make_method("unsir:notebook")`.
    takes_part: whether it takes part in training: it trains the original by `train`, may keep tensors
        beside it in `run.kept`, and forgets from such models alone, with the settings that they were
        trained with and under the seed names of their training.
    per_request: of a method that takes part, settings that each request may choose anew.
    needs_recipe: whether it trains as the original was trained, and so needs to know how.
    without_validation: a setting with which it reads no validation samples, as it is typed; see
        `reads_now`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    reads: ClassVar[Part]
    scope: ClassVar[Scope] = "any"
    guarantee: ClassVar[str] = "none"
    needs_classes: ClassVar[bool] = False
    takes_statistics: ClassVar[bool] = True
    seeded: ClassVar[bool] = True
    trains: ClassVar[bool] = True
    diverges: ClassVar[Mapping[str, object]] = {}
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}
    takes_part: ClassVar[bool] = False
    per_request: ClassVar[frozenset[str]] = frozenset()
    needs_recipe: ClassVar[bool] = False
    without_validation: ClassVar[str] = ""

    @abstractmethod
    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """Return a model that has forgotten. `model` is a private copy and may be changed.

        Reads `data` only as declared in `reads`, and draws seeds from `run` alone.
        """

    def train(self, data: DataView, run: Run) -> nn.Module:
        """Train an original on the retain set; for methods that take part in training.

        `retrain` of such a model is this, under other seed names and with nothing kept before.
        """
        raise ConfigError(
            f"{self.name} takes no part in training: it makes any trained model forget; train without a "
            f"method, then give {self.name} to unlearn"
        )

    def check_recipe(self, recipe: Recipe) -> None:
        """Raise ConfigError for a recipe that `train` cannot go by; asked before data are read."""

    def built(self, fresh: Callable[[], nn.Module]) -> nn.Module:
        """An untrained module of the shape that `train` returns, of what makes one untrained model."""
        return fresh()

    @classmethod
    def exported(cls, settings: Mapping[str, object]) -> str:
        """What a plain checkpoint of such a model holds, for code that knows nothing of the method.

        settings: of its training, whole.
        """
        return "the module that this method trains (see Method.built), and nothing of what it keeps"

    def check_stored(
        self, shapes: Mapping[str, tuple[int, ...]], fresh: Callable[[], nn.Module]
    ) -> None:
        """Raise ModelError where a file of weights of these shapes cannot be of a module that `built`
        makes, before that makes one: a card and its settings may come from strangers.
        """

    def proves(self) -> str:
        """The guarantee with these settings, as records have it: with numbers, where it has some."""
        return self.guarantee

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """What it reads with these settings: `reads`, or less of it.

        recipe: the original's, None where it is not known. whole: whether only whole classes are to go.
        """
        return self.reads


Epochs = Annotated[int, Field(ge=1, description="passes over the retain set")]
Rate = Annotated[float, Field(gt=0, description="learning rate")]
Momentum = Annotated[float, Field(ge=0, lt=1, description="SGD momentum")]
WeightDecay = Annotated[float, Field(ge=0, description="L2 penalty of SGD")]
StillNorm = Annotated[
    Literal["eval", "train"],
    Field(description="eval: normalisation layers keep their statistics; train: they drift"),
]
BatchSize = Annotated[int, Field(ge=1, description="samples a step")]


class SgdMethod(Method):
    """A method that trains by stochastic gradient descent at a constant rate, and its fields.

    A subclass gives other defaults, and its own words where a pass is over another set:
    `epochs: Epochs = Field(5, description="passes over the forget set")`. Its fields come after
    these; those of a further base, as in `class Mine(SgdMethod, Weights)`, before them.
    """

    diverges: ClassVar[Mapping[str, object]] = {"lr": 1e8}

    epochs: Epochs = 10
    lr: Rate = 0.01
    momentum: Momentum = 0.9
    weight_decay: WeightDecay = 5e-4
    batch_size: BatchSize = 256

    def recipe(self, run: Run) -> Recipe:
        """These fields as `fit` wants them, in the original's precision where that is known."""
        return constant_rate(
            run,
            epochs=self.epochs,
            lr=self.lr,
            batch_size=self.batch_size,
            momentum=self.momentum,
            weight_decay=self.weight_decay,
        )


def constant_rate(
    run: Run,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    optimizer: Literal["sgd", "adam", "adamw"] = "sgd",
) -> Recipe:
    """A recipe without a schedule, in the original's precision where that is known."""
    original = run.recipe or Recipe(augmentation="none")
    return Recipe(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        optimizer=optimizer,
        schedule="constant",
        precision=original.precision,
        augmentation=original.augmentation,
    )


def read_in_training(reads: Part, recipe: Recipe | None) -> Part:
    """Of these, what ordinary training reads: validation samples for schedule "plateau" alone."""
    plateau = recipe is not None and recipe.schedule == "plateau"
    return reads if plateau else reads & ~Part.VALIDATION


@contextmanager
def check_weights(model: nn.Module, run: Run, advice: str) -> Iterator[None]:
    """For a method that sets weights at once: the same check for divergence as `fit` makes.

    Raises DivergenceError with the advice if the weights are not finite afterwards, or their norm
    exceeds 100 times what it was.
    """
    from expunge.training.loop import EXPLOSION, SMALLEST_START, parameter_norm

    start = max(parameter_norm(model.parameters()), SMALLEST_START)
    yield
    size = parameter_norm(model.parameters())
    if not size <= EXPLOSION * start:
        raise DivergenceError(
            f"{run.label} diverged: the weights' norm is {size:.3g}, more than {EXPLOSION:g} times "
            f"the {start:.3g} it started from; {advice}"
        )
