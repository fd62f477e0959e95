"""What every unlearning method promises, whoever wrote it: one function per promise."""

from __future__ import annotations

import copy
import functools
import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, get_args

import torch
from torch import nn

from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import AccessError, ConfigError, DivergenceError, ModelError
from expunge.methods.base import Method, Scope
from expunge.testing.ground import (
    CPU,
    ONE_PIXEL,
    RECIPE,
    Watched,
    alone,
    differing,
    digits,
    not_finite,
    random_mask,
    untrained,
)
from expunge.testing.method_case import MethodCase
from expunge.testing.promises import by_promise, introduces_itself, require, run_suite
from expunge.trained.trained import Trained
from expunge.training.session import open_session

EVERYTHING = Part.RETAIN | Part.FORGET | Part.FORGET_LABELS | Part.VALIDATION
HUGE = 1e8
"""A learning rate at which all that trains by it diverges."""


MethodCheck = Callable[[MethodCase], None]


def on_models_it_takes(check: MethodCheck) -> MethodCheck:
    """The check; of a model with running statistics that the method does not take, its refusal."""

    @functools.wraps(check)
    def checked(case: MethodCase) -> None:
        if not case.refused:
            return check(case)
        try:
            case.forget(case.model())
        except ModelError as error:
            one_line = "\n" not in str(error)
            require(one_line and case.kind.name in str(error), f"its refusal is unclear: {error}")
        else:
            require(False, "it takes no running statistics, and takes a model that has some")

    return checked


def explains_itself(case: MethodCase) -> None:
    """Name, docstring, source, reads, and every setting described, with a default."""
    kind = case.kind
    introduces_itself(kind, "reads")
    require(isinstance(kind.reads, Part) and bool(kind.reads), "`reads` is no part of the data")
    scopes = get_args(Scope)
    require(kind.scope in scopes, f"`scope` {kind.scope!r} is none of {', '.join(scopes)}")
    require(
        bool(kind.guarantee.strip()), "`guarantee` is empty; where nothing is proved, say 'none'"
    )
    for key, each in kind.model_fields.items():
        require(bool((each.description or "").strip()), f"setting {key} needs a description")
        require(not each.is_required(), f"setting {key} needs a default")
    for values in ({}, kind.diverges, *kind.presets.values()):
        kind(**values)  # whatever does not fit raises and says so


def settings_survive_json(case: MethodCase) -> None:
    """Settings written to a record and read from it make the same method."""
    for chosen in (case.kind(), case.method()):
        text = chosen.model_dump_json()
        require(case.kind.model_validate_json(text) == chosen, f"{text} reads as something else")
        require(case.kind(**json.loads(text)) == chosen, f"{text} makes something else")


@on_models_it_takes
def gives_finite_weights_of_the_same_make(case: MethodCase) -> None:
    """Same class, names, shapes, types and flags; all finite; and something was unlearned."""
    model = case.model()
    result = case.forget(model).model
    require(type(result) is type(model), f"it returns a {type(result).__name__}")
    before, after = model.state_dict(), result.state_dict()
    require(list(after) == list(before), "names or order of weights and buffers changed")
    for key, value in after.items():
        require(value.shape == before[key].shape, f"{key} has another shape")
        require(value.dtype == before[key].dtype, f"{key} has another type")
    require(not not_finite(result), f"not finite: {', '.join(not_finite(result))}")
    flags = [[p.requires_grad for p in each.parameters()] for each in (model, result)]
    require(flags[0] == flags[1], "requires_grad of some parameters changed")
    require(bool(differing(model, result)), "nothing changed, so nothing was unlearned")


@on_models_it_takes
def leaves_the_callers_model_alone(case: MethodCase) -> None:
    """Values, modes, gradients and flags of the model it is given; the result shares no memory."""
    model = case.model().train()
    modules, parameters = list(model.modules()), list(model.parameters())
    modules[-1].eval()
    gradient = torch.ones_like(parameters[-1])
    parameters[-1].grad = gradient
    before = copy.deepcopy(model)
    facts = [_facts(model)]
    result = case.forget(model).model
    facts.append(_facts(model))
    require(not differing(before, model), f"it changes {', '.join(differing(before, model))}")
    require(facts[0] == facts[1], "it changes modes, flags or memory of the model it was given")
    kept = parameters[-1].grad is gradient and bool((gradient == 1).all())
    require(kept, "it changes a gradient of the model it was given")
    shared = {t.data_ptr() for t in model.state_dict().values()}
    theirs = {t.data_ptr() for t in result.state_dict().values()}
    require(not shared & theirs, "the result shares memory with the model it was given")


def _facts(model: nn.Module) -> list[object]:
    parameters = list(model.parameters())
    return [
        [module.training for module in model.modules()],
        [(id(p), p.requires_grad, p.data_ptr(), p.stride()) for p in parameters],
    ]


@on_models_it_takes
def keeps_frozen_parameters(case: MethodCase) -> None:
    """What comes frozen stays as it is, unless the method starts from fresh weights."""
    model = case.model()
    name, first = next(iter(model.named_parameters()))
    first.requires_grad_(False)
    drawn: list[nn.Module] = []

    def fresh() -> nn.Module:
        drawn.append(untrained(case.architecture))
        return drawn[-1]

    given = case.adopted(model, fresh=fresh)
    drawn.clear()  # `adopt` looks at a fresh model too
    result = dict(case.forget(model, given=given).model.named_parameters())
    require(not first.requires_grad, "it thaws a frozen parameter of the model it was given")
    if not drawn:
        require(not result[name].requires_grad, f"{name} came frozen, and comes back thawed")
        require(torch.equal(result[name], first), f"{name} came frozen, and was changed")


def reads_what_it_declares(case: MethodCase) -> None:
    """What it reads is in `reads`, and without that declaration the read fails."""
    kind = case.kind
    counted = _all_reads(case.forget(case.model()))
    read = [part for part in Part if counted[part.names()[0]]]
    require(bool(read), "it reads nothing at all")
    now = case.method().reads_now(RECIPE, whole=kind.scope == "class")
    for part in read:
        require(part in kind.reads, f"it reads {part.names()[0]}, which it does not declare")
        require(part in now, f"it reads {part.names()[0]}, and `reads_now` says that it does not")
        if part is Part.FORGET_LABELS and Part.FORGET in kind.reads:
            continue  # who reads the samples may read their labels
        _is_refused(case, kind.reads & ~part)
    _is_refused(case, Part.NONE)
    _directly(case, EVERYTHING)  # it was the declaration, nothing else


def _all_reads(made: Trained) -> Counter[str]:
    """Samples read by part, those that were read only to report among them."""
    cost = made.record.cost
    return Counter(cost.reads) + Counter(cost.reported_reads)


def _is_refused(case: MethodCase, declared: Part) -> None:
    try:
        _directly(case, declared)
    except AccessError:
        return
    missing = ", ".join((case.kind.reads & ~declared).names())
    require(False, f"it goes on without {missing}: it reads past its view, or catches AccessError")


def _directly(case: MethodCase, declared: Part) -> None:
    """The method itself on a view of our making, without `unlearn` around it."""
    model = case.model()
    session = open_session(
        ("directly", 0),
        case.kind.name,
        digits(case.count),
        case.split(),
        declared,
        recipe=RECIPE,
        fresh=lambda: untrained(case.architecture),
        mask=None,
        place=CPU,
        kept=case.adopted(model).kept if case.kind.takes_part else None,
    )
    case.method().unlearn(model, session.view, session.run)


def _streamed(case: MethodCase, *, gone: bool) -> tuple[Watched, Any, Split]:
    """Data that are read one by one, some of them excluded; with `gone` those are not there."""
    watched = Watched()
    data = watched.data()
    base = Split.random(data, 0.1, base=Split.whole(data)).settled()
    split = case.split(data, base, 0.2)
    if gone:
        watched = Watched(gone=split.excluded)
        data = watched.data()
    watched.read.clear()
    return watched, data, split


def never_reads_what_is_struck(case: MethodCase) -> None:
    """Neither excluded samples, there or gone, nor any part that is not declared."""
    for gone in (False, True):
        watched, data, split = _streamed(case, gone=gone)
        watched.forbidden = set(split.excluded)
        model = case.model()
        given = case.adopted(model, split, data=data)
        for part, ids in (
            (Part.FORGET, split.forget),
            (Part.RETAIN, split.retain),
            (Part.VALIDATION, split.validation),
        ):
            if part not in case.kind.reads:
                watched.forbidden |= set(ids)
        result = case.forget(model, given, data=data, split=split).model
        require(not not_finite(result), f"not finite: {', '.join(not_finite(result))}")


def counts_every_sample(case: MethodCase) -> None:
    """The record's counts are those of the dataset itself."""
    watched, data, split = _streamed(case, gone=False)
    model = case.model()
    given = case.adopted(model, split, data=data)
    watched.read.clear()
    counted = _all_reads(case.forget(model, given, data=data, split=split))
    for part, ids in (("retain", split.retain), ("forget", split.forget)):
        wanted = set(ids)
        read = sum(key in wanted for key in watched.read)
        require(
            counted[part] == read,
            f"it reads {read} samples of {part}, and {counted[part]} are counted: it holds back data",
        )


@on_models_it_takes
def repeats_itself(case: MethodCase) -> None:
    """The same seed gives the same bits, whatever ran before; another seed gives others.

    Not where a certificate rests on noise: nobody may draw that again.
    """
    model = case.model()
    first = case.forget(model, seed=3).model
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(99)  # whatever ran before must not matter
        second = case.forget(model, seed=3).model
    if case.method().proves().startswith("certified"):
        drawn = bool(differing(first, second))
        return require(drawn, "its certificate rests on noise that the same seed draws again")
    other = case.forget(model, seed=4).model
    require(not differing(first, second), "the same seed gives other weights the second time")
    seeded = bool(differing(first, other))
    require(
        seeded or not case.kind.seeded,
        "another seed gives the same weights; draw by run.seed_for, or say `seeded = False`",
    )
    require(
        case.kind.seeded or not seeded, "`seeded` is False, and another seed gives other weights"
    )


@on_models_it_takes
def keeps_masked_weights_at_zero(case: MethodCase) -> None:
    """Nine weights in ten are cut, and stay 0; of the parameters that are kept, some move.

    No method that takes part in training trains a sparse model.
    """
    if case.kind.takes_part:
        return
    model = case.model()
    mask = random_mask(model)
    result = case.forget(model, mask=mask).model
    after = dict(result.named_parameters())
    for key, keep in mask.items():
        require(not after[key][~keep].any(), f"{key}: weights that are cut are not 0")
        require(bool(after[key][keep].any()), f"{key}: all weights are 0, those that are kept too")
    whole = {
        key: mask.get(key, torch.ones_like(each, dtype=torch.bool)) for key, each in after.items()
    }
    before = dict(model.named_parameters())
    moved = any(not torch.equal(before[key][keep], after[key][keep]) for key, keep in whole.items())
    require(moved, "under a mask nothing is unlearned: no parameter that is kept moves")


@on_models_it_takes
def forgets_a_single_sample(case: MethodCase) -> None:
    """A request of one sample: finite weights. For whole classes: the only one of its class."""
    data = digits(case.count)
    whole = Split.whole(data)
    base = alone(data, whole) if case.kind.scope == "class" else whole
    split = Split.ids(data, [whole.retain[7]], base=base)
    recipe = RECIPE if case.kind.takes_part else RECIPE.but(epochs=1)  # the one that it has
    result = case.forget(case.model(), split=split, recipe=recipe).model
    require(not not_finite(result), f"not finite: {', '.join(not_finite(result))}")


def forgets_a_single_sample_without_variance(case: MethodCase) -> None:
    """The same with BatchNorm on maps of one pixel, where one sample has no variance."""
    forgets_a_single_sample(MethodCase(case.kind, case.settings, ONE_PIXEL, case.count))


@on_models_it_takes
def forgets_a_whole_class(case: MethodCase) -> None:
    """All samples of one class: finite weights, whatever the method is made for, or a bound refuses."""
    split = Split.classes(digits(case.count), [3])
    try:
        result = case.forget(case.model(), split=split).model
    except ConfigError:  # a budget may be spent by it
        require(case.kind.guarantee.startswith("certified"), "it refuses a whole class")
        return
    require(not not_finite(result), f"not finite: {', '.join(not_finite(result))}")


@on_models_it_takes
def works_in_half_precision(case: MethodCase) -> None:
    """A recipe in bfloat16: weights stay as wide as they were, and finite."""
    model = case.model()
    result = case.forget(model, recipe=RECIPE.but(precision="bfloat16")).model
    require(not not_finite(result), f"not finite: {', '.join(not_finite(result))}")
    types = [[each.dtype for each in one.parameters()] for one in (model, result)]
    require(types[0] == types[1], "weights come back of another type")


@on_models_it_takes
def says_when_it_diverges(case: MethodCase) -> None:
    """Settings under which weights explode raise DivergenceError, which names what to change.

    A method without such settings gives finite weights, or raises it, whatever the original's rate.
    """
    model = case.model()
    before = copy.deepcopy(model)
    method = case.method(**case.kind.diverges)
    recipe = RECIPE if case.kind.diverges else RECIPE.but(lr=HUGE)
    try:
        given = case.adopted(model) if case.kind.takes_part else None
        result = case.forget(model, given, method=method, recipe=recipe).model
    except DivergenceError as error:
        text = str(error)
        named = [key for key in (*case.kind.model_fields, "lr") if re.search(rf"\b{key}\b", text)]
        require(text.startswith(case.kind.name), f"the error does not say who diverged: {text}")
        require(bool(named), f"the error names no setting to change: {text}")
    else:
        require(not case.kind.diverges, f"no DivergenceError with {dict(case.kind.diverges)}")
        require(not not_finite(result), "weights that are not finite, and no DivergenceError")
    require(not differing(before, model), "it changes the model it was given, and then diverges")


def refuses_what_it_cannot_forget(case: MethodCase) -> None:
    """A method for whole classes refuses every other request, in one line."""
    if case.kind.scope != "class":
        return
    data = digits(case.count)
    whole = Split.whole(data)
    labels = data.train.labels[data.train.rows_of(whole.retain)]
    zeros = [key for key, label in zip(whole.retain, labels, strict=True) if label == 0]
    more = Split.classes(data, [3], base=whole)
    mixed = Split.ids(data, [*more.forget, zeros[0]], base=whole)
    for split in (Split.random(data, 0.1), Split.ids(data, zeros[1:]), mixed):
        try:
            case.forget(case.model(), split=split)
        except ConfigError as error:
            one_line = "\n" not in str(error)
            require(one_line and case.kind.name in str(error), f"its refusal is unclear: {error}")
        else:
            require(False, "it forgets whole classes only, and takes another request")


METHOD_CHECKS: Mapping[str, MethodCheck] = by_promise(
    explains_itself,
    settings_survive_json,
    reads_what_it_declares,
    never_reads_what_is_struck,
    counts_every_sample,
    forgets_a_single_sample_without_variance,
    forgets_a_whole_class,
    works_in_half_precision,
    refuses_what_it_cannot_forget,
)
"""What is checked once."""
METHOD_CHECKS_PER_MODEL: Mapping[str, MethodCheck] = by_promise(
    gives_finite_weights_of_the_same_make,
    leaves_the_callers_model_alone,
    keeps_frozen_parameters,
    repeats_itself,
    keeps_masked_weights_at_zero,
    forgets_a_single_sample,
    says_when_it_diverges,
)
"""What is checked on each architecture."""


def check_method(
    method: type[Method],
    settings: Mapping[str, object] | None = None,
    *,
    architectures: tuple[str, ...] = ("mlp", "cnn"),
) -> None:
    """Check that a method keeps every promise, on 300 digits; takes seconds.

    settings: quick ones, with which it really moves, such as {"epochs": 1}; defaults otherwise.
    architectures: models to check it on, as `expunge list models` names them.

    Raises PromiseError, an AssertionError that lists each broken promise with what was found.
    Whatever the method itself raises by mistake keeps its traceback.
    """
    cases = {each: MethodCase(method, settings or {}, each) for each in architectures}
    run_suite(method.__name__, METHOD_CHECKS, METHOD_CHECKS_PER_MODEL, cases)
