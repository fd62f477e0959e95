"""What a method is given besides the model and the data."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch
from expunge.data.task import Classification, Task
from expunge.errors import ConfigError
from expunge.models.copying import copied
from expunge.models.mask import Mask
from expunge.names.seeds import seed_for
from expunge.progress import Reporter, Silent
from expunge.training.cost import Account
from expunge.training.kept import Kept
from expunge.training.pace import Pace
from expunge.training.precision import resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.rehearsal import Rehearsal
from expunge.training.statistics import Statistics

if TYPE_CHECKING:
    from accelerate import Accelerator

T = TypeVar("T")

__all__ = ["Mask", "Run", "accelerator_on", "cards", "check_here"]


def _card() -> torch.device | None:
    """The kind of accelerator that this machine has, if any."""
    return torch.accelerator.current_accelerator(check_available=True)


def check_here(device: str | None) -> None:
    """Raise ConfigError for a kind of device that this machine has not."""
    found = _card()
    if device not in (None, "cpu", found.type if found is not None else "cpu"):
        raise ConfigError(
            f"no device {device!r} here; there is cpu{f' and {found.type}' if found else ''}"
        )


@functools.lru_cache(maxsize=4)
def accelerator_on(device: str | None) -> Accelerator:
    """The accelerate object for this process; `torchrun` makes it one of several.

    device: "cpu", "cuda", or None for the best there is. Precision is the recipe's affair, so
    accelerate is always asked for none.
    """
    from accelerate.state import is_initialized
    from accelerate.utils import DistributedDataParallelKwargs

    from expunge.training.own_device import OwnDevice

    check_here(device)
    found = _card()
    # buffers are averaged at the end of `fit`; broadcasting them in the middle of a step would break
    # a loss of two forward passes
    ddp = DistributedDataParallelKwargs(broadcast_buffers=False)
    # several CPU processes find each other only if a CPU is asked for
    cpu = device == "cpu" or found is None
    own = torch.device("cpu") if cpu or found is None else torch.device(found.type)
    # once its state stands, accelerate refuses to be told of a processor where it has a card
    made = OwnDevice(
        own, cpu=cpu and not is_initialized(), mixed_precision="no", kwargs_handlers=[ddp]
    )
    if made.device.type != own.type:
        raise ConfigError(
            f"the processes of this run compute on {made.device.type} already; ask for that device "
            "throughout, or start them anew"
        )
    return made


def cards(device: torch.device) -> list[int]:
    """Numbers of the graphics cards whose random stream `fork_rng` must keep; none for a processor.

    A seed that is set for the processor is set for the cards, too.
    """
    if device.type != "cuda":
        return []
    return [torch.cuda.current_device() if device.index is None else device.index]


@dataclass(frozen=True)
class Run:
    """Device, task, seeds and constructors for one training or unlearning run.

    names: seed names of the run, such as ("unlearn", "finetune", 0).
    label: what to call it in progress and in errors.
    recipe: the recipe of the original model, None where it is not known.
    constructor: makes an untrained model, seeded by the caller.
    mask: of a sparse model; `fit` holds it, methods never mention it.
    log: plain values for the record. artifacts: tensors that a picture may show; not recorded.
    kept: what a method that takes part in training keeps beside its model. account: what the run
    reads, and its meter. shown: called with what a person should read before the work begins.
    statistics: what is kept of the original; None in trials, whose costs are compared.
    rehearsal: where it is only a rehearsal, whose results mean nothing: they must not be kept.
    """

    names: tuple[str | int, ...] = ("run", 0)
    label: str = "run"
    task: Task = field(default_factory=Classification)
    recipe: Recipe | None = None
    constructor: Callable[[], nn.Module] | None = None
    mask: Mask | None = None
    progress: Reporter = field(default_factory=Silent)
    accelerator: Accelerator = field(default_factory=lambda: accelerator_on(None))
    log: dict[str, Any] = field(default_factory=dict)
    artifacts: dict[str, Tensor] = field(default_factory=dict)
    kept: Kept = field(default_factory=Kept)
    account: Account = field(default_factory=Account)
    shown: Callable[[str], object] = str
    statistics: Statistics | None = None
    rehearsal: Rehearsal | None = None

    @property
    def device(self) -> torch.device:
        """Where this process computes."""
        device: torch.device = self.accelerator.device
        return device

    @property
    def rank(self) -> int:
        """Number of this process, from 0."""
        return int(self.accelerator.process_index)

    @property
    def world(self) -> int:
        """How many processes there are."""
        return int(self.accelerator.num_processes)

    def seed_for(self, *names: str | int) -> int:
        """A seed that hashes the run's names and these."""
        return seed_for(*self.names, *names)

    def original_recipe(self) -> Recipe:
        """The original's recipe.

        Raises ConfigError where it is not known: it is never guessed.
        """
        if self.recipe is None:
            raise ConfigError(
                f"{self.label} trains as the original was trained, and this model comes without a "
                "recipe: give it one with `expunge import --recipe FILE`, or recipe=Recipe(...)"
            )
        return self.recipe

    def fresh(self, *names: str | int) -> nn.Module:
        """An untrained model on the device, its weights drawn by this run's seed (and `names`)."""
        if self.constructor is None:
            raise ConfigError(
                f"{self.label} starts from untrained weights, and nobody said how to make them: "
                "pass fresh=..., a function that returns a new model"
            )
        with torch.random.fork_rng(devices=cards(self.device)):
            torch.manual_seed(self.seed_for("weights", *names))
            model = self.constructor()
        return model.to(self.device)

    def teacher(self, model: nn.Module) -> nn.Module:
        """A copy of `model` to learn from: evaluation mode, no gradients, nothing shared with it."""
        return copied(model).to(self.device).eval().requires_grad_(False)

    def loss(self, model: nn.Module, batch: Batch) -> Tensor:
        """Mean loss over the global batch, as this process's share of it."""
        return self.mean(self.task.losses(model, batch), batch)

    def mean(self, per_sample: Tensor, batch: Batch) -> Tensor:
        """Mean over the global batch of a value per sample (batch,), as this process's share of it.

        Raises ConfigError for another shape: a mean over classes too would hide a factor.
        """
        if per_sample.shape != (len(batch),):
            raise ConfigError(
                f"{self.label}: a value per sample has shape ({len(batch)},) for this batch, not "
                f"{tuple(per_sample.shape)}; sum over the other axes first"
            )
        mean = per_sample.mean()
        return mean if batch.weight == 1.0 else mean * batch.weight

    def sum(self, tensor: Tensor) -> Tensor:
        """Sum over processes."""
        if self.world == 1:
            return tensor
        reduced: Tensor = self.accelerator.reduce(tensor, reduction="sum")
        return reduced

    def statistic(
        self, name: str, model: nn.Module, take: Callable[[], Mapping[str, Tensor]], **settings: str
    ) -> Mapping[str, Tensor]:
        """A statistic of `model` over retain and forget set together. It is taken once for its weights
        and these samples, and kept beside the original: a further request reads nothing for it.

        name: of lower-case letters and _; say so in the record's log. take: makes it, parameter name ->
        tensor of its shape and type, for all that are trained. settings: on which it depends too. It is
        kept apart for bfloat16 and float32, whichever `precision="auto"` means here. Several processes
        call this alike.
        """
        if self.statistics is None:
            return take()

        def everywhere(here: bool) -> bool:
            return int(self.sum(torch.tensor(int(here), device=self.device))) == self.world

        found, self.log.setdefault("statistics", {})[name] = self.statistics.get(
            name,
            model,
            take,
            {**settings, "precision": resolve_precision("auto", model, self.device)},
            everywhere=everywhere,
            writes=self.rank == 0,
        )
        return found

    def gathered(self, rows: Tensor, batch: Batch) -> Tensor:
        """All processes' rows of a batch of one part, in its order, without gradient.

        rows: (batch, ...) of this process; those of the whole batch come out, alike in each process.
        """
        rows = rows.detach()
        if self.world == 1:
            return rows
        own = len(rows) if batch.weight else 0  # a stand-in has no place of its own
        total = int(self.sum(torch.tensor(own, device=rows.device)))
        whole = rows.new_zeros(total, *rows.shape[1:])
        whole[self.rank :: self.world] = rows[:own]
        return self.sum(whole)

    def steps(self, batches: Callable[[int], Iterable[T]], count: int) -> Iterator[T]:
        """The first `count` batches of epoch after epoch, for a loop of a method's own.

        batches: epoch -> its batches. A rehearsal hands out only some, and books the rest.
        """
        pace = Pace(0, count)
        if self.rehearsal is not None:
            return iter(self.rehearsal.training(batches, pace))
        epochs = (batches(epoch) for epoch in pace.rounds())
        return itertools.islice(itertools.chain.from_iterable(epochs), count)

    def only_reported(self) -> AbstractContextManager[None]:
        """For what a method computes only to record it: no part of what its result costs.

        While it lasts the meter stands still, and what is read is counted apart, in
        `Cost.reported_seconds` and `Cost.reported_reads`. It does nothing where nobody measures.
        Several processes enter it alike.
        """
        return self.account.only_reported()

    def tell(self, line: str) -> None:
        """Say something before the work begins, such as what it will cost; the record has it, too."""
        self.log.setdefault("told", []).append(line)
        if self.rank == 0:
            self.shown(line)

    def named(self, name: str) -> Run:
        """The same run for a part of its work: seeds of its own, and progress says its name."""
        return replace(self, names=(*self.names, name), label=f"{self.label} ({name})")
