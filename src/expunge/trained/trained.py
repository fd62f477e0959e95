"""`Trained`: a model with its data, its split, how it came about, and how to make a fresh one."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.data.answer import Answered, answer
from expunge.data.decoded import strike
from expunge.data.parts import SPLIT_PARTS
from expunge.data.pseudonyms import Key, new_key
from expunge.data.request import private_words
from expunge.data.spec import NO_TEST, DataSpec, is_code, lasting, names_a_path
from expunge.data.split import Split, struck_ids, unknown_ids
from expunge.data.split_file import gone_name, split_to_plain
from expunge.data.struck import Struck
from expunge.data.suppressed import LEDGER, write_pointer
from expunge.data.task import task_named
from expunge.data.tokens import TokenStore
from expunge.disk.reading import reason
from expunge.disk.whole import written_together
from expunge.errors import ConfigError, ModelError, SplitError
from expunge.methods import Method, method_name
from expunge.models.hub import HubModel, without_path
from expunge.names.libraries import names_code
from expunge.names.text import clean_all, clean_name
from expunge.place import Place
from expunge.trained.by_method import training_card
from expunge.trained.card import (
    ARTIFACTS_FOLDER,
    DataCard,
    HubCard,
    ModelCard,
    check_target,
)
from expunge.trained.files import write_files
from expunge.trained.record import (
    OUR_STEPS,
    History,
    Record,
    SeedNames,
    initial_names,
    neutral_names,
    next_name,
    saw_data,
    without_ids,
)
from expunge.trained.within import within
from expunge.training.kept import Kept

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.load import Data
    from expunge.models.mask import Mask
    from expunge.training.recipe import Recipe
    from expunge.training.session import Fresh

MOST_REQUEST = 80
"""Letters of a request's name."""


@dataclass(frozen=True, eq=False, repr=False)
class Trained:
    """A trained model, and everything that is needed to forget from it and to judge it.

    `train`, `adopt`, `prune`, `unlearn` and `load` make one; nothing in it is changed afterwards.

    Attributes:
        model: in evaluation mode.
        data: what it learned from and is tested on, normalised as the model wants it.
        split: what it retains, what it forgot last, and what it may never read again.
        history: how it came about, oldest first; the last record is this model's own.
        recipe: how the original was trained; None where nobody knows.
        fresh: makes an untrained model of the same architecture; None where nobody said how.
        architecture: a name or `module:function` that says it too, for folders.
        mask: of a sparse model: parameter name -> bool tensor, True = kept.
        artifacts: tensors that a method made on its way, such as UNSIR's noise.
        seed, split_seed: of the original training, and of its validation samples.
        path: the folder that it was loaded from or saved to.
        weights: digest of the weights there.
        redacted: no folder that is made of it holds an id.
        key: to the pseudonyms that stand there instead; None where there are none yet.
        private: words of requests that no redacted folder may hold.
        struck: what each request of the chain struck, oldest first; empty of models of earlier versions.
        trained_by: the method that took part in training; None where none did.
        kept: what that method keeps beside the model.
    """

    model: nn.Module
    data: Data
    split: Split
    history: History
    recipe: Recipe | None = None
    fresh: Fresh | None = None
    architecture: str | None = None
    mask: Mask | None = None
    artifacts: Mapping[str, Tensor] = field(default_factory=dict)
    seed: int | None = None
    split_seed: int | None = None
    path: Path | None = None
    weights: str = ""
    redacted: bool = False
    key: Key | None = None
    private: tuple[str, ...] = ()
    struck: tuple[Struck, ...] = ()
    trained_by: Method | None = None
    kept: Kept = field(default_factory=Kept)

    @property
    def record(self) -> Record:
        """How this model was made: the last step of its history."""
        return self.history[-1]

    @property
    def mask_saw_data(self) -> bool | None:
        """Whether the mask was found with sight of training data; None: dense, or unknown."""
        return None if self.mask is None else saw_data(self.history)

    @property
    def began(self) -> SeedNames | None:
        """Seed names of the weights and order that it began with; None where nobody knows them."""
        return initial_names(self.history)

    @property
    def name(self) -> str:
        """What to call it in a message."""
        return str(self.path) if self.path is not None else "this model"

    def __repr__(self) -> str:
        steps = " > ".join(record.step for record in self.history)
        forgot = f", {len(self.split.forget):,} forgotten" if self.split.forget else ""
        return (
            f"<Trained {self.architecture or type(self.model).__name__} on "
            f"{self.data.spec or 'data'}: {steps}; {len(self.split.retain):,} retained{forgot}>"
        )

    def asked(self, forget: Any, *, seed: int = 0) -> Split:
        """What a request asks this model to forget; what was struck before stays struck.

        Args:
            forget: a request as `--forget` takes it (`class:3`, `random:0.1`, `ids:FILE`, ...), a
                `Split`, ids, or a boolean for each training sample.
            seed: of a random draw.

        Raises:
            SplitError: for a request that is empty, or names what is not there.
        """
        # None is no request here, though there are methods that need none
        found = self.answered([None] if forget is None else forget, seed=seed)
        found.check_whole(self.data, redacted=self.redacted)
        return found.split

    def answered(self, forget: Any, *, seed: int = 0, request: str | None = None) -> Answered:
        """As `asked`, and of a request as text what became of each sample that it names: those of the
        test set, struck before (by which request, when), or unknown are told, and the others forgotten.
        Of ids that are given as such none may be any of these. Of None nothing is forgotten.

        request: what to call it in records and pages, by default `request-1`, by its place in the chain.
        Give `unlearn` what this returns. Raises SplitError as `asked` does.
        """
        if isinstance(forget, Answered):
            return forget
        if forget is None:
            return Answered(self.split.settled(), unnamed=True)
        request = self.next_request(request)
        base = self.split.settled()
        if isinstance(forget, str):
            found = answer(
                self.data,
                forget,
                seed=seed,
                base=base,
                when=self.struck_by,
                hidden=str if self.key is None else self.once_gone,
                redacted=self.redacted,
            )
            return replace(found, request=request)
        return Answered(self._split_of(forget, base), request=request)

    def once_gone(self, name: str) -> str:
        """What an id is called once it is gone from the data of a redacted folder."""
        return name if self.key is None else f"{gone_name(self.key)}{self.key.pseudonym(name)}"

    def struck_by(self, names: Collection[str]) -> dict[str, list[str]]:
        """Ids that were struck, in order, by the request that did it, as in "by request-1 on
        2026-01-31 (finetune)".
        """
        left, found = set(names), {}
        made = {record.request: record for record in self.history if record.request}
        for one in self.struck:
            own = left.intersection((*one.forgotten, *one.aside))
            if own and (record := made.get(one.request)) is not None:
                found[f"by {one.request} on {record.date[:10]} ({record.step})"] = sorted(own)
                left -= own
        if left:
            found["or set aside; the folder does not say when"] = sorted(left)
        return found

    def _split_of(self, forget: Any, base: Split) -> Split:
        """Of a request that is no text."""
        if isinstance(forget, Split):
            return within(forget, base)
        given = forget.tolist() if hasattr(forget, "tolist") else forget
        names = list(given) if isinstance(given, Iterable) else [given]
        if names and all(isinstance(one, bool | np.bool_) for one in names):
            return Split.mask(self.data, np.asarray(names, dtype=bool), base=base)
        odd = [one for one in names if not isinstance(one, str)]
        if odd:
            raise SplitError(
                f"a forget request holds {odd[0]!r}, a {type(odd[0]).__name__}, which is neither an "
                "id nor a boolean; give ids as text (row numbers too: '7'), a boolean for each training "
                "sample, a Split, or text such as 'class:3' and 'indices:7'"
            )
        struck = set(base.excluded).intersection(names)
        if struck:
            when, ids = next(iter(self.struck_by(struck).items()))
            raise struck_ids(ids, when, redacted=self.redacted)
        rows = self.data.train.rows_of(names)
        unknown = [name for name, row in zip(names, rows, strict=True) if row < 0]
        if unknown and self.redacted:
            raise unknown_ids(self.data, unknown, len(names), redacted=True)
        return Split.ids(self.data, names, base=base)

    def strike(self, split: Split, place: Place) -> tuple[str, ...]:
        """Take what a request asks for out of the cache of decoded images, unless it is a trial.

        split: as `asked` gives it. Returns what to warn of where that could not be done.
        """
        if not place.strike:
            return ()
        asked = {*split.forget, *split.excluded}.difference(self.split.excluded)
        told = strike(self.data.train, asked)
        return () if told is None else (told,)

    def then(self, record: Record, **changes: Any) -> Trained:
        """What a further step made of it; it lies in no folder yet."""
        kept = {one.name: getattr(self, one.name) for one in fields(Trained)}
        kept |= {"path": None, "weights": "", "artifacts": {}, **changes}
        if self.redacted and record.step not in OUR_STEPS:
            kept["artifacts"] = {}  # nobody knows what they are of
        return Trained(**{**kept, "history": self.history_with(record)})

    def history_with(self, record: Record) -> History:
        """How it came about, and a further step."""
        key = self.key
        return (*self.history, record if key is None else without_ids(record, key, self.ids))

    def redacting(self) -> Trained:
        """The same, of which, and of all that is made of it, no id will be kept: pseudonyms alone. What
        earlier requests were typed as is private then, and so are names that were chosen for them: these
        requests are called by their places.

        Raises SplitError where the key to them could not be kept.
        """
        if self.key is not None:
            return self
        names = neutral_names(self.history)
        asked = (word for one in self.history for word in private_words(one.asked))
        private = (*self.private, *asked, *names)
        closed = replace(self, redacted=True, key=(key := new_key()), private=private)
        history = tuple(without_ids(one, key, closed.ids, names) for one in self.history)
        struck = tuple(
            replace(one, request=names.get(one.request, one.request)) for one in self.struck
        )
        artifacts = self.artifacts if self.record.step in OUR_STEPS else {}
        ours = self.trained_by is None or self.trained_by.name in OUR_STEPS
        return replace(
            closed,
            history=history,
            struck=struck,
            artifacts=artifacts,
            kept=self.kept if ours else Kept(),  # nobody knows what others keep
        )

    @property
    def ids(self) -> Collection[str]:
        """Of all samples that it speaks of, those that it is tested on too; and private words."""
        learned = {one for name in SPLIT_PARTS for one in getattr(self.split, name)}
        return learned.union(self.data.test.ids.tolist(), self.private)

    def next_request(self, name: str | None = None) -> str:
        """What a further request is called: a name that was chosen, or `request-N`, by its place in the
        chain. Raises ConfigError for one that is taken, or is no short line.
        """
        taken = {record.request for record in self.history}
        if name is None:
            place = 1 + sum(record.forgotten > 0 for record in self.history)
            return next_name(place, taken)
        if (
            name in taken
            or not name.strip()
            or name != clean_name(name)
            or len(name) > MOST_REQUEST
        ):
            what = "stands in the chain already" if name in taken else "is no short line of text"
            raise ConfigError(f"request id {name[:MOST_REQUEST]!r} {what}; choose another")
        return name

    def striking(self, request: str, split: Split) -> tuple[Struck, ...]:
        """What each request struck, once this one too has been met."""
        before = {*self.split.excluded, *self.split.forget}
        aside = tuple(name for name in split.excluded if name not in before)
        return (*self.struck, Struck(request, split.forget, aside))

    def card(self) -> ModelCard:
        """Everything about it but its weights, as plain data."""
        data, normal = self.data, self.data.normalisation
        prints = [data.train.fingerprint, data.test.fingerprint]
        (spec, data_dir), test = self._place, self._test
        if self.key is not None:  # digests tell of all ids together; paths, of people
            prints = [self.key.digest(one) for one in prints]
            data_dir = None
            if spec is not None and names_a_path(spec):
                spec = self.key.hidden(spec)
            if test is not None and names_a_path(test):
                test = self.key.hidden(test)
        kept = self.split.retain[0]
        return ModelCard(
            architecture=self.told_architecture,
            shape=data.train.shape(data.train.position[kept]),
            classes=data.classes,
            data=DataCard(
                spec=spec,
                data_dir=data_dir,
                fingerprint=prints[0],
                positional=data.train.positional,
                test_fingerprint=prints[1],
                task=task_named(data.task, data.task_name),
                test=test,
                table=data.table,
                **(data.drawing._asdict() if data.drawing else {}),
            ),
            mean=normal.mean if normal else None,
            std=normal.std if normal else None,
            recipe=self.recipe.model_dump(mode="json") if self.recipe is not None else None,
            seed=self.seed,
            split_seed=self.split_seed,
            lineage=self.history,
            hub=_hub_card(self),
            trained_by=training_card(self.trained_by),
        )

    @property
    def names_code(self) -> bool:
        """Whether its folder cannot be opened without consent to run what it names."""
        base = DataSpec.parse(self.data.spec).base if self.data.spec else ""
        task = task_named(self.data.task, self.data.task_name) or ""
        by = "" if self.trained_by is None else method_name(self.trained_by)
        return names_code(self.architecture or "") or ":" in task + by or is_code(base)

    @property
    def _place(self) -> tuple[str | None, str | None]:
        """What its data are, and where they lie."""
        return clean_all(lasting(self.data.spec)), clean_all(self.data.data_dir)

    @property
    def _test(self) -> str | None:
        """What it is tested on, where that is neither the data's own nor drawn."""
        test = self.data.test_spec
        return test if test == NO_TEST else clean_all(lasting(test))

    @property
    def told_architecture(self) -> str | None:
        """What its architecture is called where others read it."""
        hidden = self.key is not None and self.architecture is not None
        return without_path(self.architecture or "") if hidden else self.architecture

    @property
    def told_data(self) -> str:
        """What to call its data where others read it."""
        spec = self.data.spec
        return "data" if spec is None or (self.redacted and names_a_path(spec)) else spec

    def write(self, folder: Path) -> ModelCard:
        """Write its files into a folder that is there; returns its card as written."""
        if self.key is not None:
            self.key.keep(*self._place)
            self.key.keep(self._test, self._place[1])
            if isinstance(self.fresh, HubModel) and Path(self.fresh.base).is_absolute():
                self.key.keep(self.fresh.base)
        plain = split_to_plain(self.split, self.data, key=self.key, struck=self.struck)
        if self.data.struck.ledgers:
            write_pointer(folder / LEDGER, self.data.struck.ledgers)
        return write_files(
            folder,
            self.model,
            self.card(),
            plain,
            mask=self.mask,
            artifacts=self.artifacts,
            kept=self.kept,
            tokenizer=getattr(self.data.train.store, "tokenizer", None),
        )

    def save(
        self, out: str | Path, *, overwrite: bool = False, redact_ids: bool = False
    ) -> Trained:
        """Write a model folder, whole or not at all; one process of several writes.

        Args:
            out: the folder; one that exists is refused unless `overwrite`, which swaps by renaming.
            overwrite: replace a model folder.
            redact_ids: keep pseudonyms of ids; what came from a redacted folder is so anyway.

        Returns:
            The same, knowing where it lies.

        Raises:
            ModelError: if the folder cannot be written.
        """
        one = self.redacting() if redact_ids else self
        return save_together([(one, Path(out))], overwrite=overwrite)[0]


def _hub_card(model: Trained) -> HubCard | None:
    """What makes a model of transformers again; None for others."""
    made = model.fresh
    if not isinstance(made, HubModel):
        return None
    store, base = model.data.train.store, made.base
    if model.key is not None and Path(base).is_absolute():
        base = model.key.hidden(base)
    return HubCard(
        kind=made.kind,
        config=clean_all(made.config),
        base=base,
        digest=made.digest,
        length=store.shape[0] if isinstance(store, TokenStore) else None,
    )


def save_together(models: Sequence[tuple[Trained, Path]], *, overwrite: bool) -> list[Trained]:
    """`Trained.save` for models whose folders, of one parent, appear together.

    Raises ModelError for a folder that is in the way, OSError for one that cannot be written.
    """
    import torch
    from accelerate import PartialState

    for _, target in models:
        check_target(target, overwrite=overwrite)
    state = PartialState(cpu=torch.accelerator.current_accelerator(True) is None)
    state.wait_for_everyone()  # a process that is late must not find what another has written
    models = [
        (replace(one.redacting(), kept=one.kept.redacted()) if one.redacted else one, target)
        for one, target in models
    ]
    found = [(model.weights, dict[str, str]()) for model, _ in models]
    if state.is_main_process:
        with written_together([target for _, target in models], overwrite=overwrite) as folders:
            cards = [
                model.write(folder) for (model, _), folder in zip(models, folders, strict=True)
            ]
        found = [(one.weights, {k: v.digest for k, v in one.kept.items()}) for one in cards]
    state.wait_for_everyone()
    return [
        replace(model, path=to, weights=digest, kept=model.kept.saved(to / ARTIFACTS_FOLDER, kept))
        for (model, to), (digest, kept) in zip(models, found, strict=True)
    ]


def keep_together(models: Sequence[tuple[Trained, Path]], *, overwrite: bool) -> list[Trained]:
    """`save_together` for models that nobody else holds: where their folders cannot be written after
    all, for a full disk or for what has appeared there meanwhile, they are kept elsewhere.

    Raises ModelError that says where.
    """
    try:
        return save_together(models, overwrite=overwrite)
    except (OSError, ModelError) as error:
        raise ModelError(_kept_elsewhere(models, reason(error))) from error


def _kept_elsewhere(models: Sequence[tuple[Trained, Path]], why: str) -> str:
    """Write models into the folder for temporary files; what to say of that."""
    target = models[0][1]
    if str(target) not in why:
        why = f"{target} could not be written ({why})"
    aside = Path(tempfile.mkdtemp(prefix="expunge-kept-"))
    try:
        for model, place in models:
            (aside / place.name).mkdir()
            model.write(aside / place.name)
    except OSError:
        shutil.rmtree(aside, ignore_errors=True)
        return f"{why}, nor could {aside}: the model is lost; make room, and run again"
    return f"{why}; the model lies in {aside} instead: move it to where it belongs"
