"""The table of unlearning methods. A method is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Mapping

from expunge.errors import ConfigError, nearest
from expunge.methods.base import Method
from expunge.methods.finetune import Finetune
from expunge.methods.fisher import Fisher
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.neggrad_plus import NegGradPlus
from expunge.methods.retrain import Retrain
from expunge.methods.unsir import Unsir
from expunge.names.tables import by_name, pick

CLASSES: tuple[type[Method], ...] = (
    Retrain,
    Finetune,
    GradientAscent,
    NegGradPlus,
    L1Sparse,
    Influence,
    Fisher,
    Unsir,
)
METHODS: Mapping[str, type[Method]] = by_name("method", ((m.name, m) for m in CLASSES))


def make_method(name: str, settings: Mapping[str, object] | None = None) -> Method:
    """A method by name, or by NAME:PRESET, with some settings that go before the preset's.

    Raises ConfigError, which names what is wrong and what there is.
    """
    name, colon, preset = name.partition(":")
    method = pick("method", METHODS, name)
    start: Mapping[str, object] = {}
    if colon:
        if preset not in method.presets:
            known = ", ".join(method.presets) or "none"
            raise ConfigError(
                f"{name} has no preset {preset!r}{nearest(preset, method.presets)}; "
                f"there are: {known}"
            )
        start = method.presets[preset]
    return method(**{**start, **(settings or {})})


def check_scope(method: Method, forget: str) -> None:
    """Raise ConfigError for a request, as typed, that a method of whole classes can never meet."""
    if method.scope == "classes" and forget.startswith("random:"):
        raise whole_classes_only(method, f"{forget} draws from all of them")


def whole_classes_only(method: Method, why: str) -> ConfigError:
    """The error for a request that is not of whole classes; names the methods that could meet it."""
    able = ", ".join(name for name, other in METHODS.items() if other.scope == "any")
    return ConfigError(
        f"{method.name} forgets whole classes only, and {why}; ask for class:LABEL, or choose a "
        f"method that can: {able}"
    )


__all__ = ["METHODS", "Method", "check_scope", "make_method", "whole_classes_only"]
