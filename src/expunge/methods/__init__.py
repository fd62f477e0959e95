"""The table of unlearning methods. A method is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from expunge.errors import ConfigError, nearest
from expunge.methods.base import Method
from expunge.methods.finetune import Finetune
from expunge.methods.fisher import Fisher
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.neggrad_plus import NegGradPlus
from expunge.methods.retrain import Retrain


def table(methods: Iterable[type[Method]]) -> Mapping[str, type[Method]]:
    """Name -> class. Raises ValueError for a name that occurs twice."""
    named: dict[str, type[Method]] = {}
    for method in methods:
        if method.name in named:
            raise ValueError(f"two methods are called {method.name!r}")
        named[method.name] = method
    return named


METHODS = table([Retrain, Finetune, GradientAscent, NegGradPlus, L1Sparse, Influence, Fisher])


def make_method(name: str, settings: Mapping[str, object] | None = None) -> Method:
    """A method by name with some settings; ConfigError names what is wrong and what there is."""
    if name not in METHODS:
        raise ConfigError(
            f"no method {name!r}{nearest(name, METHODS)}; there are: {', '.join(METHODS)}"
        )
    return METHODS[name](**dict(settings or {}))


__all__ = ["METHODS", "Method", "make_method"]
