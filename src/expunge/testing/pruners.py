"""What every pruner promises, whoever wrote it: one function per promise."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.models.mask import Mask, keep_largest, prunable, sparsity_of
from expunge.pruning.base import Pruner
from expunge.pruning.original import Pruned, train_sparse
from expunge.testing.ground import (
    CPU,
    RECIPE,
    differing,
    digits,
    global_randomness_stays,
    not_finite,
    original,
    untrained,
)
from expunge.testing.promises import by_promise, introduces_itself, require, run_suite
from expunge.training.session import open_session


@dataclass(frozen=True)
class PrunerCase:
    """A pruner under test: quick settings, and an architecture as `expunge list models` names it."""

    kind: type[Pruner]
    settings: Mapping[str, object] = field(default_factory=dict)
    architecture: str = "mlp"

    def pruner(self, **changes: Any) -> Pruner:
        """The pruner with its quick settings, some of them changed."""
        given: dict[str, Any] = {**self.settings, **changes}
        return self.kind(**given)

    def cut(
        self, model: nn.Module, sparsity: float, *, within: Mask | None = None, seed: int = 0
    ) -> Mask:
        """One cut on a view that hands out no sample at all."""
        data = digits()
        session = open_session(
            ("original", seed),
            "pruning",
            data,
            Split.whole(data, validation=0),
            Part.NONE,
            recipe=RECIPE,
            fresh=None,
            mask=None,
            place=CPU,
        )
        with global_randomness_stays():
            return self.pruner().mask(
                model, session.view, session.run, sparsity=sparsity, within=within
            )

    def prune(self, seed: int = 0) -> Pruned:
        """A sparse original of 0.9, trained as its pruner wants it."""
        data = digits()
        with global_randomness_stays():
            return train_sparse(
                data,
                lambda: untrained(self.architecture),
                self.pruner(sparsity=0.9),
                recipe=RECIPE,
                split=Split.whole(data),
                seed=seed,
                place=CPU,
                allow_code=False,
            )


PrunerCheck = Callable[[PrunerCase], None]


def explains_itself(case: PrunerCase) -> None:
    """Name, docstring, source, whether it cuts trained weights, every setting described."""
    kind = case.kind
    introduces_itself(kind, "trained")
    require(isinstance(kind.trained, bool), "`trained` is neither True nor False")
    for key, each in kind.model_fields.items():
        require(bool((each.description or "").strip()), f"setting {key} needs a description")
        require(not each.is_required(), f"setting {key} needs a default")


def settings_survive_json(case: PrunerCase) -> None:
    """Settings written to a record and read from it make the same pruner."""
    for chosen in (case.kind(), case.pruner(sparsity=0.3)):
        text = chosen.model_dump_json()
        require(case.kind.model_validate_json(text) == chosen, f"{text} reads as something else")
        require(case.kind(**json.loads(text)) == chosen, f"{text} makes something else")


def refuses_what_is_no_share(case: PrunerCase) -> None:
    """A sparsity outside 0 to below 1."""
    for sparsity in (-0.1, 1, 1.5, math.nan):
        try:
            case.pruner(sparsity=sparsity)
        except ConfigError:
            continue
        require(False, f"it takes a sparsity of {sparsity}")


def refuses_to_grow_a_mask(case: PrunerCase) -> None:
    """A mask cannot be cut to less than it is."""
    model = original(case.architecture)
    within = case.cut(model, 0.8)
    try:
        case.cut(model, 0.5, within=within)
    except ConfigError:
        return
    require(False, "it cuts a mask of sparsity 0.8 to 0.5")


def cuts_the_number_that_was_asked_for(case: PrunerCase) -> None:
    """Of all prunable weights together, to the last weight; 0 keeps all."""
    model = original(case.architecture)
    weights = prunable(model)
    total = sum(weight.numel() for weight in weights.values())
    for sparsity in (0.0, 0.3, 0.9, 0.99):
        mask = case.cut(model, sparsity)
        require(list(mask) == list(weights), "the mask names other weights than the prunable ones")
        for key, keep in mask.items():
            fits = keep.dtype == torch.bool and keep.shape == weights[key].shape
            require(fits, f"the mask of {key} is no bool tensor of its shape")
        wanted = round((1 - sparsity) * total)
        require(
            kept(mask) == wanted,
            f"sparsity {sparsity} of {total} weights keeps {kept(mask)}, not {wanted}",
        )


def changes_nothing_of_the_model(case: PrunerCase) -> None:
    """Values, modes, flags and gradients are as they were after a cut."""
    model = original(case.architecture).train()
    list(model.modules())[-1].eval()
    next(iter(model.parameters())).requires_grad_(False)
    before = copy.deepcopy(model)
    case.cut(model, 0.8)
    require(not differing(model, before), f"it changes {', '.join(differing(model, before))}")
    modes = [[m.training for m in each.modules()] for each in (model, before)]
    flags = [[p.requires_grad for p in each.parameters()] for each in (model, before)]
    require(modes[0] == modes[1], "it changes modes of the model")
    require(flags[0] == flags[1], "it changes requires_grad of the model's parameters")
    require(all(p.grad is None for p in model.parameters()), "it leaves gradients behind")


def cuts_within_a_mask(case: PrunerCase) -> None:
    """What is cut stays cut, whoever cut it, and the earlier mask itself is left alone."""
    model = original(case.architecture)
    generator = torch.Generator().manual_seed(5)
    chance = {key: torch.rand(p.shape, generator=generator) for key, p in prunable(model).items()}
    within = keep_largest(chance, 0.5)
    before = {key: keep.clone() for key, keep in within.items()}
    total = sum(keep.numel() for keep in within.values())
    for sparsity in (0.5, 0.6, 0.95):
        mask = case.cut(model, sparsity, within=within)
        back = any(bool((keep & ~before[key]).any()) for key, keep in mask.items())
        require(not back, "weights that an earlier mask cut come back")
        wanted = round((1 - sparsity) * total)
        require(kept(mask) == wanted, f"sparsity {sparsity} keeps {kept(mask)}, not {wanted}")
    require(same(within, before), "it changes the earlier mask")


def repeats_itself(case: PrunerCase) -> None:
    """The same seed gives the same mask, whatever ran before."""
    model = original(case.architecture)
    first = case.cut(model, 0.8, seed=3)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)
        second = case.cut(model, 0.8, seed=3)
    require(same(first, second), "the same seed gives another mask the second time")


def makes_a_sparse_original(case: PrunerCase) -> None:
    """Cut weights are 0, others are not, all are finite; another seed gives another original."""
    pruned, again, other = case.prune(3), case.prune(3), case.prune(4)
    mask = pruned.mask or {}
    total = sum(keep.numel() for keep in mask.values())
    reached = bool(mask) and abs(sparsity_of(mask) - 0.9) <= 0.5 / total
    require(reached, "the sparse original is not of the sparsity that was asked for")
    parameters = dict(pruned.model.named_parameters())
    for key, keep in mask.items():
        require(not parameters[key][~keep].any(), f"{key}: weights that are cut are not 0")
        require(bool(parameters[key][keep].all()), f"{key}: weights that are kept are 0")
    require(not not_finite(pruned.model), f"not finite: {', '.join(not_finite(pruned.model))}")
    names = list(original(case.architecture).state_dict())
    require(list(pruned.model.state_dict()) == names, "it changes names of weights or buffers")
    require(not pruned.model.training, "the sparse original is in training mode")
    require(
        not differing(pruned.model, again.model) and same(mask, again.mask or {}),
        "the same seed gives another sparse original",
    )
    differs = bool(differing(pruned.model, other.model)) and not same(mask, other.mask or {})
    require(differs, "another seed gives the same sparse original")


def kept(mask: Mask) -> int:
    """How many weights a mask keeps."""
    return sum(int(keep.sum()) for keep in mask.values())


def same(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> bool:
    """The same values under the same names, in the same order."""
    return list(one) == list(other) and all(torch.equal(one[key], other[key]) for key in one)


PRUNER_CHECKS: Mapping[str, PrunerCheck] = by_promise(
    explains_itself,
    settings_survive_json,
    refuses_what_is_no_share,
    refuses_to_grow_a_mask,
)
"""What is checked once."""
PRUNER_CHECKS_PER_MODEL: Mapping[str, PrunerCheck] = by_promise(
    cuts_the_number_that_was_asked_for,
    changes_nothing_of_the_model,
    cuts_within_a_mask,
    repeats_itself,
    makes_a_sparse_original,
)
"""What is checked on each architecture."""


def check_pruner(
    pruner: type[Pruner],
    settings: Mapping[str, object] | None = None,
    *,
    architectures: tuple[str, ...] = ("mlp", "cnn"),
) -> None:
    """Check that a pruner keeps every promise, on 300 digits; takes seconds.

    Arguments and errors are those of `check_method`.
    """
    cases = {each: PrunerCase(pruner, settings or {}, each) for each in architectures}
    run_suite(pruner.__name__, PRUNER_CHECKS, PRUNER_CHECKS_PER_MODEL, cases)
