"""`train`, `adopt`, `unlearn`, `audit`: the calls that people, the command line and studies make."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from expunge.audits import Audit, chosen_audits, make_audit, there
from expunge.audits.distance_floor import distance_floor
from expunge.audits.panel import Panel
from expunge.audits.scores import Scores
from expunge.audits.strength import Strength, choose_audits, score_chosen
from expunge.audits.weights import DISTANCE_FLOOR
from expunge.data.duplicates import duplicates_left
from expunge.data.load import Data, as_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.undivided import undivided
from expunge.errors import ConfigError
from expunge.methods import Method, make_method, method_name
from expunge.methods.needs import check_supplied
from expunge.methods.retrain import Retrain
from expunge.methods.scope import check_names_something, check_split, check_task
from expunge.methods.taking_part import as_trained, check_trains
from expunge.models.copying import copied
from expunge.models.hub import HubModel, check_labels
from expunge.models.mask import Mask, apply_mask, check_fits, sparsity_of
from expunge.models.table import check_model
from expunge.place import HERE, Place
from expunge.pruning.base import Pruner
from expunge.pruning.original import train_sparse
from expunge.scores.score import as_plain
from expunge.trained.kept import statistics_of
from expunge.trained.learned import Learned, check_learned
from expunge.trained.record import SeedNames, told_of, warnings_for
from expunge.trained.recorded import record_of
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.fit import train_from
from expunge.training.hub import as_read_by, with_new_head
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import (
    Fresh,
    Session,
    architecture_of,
    constructor,
    finished,
    open_session,
    resolve_recipe,
)
from expunge.training.trial import check_like, try_out

CPU = torch.device("cpu")


def train(
    data: Data | Any,
    model: str | Fresh = "resnet18",
    *,
    recipe: Recipe | None = None,
    split: Split | None = None,
    pruner: str | Pruner | None = None,
    method: str | Method | None = None,
    seed: int = 0,
    place: Place = HERE,
    allow_code: bool = True,
) -> Trained:
    """Train an original model.

    Args:
        data: as `load_data` returns it, or a `Dataset` or `DatasetDict` of the Hugging Face library.
        model: an architecture's name, `hf:FOLDER`, `module:function`, or a function that returns an
            untrained model.
        recipe: how to train.
        split: says what to learn from (its retain and forget sets together) and what to validate
            on; by default all is learned from but 10 % for validation.
        pruner: makes it sparse: trains where the pruner needs it, cuts, rewinds, trains again.
        method: an unlearning method that takes part in training, such as `sisa`, which then forgets
            from this model cheaply; None: ordinary training.
        seed: of the weights, the order and the augmentation, under the name ("original", seed).
        place: device and progress.
        allow_code: whether a model, a pruner or a method that is `module:object` may be imported;
            False for names from a file.

    Raises:
        DivergenceError: if training diverges.
        ConfigError: for settings that do not fit.
    """
    method = None if method is None else _made(method, allow_code=allow_code)
    if method is not None:
        check_trains(method, recipe or Recipe(), pruned=pruner is not None)
    data = with_new_head(model, as_read_by(model, as_data(data), place.progress))
    split = (split or Split.whole(data)).withholding(data.struck.ids)
    recipe = resolve_recipe(recipe or Recipe(), data, split)
    if pruner is not None:
        return train_sparse(
            data,
            model,
            pruner,
            recipe=recipe,
            split=split,
            seed=seed,
            place=place,
            allow_code=allow_code,
        )
    learned = split.whole_again()
    fresh = constructor(model, data, learned, allow_code=allow_code)
    session = open_session(
        ("original", seed),
        "training",
        data,
        learned,
        Part.RETAIN | Part.VALIDATION,
        recipe=recipe,
        fresh=fresh,
        mask=None,
        place=place,
    )
    network = session.untrained()
    if method is not None:
        check_task(method, network, session.view, session.run)
    with session.measured(network):
        if method is not None:
            network = method.train(session.view, session.run)
        else:
            fitted = train_from(network, session.view, session.run, recipe)
            session.run.log.update(fitted.told())
    log = as_plain(session.run.log)
    record = record_of(
        "train",
        learned,
        settings=recipe.model_dump(mode="json"),
        names=session.run.names,
        cost=session.cost,
        log=log,
    )
    return Trained(
        finished(network, CPU, None),
        data,
        learned,
        (record,),
        recipe,
        fresh,
        architecture=architecture_of(model),
        artifacts=_kept(session.run.artifacts, "training"),
        seed=seed,
        trained_by=method,
        kept=session.run.kept,
    )


def adopt(
    module: nn.Module,
    data: Data | Any,
    *,
    recipe: Recipe | None = None,
    fresh: str | Fresh | None = None,
    split: Split | None = None,
    mask: Mask | None = None,
    allow_code: bool = True,
) -> Trained:
    """A model that was trained elsewhere, as the other calls take it. The module is copied.

    Args:
        module: any `nn.Module`.
        data: what it learned from, normalised or tokenised as it was then (see
            `Data.with_normalisation` and `Data.tokenised`).
        recipe: how it was trained, which `retrain` needs; nobody guesses it.
        fresh: makes an untrained model, which `retrain` needs too: a function or a name as `train`
            takes it, such as `hf:FOLDER` of a pretrained base; by default what transformers makes of
            the config of a classifier of its own.
        split: what it learned from (retain), what it was validated on; by default it learned from
            everything, from a test set that was drawn of the data too: then it has none.
        mask: of a sparse model: parameter name -> bool tensor, True = kept.
        allow_code: whether `fresh` as `module:function` may be imported; False for a name from a file.

    Raises:
        ConfigError: for a mask of another model.
        ModelError: for a module that fails on two samples of the data, or cannot be copied. One whose
            state no folder can hold may forget, too; `save` refuses it.
        DataError: for outputs that are no logits, or fewer than there are classes.
    """
    data = as_read_by(fresh, as_data(data))
    check_labels(module, data.classes)
    fresh = HubModel.of_module(module, data.classes) if fresh is None else fresh
    if split is None:
        split = Split.whole(data := undivided(data, allow_code=allow_code), validation=0.0)
    check_fits(module, mask or {}, "mask")
    if isinstance(fresh, str):
        check_model(fresh, allow_code=allow_code)
    build = constructor(fresh, data, split, allow_code=allow_code) if fresh is not None else None
    if build is not None:
        check_like(module, build)
    adopted = copied(module).eval()
    try_out(adopted, data, split)
    return Trained(
        adopted,
        data,
        split,
        (record_of("import", split),),
        resolve_recipe(recipe, data, split) if recipe is not None else None,
        build,
        architecture=architecture_of(fresh),
        mask=mask,
    )


def _check_trained(model: object, what: str) -> None:
    if not isinstance(model, Trained):
        raise ConfigError(
            f"{what} is a {type(model).__name__}; give what train, adopt, prune, unlearn or load returns"
        )


def unlearn(
    original: Trained,
    forget: Any,
    method: str | Method,
    *,
    seed: int = 0,
    forget_seed: int = 0,
    names: Sequence[str | int] | None = None,
    place: Place = HERE,
    allow_code: bool = True,
) -> Trained:
    """Make a model forget; the original is not changed, and what it forgot before stays forgotten.

    Args:
        original: as `train`, `adopt`, `prune`, `unlearn` or `load` return it.
        forget: a request as `--forget` takes it (`class:3`, `random:0.1`, `ids:FILE`, ...), a
            `Split`, ids, or a boolean for each training sample. None: nothing is named, and a method
            that reads what is retained alone works on that, as against a backdoor.
        method: a name, or a method object.
        seed: under the name ("unlearn", method, seed); for retrain ("retrain", seed), and for
            `retrain:paired` the names of the original's own training.
        forget_seed: of a random request.
        names: other seed names: ("retrain", seed, "floor") is the second retraining of the noise
            floor.
        place: device and progress; whether cached images of the forgotten samples go too.
        allow_code: whether a method that is `module:Class` may be imported; False for a name from a
            file.

    Raises:
        SplitError: if there is nothing to forget.
        ConfigError: for settings or requests that do not fit the method.
        DivergenceError: if the method diverges.
    """
    _check_trained(original, "the model that is to forget")
    method = as_trained(_made(method, allow_code=allow_code), original.trained_by, original.name)
    if method.takes_part:
        original.kept.check(method.name, original.name)
    answer = original.answered(forget, seed=forget_seed)
    check_names_something(method, answer.split, unnamed=answer.unnamed)
    split = answer.split
    request = "" if answer.unnamed else original.next_request(answer.request)
    data, mask = original.data, original.mask
    outside = check_split(method, data, split)
    split = split.withholding(data.struck.ids)
    check_supplied(
        method,
        original.recipe,
        len(split.validation),
        original.name,
        whole_classes=lambda: split.only_whole_classes(data),
    )
    names = tuple(_names(original, method, seed) if names is None else names)
    session = _session(original, method, split, names, place)
    run = session.run
    before = next((p.device for p in original.model.parameters()), run.device)
    private = copied(original.model).to(run.device)
    if mask:
        run.log["mask"] = {
            "sparsity": sparsity_of(mask),
            "saw_forget_set": original.mask_saw_data,
        }
        apply_mask(private, mask)
    check_task(method, private, session.view, run)
    step = getattr(method, "batch_size", None)
    step = step if isinstance(step, int) else None
    with session.measured(private, step=step, trains=method.trains):
        forgotten = _forgotten(method, original, private, session)
    cost = session.cost
    if isinstance(method, Retrain) and method.paired and method.floor:
        cost = _with_floor(cost, original, run, place)
    copies = duplicates_left(data, split)
    told = _warnings(run)
    record = record_of(
        method_name(method),
        split,
        original,
        **_promises(method),
        names=run.names,
        cost=cost,
        request=request,
        asked=answer.text,
        warnings=(*warnings_for(answer, copies), *outside, *told, *original.strike(split, place)),
        log={**as_plain(run.log), **told_of(answer, copies)},
    )
    return original.then(
        record,
        model=finished(forgotten, before, mask),
        split=split,
        struck=original.striking(request, split) if split.forget else original.struck,
        artifacts=_kept(run.artifacts, method.name),
        kept=run.kept,
    )


def _session(
    original: Trained, method: Method, split: Split, names: SeedNames, place: Place
) -> Session:
    """A session of a method on an original, with what is kept of that."""
    session = open_session(
        names,
        method.name,
        original.data,
        split,
        method.reads,
        recipe=original.recipe,
        fresh=original.fresh,
        mask=original.mask,
        place=place,
        kept=original.kept if method.takes_part else None,
    )
    rehearsed = session.run.rehearsal is not None  # it goes as the run will: by what is kept
    if place.strike or rehearsed:
        kept = replace(statistics_of(original, split, method.name), keeps=not rehearsed)
        session.run = replace(session.run, statistics=kept)
    return session


def _forgotten(
    method: Method, original: Trained, private: nn.Module, session: Session
) -> nn.Module:
    """What a method makes of a model; of one that a method trained, its retraining is that once more."""
    if isinstance(method, Retrain) and original.trained_by is not None:
        return original.trained_by.train(session.view, session.run)
    forgotten = method.unlearn(private, session.view, session.run)
    if not isinstance(forgotten, nn.Module):
        raise ConfigError(f"{method.name} must return the model, not {type(forgotten).__name__}")
    return forgotten


def _promises(method: Method) -> dict[str, Any]:
    """What a record says of a method: its settings, what it is made for and what it proves."""
    settings = method.model_dump(mode="json")
    return {"settings": settings, "scope": method.scope, "guarantee": method.proves()}


def _warnings(run: Run) -> Sequence[str]:
    """What a method warned of, taken out of its log."""
    told = run.log.pop("warnings", ())
    return (told,) if isinstance(told, str) else told


def _made(method: object, *, allow_code: bool) -> Method:
    """A method of its name, or of its class with the defaults."""
    if isinstance(method, str):
        return make_method(method, allow_code=allow_code)
    made = method() if isinstance(method, type) and issubclass(method, Method) else method
    if not isinstance(made, Method):
        raise ConfigError(f"a method is a name or an object of one, not {made!r}")
    return made


def _names(original: Trained, method: Method, seed: int) -> SeedNames:
    """Seed names of a run that nobody gave any. Raises ConfigError where a pair cannot be known."""
    if method.takes_part:  # what it does again, it does as it did it
        return original.began or ("original", seed)
    if not isinstance(method, Retrain):
        return ("unlearn", method.name, seed)
    if not method.paired:
        return ("retrain", seed)
    if original.began is None:
        raise ConfigError(
            f"{original.name} was imported or pruned, so nobody knows the weights that it began with; "
            "retrain without paired"
        )
    return original.began


def _with_floor(cost: Cost, original: Trained, run: Run, place: Place) -> Cost:
    """Log the floor of a paired retraining; its cost, with what that took standing apart.

    It is made here, for it reads what is forgotten, and no method that retrains may.
    """
    found = distance_floor(original, run.names, place=place)
    if found is None:
        return cost
    if found.warning:
        run.log.setdefault("warnings", []).append(found.warning)
    else:
        run.log[DISTANCE_FLOOR] = found.distances
    return found.booked(cost)


def _kept(artifacts: Mapping[str, Any], what: str) -> dict[str, torch.Tensor]:
    """What a method left, each tensor by itself on the processor, so that it can be saved."""
    odd = [name for name, one in artifacts.items() if not isinstance(one, torch.Tensor)]
    if odd:
        raise ConfigError(
            f"{what} left the artifact {odd[0]!r}, a {type(artifacts[odd[0]]).__name__}; only tensors "
            "are kept"
        )
    return {name: one.detach().cpu().clone() for name, one in artifacts.items()}


def audit(
    model: Trained,
    *,
    original: Trained | None = None,
    retrained: Trained | Sequence[Trained] | None = None,
    forget: Any = None,
    also: Sequence[str | Audit] = (),
    strength: str | Strength | None = None,
    place: Place = HERE,
    allow_code: bool = True,
) -> Scores:
    """Score a model: what it still knows of the forgotten, the retained and the unseen.

    Args:
        model: judged on its own split.
        original: the model before; scores carry its value in `detail["original"]`.
        retrained: the reference; scores carry its value and the gap. Of several, from other seeds, the
            first is that, and the verdict rests on all of them (`detail["references"]`).
        forget: for an original: what one would ask it to forget, as `unlearn` takes it.
        also: further audits, by name as `expunge list audits` shows them, or as objects. An object
            of a usual kind, such as `Membership(features=...)`, replaces the usual one.
        strength: "quick", "standard" or "thorough": audits that fit, and what they say together
            (`.joint`); what they will cost is told to `place` before. A `Strength` also says what
            difference from retraining does not matter (`margins`), holds the models of a bank and
            further ones (`beside`), and the seed of the draws of attacks.
        place: device and progress.
        allow_code: whether an audit that is `module:Class` may be imported; False for a name from a
            file.

    Returns:
        The scores: a table when printed, `.frame()` for pandas, by name as in `scores["UA"]`.

    Raises:
        SplitError: if nothing is to be forgotten, or a model learned from other samples.
        ConfigError: for an audit that lacks a model to compare with, or an unknown strength.
    """
    deep = strength if isinstance(strength, Strength) else Strength(strength)
    known = [retrained] if isinstance(retrained, Trained) else list(retrained or ())
    for one in (model, original, *known):
        if one is not None:
            _check_trained(one, "what is audited or compared with")
    split = model.split if forget is None else model.asked(forget)
    asked = replace(_learned(model), retain=split.retain, forget=split.forget)
    check_learned(asked, None if original is None else _learned(original, "the original"), None)
    for one in known:
        check_learned(asked, None, _learned(one, "the retrained model"))
    reference, others = (known[0], known[1:]) if known else (None, [])
    wanted = [also] if isinstance(also, str | Audit | type) else list(also or ())
    further = [
        make_audit(one, allow_code=allow_code) if isinstance(one, str) else one for one in wanted
    ]
    run = Run(
        names=("audit", deep.seed),
        task=model.data.task,
        label="audit",
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    needs = there(original, reference, deep.beside)
    chosen = choose_audits(deep.word, needs, whole_classes=split.only_whole_classes(model.data))
    audits = chosen_audits((*chosen.names, *further), beside=needs, allow_code=allow_code)
    panel = Panel(
        model,
        split.withholding(model.data.struck.ids),
        run,
        original=original,
        retrained=reference,
        others=tuple(others),
        seed=deep.seed,
        margins=deep.margins,
        **vars(deep.beside),
    )
    return score_chosen(panel, audits, chosen, {one.name for one in further}, place.tell)


def _learned(one: Trained, name: str = "this model") -> Learned:
    """name: what to call one that lies in no folder."""
    name = name if one.path is None else str(one.path)
    recipe = None if one.recipe is None else one.recipe.model_dump(mode="json")
    steps = tuple(record.step for record in one.history)
    return Learned(name, one.split.retain, one.split.forget, steps, recipe, one.architecture)
