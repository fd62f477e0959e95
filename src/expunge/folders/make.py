"""Make a model folder: train an original, unlearn from what lies on the disk."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.request import check_names, check_share, private_words
from expunge.data.spec import DataSpec
from expunge.disk.whole import scratch_beside
from expunge.errors import ConfigError
from expunge.loading import loading
from expunge.methods.needs import check_supplied
from expunge.methods.scope import check_scope
from expunge.methods.taking_part import as_trained, check_trains
from expunge.models.hub import check_base, folder_of
from expunge.models.processor import PROCESSOR, processor_of
from expunge.models.table import check_model
from expunge.names.code import TYPED
from expunge.names.libraries import library_of
from expunge.names.text import clean_name
from expunge.place import HERE, Place
from expunge.trained.card import check_room, check_target
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers
from expunge.trained.telling import check_silent
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    from expunge.data.answer import Answered
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.methods import Method
    from expunge.pruning import Pruner
    from expunge.trained.trained import Trained


@dataclass(frozen=True)
class HeldOut:
    """What a training leaves aside for validation: a share, drawn by a seed."""

    share: float = 0.1
    seed: int = 0


def check_source(data: str, model: str, place: Place) -> None:
    """Raise for data or a model that cannot be meant, before anything is loaded."""
    check_model(model, allow_code=TYPED)
    DataSpec.parse(data).check(place.data_dir, allow_code=TYPED)


def train_folder(
    data: str,
    model: str,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    pruner: Pruner | None = None,
    seed: int = 0,
    held: HeldOut = HeldOut(),
    method: Method | None = None,
    task: str | None = None,
    place: Place = HERE,
) -> Trained:
    """Train an original model, sparse if a pruner is given, and write its folder.

    method: one that takes part in training, which can then forget from the folder.
    """
    check_target(Path(out), overwrite=place.overwrite)
    check_source(data, model, place)
    check_share(held.share)
    if method is not None:
        check_trains(method, recipe or Recipe(), pruned=pruner is not None)
    with loading():
        from expunge.api import train
        from expunge.trained.trained import keep_together

    loaded, split = load_held(sized(data, model), held, task, place)
    with _room(Path(out), method, place) as roomy:
        trained = train(
            loaded,
            model,
            recipe=recipe,
            split=split,
            pruner=pruner,
            method=method,
            seed=seed,
            place=roomy,
            allow_code=TYPED,
        )
        return keep_together(
            [(replace(trained, split_seed=held.seed), Path(out))], overwrite=place.overwrite
        )[0]


@contextmanager
def _room(out: Path, method: Method | None, place: Place) -> Iterator[Place]:
    """The place, with a folder for what a method keeps while it works, until `out` is written."""
    if method is None or not method.takes_part:
        yield place
        return
    with scratch_beside(out.absolute()) as room:
        yield replace(place, room=room)


def sized(data: str, model: str) -> str:
    """Data of images for a model of transformers: in the size that its processor makes them, unless
    the data are asked for in one.
    """
    spec = DataSpec.parse(data)
    if library_of(model) != "hf" or spec.size is not None or not spec.resizable():
        return data
    told = processor_of(folder_of(model))
    if told.size is None:
        return data
    if told.cut:
        size = f"{told.size[0]}x{told.size[1]}"
        raise ConfigError(
            f"{PROCESSOR} cuts images or keeps their proportions, which is not done here; to resize "
            f"whole ones instead, give their size: {data}@{size}"
        )
    return str(replace(spec, size=told.size, resize=spec.resize or told.resize))


def load_held(data: str, held: HeldOut, task: str | None, place: Place) -> tuple[Data, Split]:
    """Data, and what of them is left aside for validation."""
    from expunge.data.load import load_data
    from expunge.data.split import Split

    with place.progress.work(f"reading {data}"):
        loaded = load_data(data, data_dir=place.data_dir, task=task, allow_code=TYPED)
        return loaded, Split.whole(loaded, validation=held.share, split_seed=held.seed)


@dataclass(frozen=True)
class Forgotten:
    """What `unlearn_folder` did. reference, floor: a retrained model and a second one, if asked for."""

    original: Trained
    result: Trained
    reference: Trained | None = None
    floor: Trained | None = None

    @property
    def redacted(self) -> bool:
        """Whether nothing that is written or shown of it may name a sample."""
        return self.result.redacted


@dataclass(frozen=True)
class Beside:
    """What is made beside the forgetting model.

    Attributes:
        reference: also retrain, into OUT-retrained.
        paired: with the original's initial weights, order and batches; see `Retrain`. Trains twice.
        floor: also retrain a second time from another seed, into OUT-floor, with a reference alone.
        redact_ids: keep pseudonyms of ids in the new folders; made of a redacted one, they do so anyway.
        looks: class logits will be looked at afterwards, so a task without any is refused first.
        request_id: what to call the request in all that is written; None: by its place in the chain.
        shown: where pages and pictures go; of a redacted folder their names may name nobody.
    """

    reference: bool = False
    paired: bool = False
    floor: bool = False
    redact_ids: bool = False
    looks: bool = False
    request_id: str | None = None
    shown: tuple[Path, ...] = ()


def unlearn_folder(
    path: str | Path | Trained,
    forget: str | Split | Answered | None,
    method: Method,
    out: str | Path,
    *,
    seed: int = 0,
    forget_seed: int = 0,
    beside: Beside = Beside(),
    data: str | None = None,
    tell: Callable[[str], object] | None = None,
    place: Place = HERE,
) -> Forgotten:
    """Make the model of a folder forget, and write the new model's folder.

    path: a folder, or what was loaded from one. forget: a request, its answer, or the split that it
    makes of the folder's own, None where nothing is named, as `unlearn` takes it; what earlier requests
    struck is never read. data: instead of the folder's.
    tell: called before the work with each line of what the request names.
    """
    target = Path(out).absolute()
    retrained = [reference_of(target)] if beside.reference else []
    retrained += [floor_of(target)] if beside.floor else []
    source = Path(path).absolute() if isinstance(path, str | Path) else path.path
    if source in retrained:
        raise ConfigError(
            f"the reference would take the place of {source}, which is to forget; choose another --out"
        )
    apart = {} if source in (None, target) else {"the model folder": source}
    for folder in (target, *retrained):
        check_target(folder, overwrite=place.overwrite, apart=apart)
    check_room(target, source, models=1 + len(retrained))
    papers = read_papers(path, data=data, place=place) if isinstance(path, str | Path) else path
    method = as_trained(method, papers.trained_by, str(papers.path or "this model"))
    _check_reference(papers, method, beside)
    if isinstance(forget, str) and isinstance(papers, Papers):
        check_names(forget, papers.card.classes)
        check_scope(method, forget)
        validation = len(papers.split["validation"])
        whole = not forget.startswith("random:")  # which other requests are, only the data tell
        recipe = Recipe(**papers.card.recipe) if papers.card.recipe is not None else None
        check_supplied(method, recipe, validation, str(path), whole_classes=lambda: whole)
    with loading():
        from expunge.api import unlearn
        from expunge.audits.observe import check_logits
        from expunge.trained.trained import keep_together
        from expunge.training.run import Run, accelerator_on

    redact = beside.redact_ids or papers.redacted
    words = private_words(forget) if isinstance(forget, str) else ()
    names = _chosen_names(target, beside) if redact else []
    check_silent(names, (), words)  # before the data are read, as far as the request itself tells
    if isinstance(papers, Papers):
        papers = open_papers(papers, progress=place.progress)
    original = _redacting(papers, words) if redact else papers
    if beside.looks:
        run = Run(task=original.data.task, accelerator=accelerator_on(place.device))
        check_logits(original.model, original.data, original.split, run)
    # once: standard input is read once
    asked = original.answered(forget, seed=forget_seed, request=beside.request_id)
    check_silent(names, original.ids, original.private)
    kept = _kept_categories(original, forget, redact)
    for line in (*_renamed(papers, original), *asked.lines(redacted=redact), *kept):
        (tell or str)(line)
    with _room(target, original.trained_by, place) as roomy:
        make = functools.partial(unlearn, original, asked, seed=seed, place=roomy, allow_code=TYPED)
        keep = functools.partial(keep_together, overwrite=place.overwrite)
        made = [(make(method), target)]
        try:
            if beside.reference:
                exact = make("retrain:paired" if beside.paired else "retrain")
                made.append((exact, reference_of(target)))
            if beside.floor:
                second = make("retrain", names=("retrain", seed, "floor"))
                made.append((second, floor_of(target)))
        except Exception:  # what has been made is kept, though nothing stands beside it
            keep(made)
            raise
        return Forgotten(original, *keep(made))


def _chosen_names(target: Path, beside: Beside) -> list[tuple[str, str]]:
    """What will be called by names that somebody chose, and these."""
    folders = [("folder", one.name) for one in (target, *beside.shown)]
    return [*folders, *([("request id", beside.request_id)] if beside.request_id else [])]


def _redacting(model: Trained, words: Collection[str]) -> Trained:
    """A model of which no id will be kept, nor a word of the request to it."""
    closed = model.redacting()
    return replace(closed, private=(*closed.private, *words))


def _renamed(before: Trained, after: Trained) -> list[str]:
    """What to say of requests that are called otherwise, now that their ids are redacted."""
    return [
        f"the request of {new.date[:10]} is called {new.request} from now on, for its name was chosen"
        for old, new in zip(before.history, after.history, strict=True)
        if old.request != new.request
    ]


def _kept_categories(original: Trained, forget: object, redact: bool) -> list[str]:
    """A line for a redacted request by a column that is an input too: its values stay with the model."""
    kind, _, rest = (forget if isinstance(forget, str) else "").partition(":")
    column = clean_name(rest.partition("=")[0])
    table = original.data.table
    if not redact or kind != "group" or table is None:
        return []
    if not any(one.name == column and one.categories is not None for one in table.features):
        return []
    return [
        f"warning: the column {column!r} is an input too, and what it reads stays among the categories "
        f"in model.json; to keep it out, train with group={column}, which makes it no input"
    ]


def reference_of(out: Path) -> Path:
    """Where the retrained reference of a new folder goes."""
    return _beside(out, "retrained")


def floor_of(out: Path) -> Path:
    """Where the second retrained model of a new folder goes."""
    return _beside(out, "floor")


def _beside(out: Path, what: str) -> Path:
    out = out if out.name else out.absolute()  # "." has no name of its own
    return out.parent / f"{out.name}-{what}"


def _check_reference(papers: Papers | Trained, method: Method, beside: Beside) -> None:
    """Raise ConfigError for a retrained reference that cannot be had."""
    where = papers.path
    recipe = papers.card.recipe if isinstance(papers, Papers) else papers.recipe
    if beside.floor and not beside.reference:
        raise ConfigError(
            "--with-floor stands beside a reference; ask for it with --with-reference"
        )
    if beside.reference and recipe is None:
        raise ConfigError(
            f"{where} has no recipe, so there is no retrained reference; import it with "
            "--recipe, or leave --with-reference out"
        )
    if (beside.reference or method.name == "retrain") and isinstance(papers, Papers):
        check_base(papers.card.hub.base if papers.card.hub is not None else "")
    if not beside.paired:
        return
    if not beside.reference:
        raise ConfigError("--paired is about the reference; ask for it with --with-reference")
    if papers.began is None:
        raise ConfigError(
            f"{where} was imported or pruned, so nobody knows the weights that it began with; "
            "leave --paired out"
        )
