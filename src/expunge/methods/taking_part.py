"""Methods that take part in training, and the models that they trained: what may forget from which."""

from __future__ import annotations

from expunge.errors import ConfigError
from expunge.methods import METHODS, Method
from expunge.methods.retrain import Retrain
from expunge.training.recipe import Recipe


def check_trains(method: Method, recipe: Recipe, *, pruned: bool = False) -> None:
    """Raise ConfigError for a method that takes no part in training, or cannot go by a recipe; and for
    one where a pruner is to make the model sparse.
    """
    if method.takes_part and pruned:
        raise ConfigError(
            f"{method.name} keeps what belongs to the model as it trains it, and a pruner would cut "
            "that model: leave one of them out"
        )
    if method.takes_part:
        method.check_recipe(recipe)
        return
    able = [name for name, one in METHODS.items() if one.takes_part]
    told = f"; methods that take part: {', '.join(able)}" if able else ""
    raise ConfigError(
        f"{method.name} takes no part in training: it makes any trained model forget; leave --method "
        f"out here, and give {method.name} to unlearn{told}"
    )


def check_prunes(trained_by: Method | None, where: str) -> None:
    """Raise ConfigError for a model to prune that a method took part in training."""
    if trained_by is not None:
        raise ConfigError(
            f"{where} was trained by {trained_by.name}, and what that kept is not of a pruned model; "
            "prune one that was trained without a method"
        )


def as_trained(method: Method, trained_by: Method | None, where: str) -> Method:
    """The method that is to forget, where it took part in training with the settings of that training.

    trained_by: what trained the model; None: ordinary training. where: what to call the model.
    Raises ConfigError for a method that cannot forget from such a model.
    """
    if method.takes_part and type(method) is not type(trained_by):
        how = "without a method" if trained_by is None else f"by {trained_by.name}"
        raise ConfigError(
            f"{method.name} forgets from what it kept while it trained, and {where} was trained {how}; "
            f"train it by {method.name} (expunge train --method {method.name}), or choose another method"
        )
    if trained_by is None or isinstance(method, Retrain):
        return method
    if not method.takes_part:
        # what is kept beside the weights would no longer be of these weights, and what it proves is lost
        raise ConfigError(
            f"{where} was trained by {trained_by.name}, and {method.name} would change weights to which "
            f"what {trained_by.name} kept no longer belongs; forget by {trained_by.name}, or retrain"
        )
    for key in method.model_fields_set - method.per_request:
        asked, trained = getattr(method, key), getattr(trained_by, key)
        if asked != trained:
            raise ConfigError(
                f"{where} was trained by {method.name} with {key} {trained}, not {asked}; leave it out, "
                "or train anew"
            )
    chosen = method.model_fields_set & method.per_request
    return trained_by.model_copy(update={key: getattr(method, key) for key in chosen})
