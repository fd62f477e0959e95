"""SISA: models of shards, trained slice by slice, so that a deletion takes few stages again."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING, ClassVar, Literal, cast

from pydantic import Field

from expunge.data.parts import Part
from expunge.disk.reading import reading
from expunge.errors import ModelError
from expunge.methods.base import Method
from expunge.training.kept import LOST, OF_IDS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from expunge.data.view import DataView
    from expunge.methods.shared.stages import Stages
    from expunge.models.ensemble import Ensemble
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run

    Places = tuple[NDArray[np.int64], NDArray[np.int64]]

MOST = 1000
"""Shards, and slices of each: there is a model for every shard, and a file for every slice."""
COUNTS = "samples"
"""The group that says how many samples each slice had when its stage was trained."""


class Sisa(Method):
    """Models of separate shards of the data; a deletion trains again from the stages that saw it.

    Equation: each sample belongs to one of S shards and, there, to one of R slices, by a hash of its
    id; shard s has a model of its own, theta_s, trained in stages: stage i goes on from stage i - 1 for
    floor(2 i E / (R + 1)) - floor(2 (i - 1) E / (R + 1)) of E epochs on slices 1 to i. The prediction
    is the mean of softmax f(theta_s, x) over s. Deletion: in each shard the stages from the earliest
    slice hit on are done again without what is forgotten.

    It takes part in training: `expunge train --method sisa`, and then `unlearn --method sisa` on that
    folder, which needs what lies in its artifacts/. The result is bit for bit what SISA gives where
    those samples never were, in whatever order requests come, as far as the machine repeats its own
    arithmetic: a processor with as many threads does, a GPU to the last digits. `retrain` of such a
    model is SISA again, from another seed; other methods and pruning are refused, for the weights
    would no longer be those of the shards that are kept.

    Every stage has a fresh optimiser and schedule: momentum carried on would carry what it saw. Short
    last batches are trained on. Slices are thresholds of hashes, no counts, so a deletion moves nobody
    to another slice, and slices and shards may be empty; an empty shard is not asked. Order and
    augmentation go by ids. Nothing else may look at all samples: schedule `plateau` is refused, and
    where inputs are normalised by statistics of the data themselves, these stay as they were, here as
    in retraining; give constants where that counts.

    Cost: (2 R + 1) / (3 R S) of the training for one sample; K samples hit S (1 - (1 - 1/S)^K) of the
    shards, so a request for much of the data takes nearly all of it again. Training reads about
    as many samples as E epochs of one model; S R checkpoints lie on the disk, S models answer each
    question. The record has one mean loss of the training: the loss of a stage would, in every later
    folder, speak of the few who were in it.

    Use it when requests will come one by one or in small numbers, must be met exactly, and can be
    foreseen: it has to be there before the training. With group=COLUMN all samples of a person lie in
    one slice: what the column reads may not change later, and a deletion from data where it did is
    refused. A redacted folder has no digest of ids to know that by.

    Avoid it when a class or much of the data is to go, for retraining costs as much; and where each
    shard has few samples of a class: the ensemble is then clearly worse than one model of all.
    """

    name: ClassVar[str] = "sisa"
    paper: ClassVar[str] = "Bourtoule et al., IEEE S&P 2021"
    reads: ClassVar[Part] = Part.RETAIN
    guarantee: ClassVar[str] = "exact"
    needs_classes: ClassVar[bool] = True
    seeded: ClassVar[bool] = False
    takes_part: ClassVar[bool] = True

    shards: int = Field(
        default=20, ge=1, le=MOST, description="models, each of its own part of the data"
    )
    slices: int = Field(
        default=5, ge=1, le=MOST, description="parts of a shard, learned one after another"
    )
    group: str | None = Field(
        default=None, description="column of the data; what reads the same lies in one slice"
    )
    predict: Literal["mean", "vote"] = Field(
        default="mean",
        description="mean softmax of the models, or the class that most of them name",
    )

    def check_recipe(self, recipe: Recipe) -> None:
        """See the base: every stage must have an epoch, and nothing may look at other samples."""
        self._stages.check(recipe)

    def built(self, fresh: Callable[[], nn.Module]) -> Ensemble:
        """See the base: an ensemble of as many models as there are shards."""
        from expunge.data.task import read_logits
        from expunge.models.ensemble import Ensemble

        members = [fresh() for _ in range(self.shards)]
        return Ensemble(members, read_logits, vote=self.predict == "vote")

    @classmethod
    def exported(cls, settings: Mapping[str, object]) -> str:
        """See the base."""
        own = cls.model_validate(settings)
        how = (
            "the answer is the mean of their softmax"
            if own.predict == "mean"
            else "the answer is the class that most of them name"
        )
        return (
            f"an ensemble of {own.shards} models, members.0 to members.{own.shards - 1}, each a state "
            f"dict of its own; {how}, over those that the tensor `taught` marks. It cannot be imported "
            "whole, and a single member is another model, of one part of the data"
        )

    def check_stored(
        self, shapes: Mapping[str, tuple[int, ...]], fresh: Callable[[], nn.Module]
    ) -> None:
        """See the base: there must be a member for each shard, none smaller than an untrained one."""
        from expunge.models.state import numbers_in

        held: Counter[str] = Counter()
        for name, shape in shapes.items():
            if name.startswith("members."):
                held[name.split(".")[1]] += math.prod(shape)
        if len(held) != self.shards:
            raise ModelError(
                f"there are weights of {len(held):,} members, and {self.shards:,} shards are told"
            )
        if min(held.values()) < numbers_in(fresh()):
            raise ModelError("a member has fewer weights than the model that it should be")

    def train(self, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import numpy as np

        stages = self._stages
        self.check_recipe(run.original_recipe())
        size = _size(run.fresh())
        for line in stages.told(size):
            run.tell(line)
        if data.normalised_by_its_own:
            run.tell(
                "warning: inputs are normalised by statistics of all samples, which no deletion "
                "changes; where that counts, give constants (Data.with_normalisation)"
            )
        run.kept.expect(size * self.shards * self.slices)
        first = np.zeros(self.shards, dtype=np.int64)
        return self._taught(self.built(run.fresh), data, run, first, self._places(data, run))

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import numpy as np
        import torch

        stages, recipe = self._stages, run.original_recipe()
        self.check_recipe(recipe)
        places = self._places(data, run)
        now = stages.counts(*places)
        before = run.kept.read(COUNTS).get("count", torch.empty(0)).numpy()
        if before.shape != now.shape:
            raise ModelError(f"what {run.label} kept is of another training; {LOST}")
        # what is retained only ever shrinks, so as many samples are the same samples, unless a column
        # says where they are
        changed = before != now
        if self.group is not None and OF_IDS in run.kept.names():
            changed |= self._struck(data, run, places)
        first = np.where(changed.any(1), changed.argmax(1), self.slices)
        size = _size(cast("Ensemble", model).members[0])
        told = stages.again(first, now, recipe, size)
        run.tell(told.line)
        run.kept.expect(size * self.shards * self.slices)
        run.log.update(told.log)
        if told.warning:
            run.log.setdefault("warnings", []).append(told.warning)
        return self._taught(cast("Ensemble", model), data, run, first, places)

    @property
    def _stages(self) -> Stages:
        from expunge.methods.shared.stages import Stages

        return Stages(self.shards, self.slices)

    def _places(self, data: DataView, run: Run, part: Part = Part.RETAIN) -> Places:
        """Shard and slice of each sample of a part (n,)."""
        from expunge.data.keyed import hashes_of

        return self._stages.place(hashes_of(data.keys(part, self.group), *run.names, "shards"))

    def _sums(self, data: DataView, run: Run, part: Part, places: Places) -> NDArray[np.uint64]:
        """Which samples of a part each slice has, whatever their order: (shards, slices)."""
        from expunge.data.keyed import hashes_of

        hashes = hashes_of(data.keys(part), *run.names, "who")
        return self._stages.sums(hashes, *places)

    def _struck(self, data: DataView, run: Run, places: Places) -> NDArray[np.bool_]:
        """Which slices had samples that are to be forgotten: (shards, slices). Raises ModelError where
        they are not what is retained and what is forgotten together.
        """
        import numpy as np

        before = run.kept.read(OF_IDS).get("sums")
        was = np.empty(0) if before is None else before.numpy().view(np.uint64)
        now = self._sums(data, run, Part.RETAIN, places)
        gone = self._sums(data, run, Part.FORGET, self._places(data, run, Part.FORGET))
        if was.shape != now.shape or (was != now + gone).any():
            raise ModelError(
                f"column {self.group!r} does not read as it did when {run.label} trained this model, so "
                "other samples are in its slices; give the data as they were, or train anew"
            )
        found: NDArray[np.bool_] = was != now
        return found

    def _taught(
        self,
        model: Ensemble,
        data: DataView,
        run: Run,
        first: NDArray[np.int64],
        places: Places,
    ) -> Ensemble:
        """The ensemble, with the stages of each shard done from `first` (shards,) on.

        places: shard and slice of each retain sample.
        """
        import torch

        from expunge.models.state import load_packed, packed_state

        shard_of, slice_of = places
        counts, left = self._stages.counts(shard_of, slice_of), int((self.slices - first).sum())
        losses: list[float] = []
        with run.progress.work(f"{run.label}, all stages", max(left, 1), unit="stages") as bar:
            for shard in (first < self.slices).nonzero()[0].tolist():
                start = int(first[shard])
                member = run.fresh("shard", shard)
                if start:
                    name = _kept(shard, start - 1)
                    with reading(f"what is kept as {name}", LOST, ModelError):
                        load_packed(member, run.kept.read(name))
                for stage in range(start, self.slices):
                    mine = (shard_of == shard) & (slice_of <= stage)
                    if mine.any():
                        name = f"shard {shard + 1}, stage {stage + 1}"
                        losses.append(self._learn(member, data, run, mine, stage, name))
                    if stage < self.slices - 1:  # the last one is in the ensemble
                        run.kept.write(_kept(shard, stage), packed_state(member))
                    bar.advance()
                model.members[shard] = member
        if losses and not first.any():  # one number: those of stages would tell who was in them
            run.log["mean_loss_of_stages"] = sum(losses) / len(losses)
        model.taught.copy_(torch.from_numpy(counts.any(1)))
        run.kept.write(COUNTS, {"count": torch.from_numpy(counts)})
        if self.group is not None:
            sums = self._sums(data, run, Part.RETAIN, places).view("int64")
            run.kept.write(OF_IDS, {"sums": torch.from_numpy(sums)})
        return model

    def _learn(
        self,
        member: nn.Module,
        data: DataView,
        run: Run,
        mine: NDArray[np.bool_],
        stage: int,
        name: str,
    ) -> float:
        """One stage of a shard, in place; its last loss. mine: which retain samples it learns, (n,)."""
        from expunge.training.fit import fit

        recipe = self._stages.recipe(run.original_recipe(), stage)
        source = data.by_id().named(name).some(Part.RETAIN, mine)
        fitted = fit(
            member,
            lambda epoch: source.batches(recipe.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=recipe,
            run=run,
            name=name,
        )
        run.log["precision"] = fitted.precision
        return fitted.losses[-1]


def _size(member: nn.Module) -> int:
    """Bytes of a checkpoint."""
    return sum(one.nbytes for one in member.state_dict().values())


def _kept(shard: int, stage: int) -> str:
    """The group of a checkpoint."""
    return f"shard-{shard + 1}-stage-{stage + 1}"
