"""Banks of model folders: what can be wrong is looked for before anything is loaded."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.pseudonyms import is_kept
from expunge.disk.whole import unwritable
from expunge.errors import ConfigError, DivergenceError, SplitError
from expunge.loading import loading
from expunge.names.digests import same_digest
from expunge.place import HERE, Place
from expunge.shadows.able import check_able
from expunge.shadows.places import ENDING, BankAsked, bank_beside, is_bank, read_asked, write_asked
from expunge.shadows.plan import STACK, BankPlan, check_number, models_within
from expunge.trained.card import CARD as MODEL_CARD
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers
from expunge.training.cluster import check_cluster, cluster_room

if TYPE_CHECKING:
    from expunge.shadows.bank import Bank
    from expunge.shadows.purge import Purged
    from expunge.trained.trained import Trained


@dataclass(frozen=True)
class BankWanted:
    """What is asked of a bank. models: how many; budget: seconds that say so instead. weights: whether
    they are kept; None: as when it was last built. seed: of the halves and all trainings.
    """

    models: int | None = None
    budget: float | None = None
    weights: bool | None = None
    seed: int = 0


def build_folder(
    model_dir: str | Path,
    out: str | Path | None = None,
    *,
    wanted: BankWanted = BankWanted(),
    workers: int | None = None,
    ray: str | None = None,
    data: str | None = None,
    tell: Callable[[BankPlan], object] = str,
    place: Place = HERE,
) -> Bank:
    """Make what is missing of the bank of a model folder: finished models stay.

    out: its folder, by default beside the model's. workers: processes of one thread each; None: one, or
    on a cluster as many as it has room for. ray: address of a Ray cluster to work on. tell: called with
    what it will take, once that is known: after the first model, if there is none. place.tell: with how
    models are trained, before.

    Raises ConfigError for a model that no bank can be made for, for a folder that holds something else,
    or has no room, and for a cluster that is not there; DivergenceError if a training diverges.
    """
    _check_wanted(wanted)
    _check_workers(workers, ray)
    folder = bank_beside(model_dir) if out is None else Path(out)
    papers = read_papers(model_dir, data=data, place=place)
    check_able(
        str(model_dir),
        recipe=papers.card.recipe is not None,
        forgot=bool(papers.split["forget"] or papers.split.get("struck")),
        redacted=papers.redacted,
        trained_by=papers.trained_by,
    )
    if not is_bank(folder) and (why := unwritable(folder)) is not None:
        raise ConfigError(f"{folder} cannot be made ({why}); choose another folder with --out")
    with loading():
        from expunge.shadows.build import begun, build
        from expunge.shadows.crew import BankOrders, make_by_workers
    workers = _counted(workers, ray, place)
    original = open_papers(papers, progress=place.progress)
    bank = begun(original, folder, seed=wanted.seed, place=place)
    before = read_asked(folder)
    keep = wanted.weights if wanted.weights is not None else before is None or before.weights
    plan = _planned(original, bank, replace(wanted, weights=keep), before, workers, place)
    tell(plan)
    models = plan.models
    if plan.finished < models and (plan.workers > 1 or ray is not None):
        with bank.at_work():
            bank.sweep()
        orders = BankOrders(
            Path(model_dir).resolve(),
            data,
            folder.resolve(),
            tuple(range(models)),
            keep,
            False,
            place.for_others(),
        )
        make_by_workers(orders, plan.workers, ray=ray, tell=place.tell, progress=place.progress)
    # alone; after workers, whatever they could not make, so that this process tells why
    return build(original, folder, models=models, seed=wanted.seed, keep=keep, place=place)


def _planned(
    original: Trained,
    bank: Bank,
    wanted: BankWanted,
    before: BankAsked | None,
    workers: int,
    place: Place,
) -> BankPlan:
    """What building will take; the first models are made, if there is none that tells it."""
    from expunge.shadows.build import MODELS, build, check_bank_room
    from expunge.shadows.making import lacking
    from expunge.shadows.way import chosen_way, forecast

    keep, budget = bool(wanted.weights), wanted.budget
    models = wanted.models or (before.models if before else MODELS)
    check_bank_room(original, bank, 2 if budget is not None else models, keep=keep)
    if budget is None:
        write_asked(bank.folder, BankAsked(models, keep))
    with bank.at_work():
        way = chosen_way(original, bank, models, place=place)
    place.tell(way.sentence)
    at_once, each, first = STACK if way.stacked else 1, forecast(way, original, bank), models
    if budget is not None and each:  # those that are trained at once are to fit into it too
        first = models_within(budget, each, workers, at_once)
    make = partial(build, original, bank.folder, models=first, seed=wanted.seed, keep=keep)
    each = _first_seconds(bank, first, partial(make, place=place))
    if budget is not None:
        models, there = models_within(budget, each, workers, at_once), max(bank.finished) + 1
        if first < at_once:  # more of them would train all of these again
            models = min(models, first)
        models = max(models, there + there % 2)
    check_bank_room(original, bank, models, keep=keep)
    write_asked(bank.folder, BankAsked(models, keep))
    left = lacking(bank, range(models), keep=keep)
    workers = min(workers, max(1, len({one // at_once for one in left})))
    return BankPlan(models, models - len(left), each, workers, at_once)


def _first_seconds(bank: Bank, models: int, build: Callable[..., Bank]) -> float:
    """Seconds that a model took, the median; if none is there, one that does not diverge is made."""
    number = 0
    while not bank.finished:
        try:
            build(numbers=[number])
        except DivergenceError:
            number += 1
            if number == models:
                raise
    return statistics.median(bank.seconds(one) for one in bank.finished)


def _check_wanted(wanted: BankWanted) -> None:
    """Raise ConfigError for what cannot be meant."""
    if wanted.models is not None and wanted.budget is not None:
        raise ConfigError(
            "--models and --budget both say how many models to make; give one of them"
        )
    if wanted.models is not None:
        check_number(wanted.models)
    if wanted.budget is not None and wanted.budget <= 0:
        raise ConfigError("--budget is no time; give seconds, or such as 20m and 1h")


def _check_workers(workers: int | None, ray: str | None) -> None:
    """Raise ConfigError where none is asked for, or for a cluster that is not there."""
    if workers is not None and workers < 1:
        raise ConfigError(f"{workers} workers can do nothing; give 1 or more")
    if ray is not None:
        check_cluster(ray)


def _counted(workers: int | None, ray: str | None, place: Place) -> int:
    """Workers, where nobody said how many: one, or on a cluster as many as it has room for."""
    if workers is not None or ray is None:
        return workers or 1
    with place.progress.work("asking the cluster"):
        return cluster_room(ray, place.device)


def found_bank(path: str | Path) -> Bank:
    """The bank in a folder, or the one beside a model folder. Raises ConfigError where there is none."""
    own = is_bank(Path(path))
    folder = Path(path) if own else bank_beside(path)
    if not is_bank(folder):
        raise ConfigError(
            f"neither {path} nor {folder} is a bank; make one with `expunge bank build {path}`"
        )
    with loading():
        from expunge.shadows.bank import open_bank
    bank = open_bank(folder)
    if not own and (Path(path) / MODEL_CARD).is_file() and not _holds(bank, read_papers(path)):
        raise ConfigError(
            f"{folder} is the bank of another original than {path}; give that folder itself to see it"
        )
    return bank


@dataclass(frozen=True)
class Cleared:
    """What `purge_folder` did. renewed: models that were trained again."""

    bank: Bank
    purged: Purged
    renewed: int


def purge_folder(
    model_dir: str | Path,
    folder: str | Path | None = None,
    *,
    forget: str | None = None,
    forget_seed: int = 0,
    renew: bool = False,
    workers: int | None = None,
    ray: str | None = None,
    data: str | None = None,
    place: Place = HERE,
) -> Cleared:
    """Purge a bank of what a model forgot, or what a request to an original names.

    model_dir: of an unlearned model, or with `forget` of the original. folder: of the bank; by default
    the one beside the model folder that fits. renew: train the models that learned from it again, by
    workers as `build_folder` takes them.

    Raises ConfigError where no bank fits, or several do, for workers without `renew`, for a machine that
    would train others than the bank's, and for a cluster that is not there; SplitError where nothing was
    forgotten.
    """
    if not renew and (workers is not None or ray is not None):
        raise ConfigError("--workers and --ray belong to --renew; add it, or leave them out")
    _check_workers(workers, ray)
    papers = read_papers(model_dir, data=data, place=place)
    forgot = any(papers.split.get(name) for name in ("forget", "excluded", "struck"))
    if forget is None and not forgot:
        raise SplitError(
            f"{model_dir} has forgotten nothing; give the folder that `expunge unlearn` wrote, or say "
            "what to strike with --forget"
        )
    found = Path(folder) if folder is not None else _only_bank(papers)
    with loading():
        from expunge.shadows.bank import open_bank
        from expunge.shadows.build import renew as renewed
        from expunge.shadows.crew import BankOrders, make_by_workers
        from expunge.shadows.fits import check_bank, check_precision
        from expunge.shadows.purge import purge_bank
    bank = open_bank(found)
    model = None
    if renew or forget is not None:
        model = open_papers(papers, progress=place.progress)
        check_bank(bank, model, purged=True)
        if renew:
            check_precision(bank, model, place)
    elif not _same_data(papers, bank.card.data):
        raise ConfigError(f"{found} is a bank of other data than those of {model_dir}")
    purged = purge_bank(bank, _struck(papers, bank, model, forget, forget_seed), place.progress)
    bank = open_bank(found)
    marked = tuple(one for one in bank.finished if bank.marked(one)) if renew else ()
    if model is not None and marked:
        workers = min(_counted(workers, ray, place), len(marked))
        if workers > 1 or ray is not None:
            asked = read_asked(found)
            keep = asked is None or asked.weights
            where, others = Path(model_dir).resolve(), place.for_others()
            orders = BankOrders(where, data, found.resolve(), marked, keep, True, others)
            make_by_workers(orders, workers, ray=ray, tell=place.tell, progress=place.progress)
        renewed(model, found, place=place)
    return Cleared(bank, purged, len(marked))


def _struck(
    papers: Papers, bank: Bank, model: Trained | None, forget: str | None, seed: int
) -> Sequence[str]:
    """Ids of a bank's samples that are to be struck."""
    if forget is not None and model is not None:
        split = model.asked(forget, seed=seed)
        return [*split.forget, *split.excluded]
    gone = {*papers.split["forget"], *papers.split["excluded"]}
    if papers.key is not None:
        return [name for name in {*bank.ids} if name and papers.key.pseudonym(name) in gone]
    return [*gone]


def _same_data(papers: Papers, fingerprint: str) -> bool:
    """fingerprint: as a bank keeps it."""
    told, key = papers.card.data.fingerprint, papers.key
    return is_kept(fingerprint, told, key) or (key is None and same_digest(told, fingerprint))


def _only_bank(papers: Papers) -> Path:
    """The bank of a model folder, or the one beside it that is of the same data and drawn from all that
    the model learned from.
    """
    own = bank_beside(papers.path)
    if is_bank(own):
        return own
    with loading():
        from expunge.shadows.bank import open_bank

    fitting = []
    for folder in sorted(own.parent.glob(f"*{ENDING}")):
        if is_bank(folder) and _holds(open_bank(folder), papers):
            fitting.append(folder)
    if len(fitting) == 1:
        return fitting[0]
    what = f"{' and '.join(map(str, fitting))} both are" if fitting else "beside it there is no"
    raise ConfigError(f"{what} bank of the original of {papers.path}; name it with --bank")


def _holds(bank: Bank, papers: Papers) -> bool:
    """Whether a bank is of the model that a folder was made from, as far as its papers tell."""
    card, hide = papers.card, str if papers.key is None else papers.key.pseudonym
    known = {hide(name) for name in bank.ids[: bank.learned]}
    retained = papers.split["retain"]
    same = _same_data(papers, bank.card.data) and card.recipe == bank.card.recipe
    return same and sum(name not in known for name in retained) <= int(bank.struck.sum())
