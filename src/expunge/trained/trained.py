"""`Trained`: a model with its data, its split, how it came about, and how to make a fresh one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from expunge.data.spec import lasting
from expunge.data.split import Split
from expunge.data.split_file import split_to_plain
from expunge.data.task import task_named
from expunge.disk.whole import written_whole
from expunge.errors import SplitError
from expunge.trained.card import DataCard, ModelCard, check_target
from expunge.trained.files import write_files
from expunge.trained.record import (
    History,
    Record,
    SeedNames,
    initial_names,
    saw_data,
    without_names,
)

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.load import Data
    from expunge.models.mask import Mask
    from expunge.training.recipe import Recipe
    from expunge.training.session import Fresh


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
        redacted: that folder keeps hashes of ids only.
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
        base = self.split.settled()
        if isinstance(forget, Split):
            return _within(forget, base)
        if isinstance(forget, str):
            return Split.parse(self.data, forget, seed=seed, base=base)
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
        return Split.ids(self.data, names, base=base)

    def then(self, record: Record, **changes: Any) -> Trained:
        """What a further step made of it; it lies in no folder yet."""
        kept = {one.name: getattr(self, one.name) for one in fields(Trained)}
        kept |= {"path": None, "weights": "", "artifacts": {}, **changes}
        return Trained(**{**kept, "history": (*self.history, record)})

    def card(self, *, redact_ids: bool = False) -> ModelCard:
        """Everything about it but its weights, as plain data; with `redact_ids` no id is in it."""
        data, normal = self.data, self.data.normalisation
        kept = self.split.retain[0]
        return ModelCard(
            architecture=self.architecture,
            shape=data.train.shape(data.train.position[kept]),
            classes=data.classes,
            data=DataCard(
                spec=lasting(data.spec),
                data_dir=data.data_dir,
                fingerprint=data.train.fingerprint,
                positional=data.train.positional,
                test_fingerprint=data.test.fingerprint,
                task=task_named(data.task, data.task_name),
            ),
            mean=normal.mean if normal else None,
            std=normal.std if normal else None,
            recipe=self.recipe.model_dump(mode="json") if self.recipe is not None else None,
            seed=self.seed,
            split_seed=self.split_seed,
            lineage=tuple(map(without_names, self.history)) if redact_ids else self.history,
        )

    def write(self, folder: Path, *, redact_ids: bool = False) -> ModelCard:
        """Write its files into a folder that is there; returns its card as written."""
        redact = redact_ids or self.redacted
        plain = split_to_plain(self.split, self.data, redact=redact)
        card = self.card(redact_ids=redact)
        return write_files(
            folder, self.model, card, plain, mask=self.mask, artifacts=self.artifacts
        )

    def save(
        self, out: str | Path, *, overwrite: bool = False, redact_ids: bool = False
    ) -> Trained:
        """Write a model folder, whole or not at all; one process of several writes.

        Args:
            out: the folder; one that exists is refused unless `overwrite`, which swaps by renaming.
            overwrite: replace a model folder.
            redact_ids: keep salted hashes of ids; what came from a redacted folder is so anyway.

        Returns:
            The same, knowing where it lies.

        Raises:
            ModelError: if the folder cannot be written.
        """
        import torch
        from accelerate import PartialState

        target = Path(out)
        check_target(target, overwrite=overwrite)
        state = PartialState(cpu=torch.accelerator.current_accelerator(True) is None)
        weights = self.weights
        if state.is_main_process:
            with written_whole(target, overwrite=overwrite) as folder:
                weights = self.write(folder, redact_ids=redact_ids).weights
        state.wait_for_everyone()
        return replace(self, path=target, weights=weights, redacted=redact_ids or self.redacted)


def _within(split: Split, base: Split) -> Split:
    """A split as a request to a model, of which nothing that was struck before is read again.

    base: the model's own, settled.
    """
    struck, learned = set(base.excluded), set(base.retain)
    known = learned | struck
    strange = [key for key in (*split.retain, *split.forget) if key not in known]
    if strange:
        raise SplitError(
            f"the split keeps or forgets {strange[0]!r}, which this model never learned from "
            f"({len(strange)} such samples); make it with base=model.split"
        )
    forget = tuple(key for key in split.forget if key not in struck)
    if split.forget and not forget:
        raise SplitError("all of these samples were struck before; name some that were not")
    return Split(
        retain=tuple(key for key in split.retain if key not in struck),
        forget=forget,
        validation=tuple(key for key in split.validation if key not in struck),
        excluded=tuple(sorted({*split.excluded, *struck})),
    )


def record_of(step: str, split: Split, before: Trained | None = None, **fields: Any) -> Record:
    """The record of a step that was just made; `before`: what it began with."""
    return Record(
        step=step,
        parent=(before.weights or None) if before is not None else None,
        split=split.digest,
        forgotten=len(split.forget),
        **fields,
    )
