"""What a method needs of a model beside its weights: a recipe to train by, samples to be guided by."""

from __future__ import annotations

from collections.abc import Callable

from expunge.data.parts import Part
from expunge.errors import ConfigError
from expunge.methods.base import Method
from expunge.training.recipe import Recipe


def check_supplied(
    method: Method,
    recipe: Recipe | None,
    validation: int,
    where: str,
    *,
    whole_classes: Callable[[], bool],
) -> None:
    """Raise ConfigError for a model that lacks what a method needs; known before anything is loaded.

    validation: samples that the model never learned from. where: what to call the model. whole_classes:
    says whether the request takes all samples of some classes, and none of others; asked only where that
    matters, for it looks at every label.
    """
    if method.needs_recipe and recipe is None:
        raise ConfigError(
            f"{method.name} trains as the original was trained, and {where} comes without a recipe: "
            "import it with --recipe FILE (in Python, recipe=Recipe(...))"
        )
    keep = "import the model with --validation ids:FILE, or train it with --validation 0.1"
    if validation:
        return
    if method.needs_recipe and recipe is not None and recipe.schedule == "plateau":
        raise ConfigError(
            f"{method.name} trains as the original was trained, whose schedule 'plateau' watches "
            f"validation samples, and {where} has none: {keep}"
        )
    if Part.VALIDATION in method.reads and Part.VALIDATION in method.reads_now(
        recipe, whole=whole_classes()
    ):
        without = f", or set {method.without_validation}" if method.without_validation else ""
        raise ConfigError(
            f"{method.name} is guided by validation samples, and {where} has none: {keep}{without}"
        )
