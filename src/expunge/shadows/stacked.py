"""Several small networks trained as one: parameters and buffers have one more axis, the first.

Each has its own batches, its own augmentation and its own clipping, and comes out as if it had been
trained alone: the optimiser works number by number, and the schedule is the same for all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn.parameter import is_lazy

from expunge.data.batch import Batch
from expunge.data.parts import Part
from expunge.data.tokens import TokenStore
from expunge.data.view import Stream
from expunge.errors import DivergenceError
from expunge.models.copying import copied
from expunge.place import HERE, Place
from expunge.shadows.training import session_on
from expunge.trained.trained import Trained
from expunge.training.fit import fit
from expunge.training.loop import EXPLOSION, SMALLEST_START
from expunge.training.precision import resolve_precision
from expunge.training.run import Run, cards
from expunge.training.session import Session

TRIED = 2
"""Models, and samples of each, on which it is tried whether a network can be stacked: twice as many."""
EXACT, TOLERANCE = 1e-6, 1e-3
"""By how much a gradient may differ, against the largest of a tensor: in float64, and in float32."""
ZERO = 1e-7
"""What counts as no difference, whatever the size."""


class Stack(nn.Module):
    """Networks of one architecture as one module, whose parameters are (networks, *shape)."""

    def __init__(self, networks: Sequence[nn.Module]) -> None:
        super().__init__()
        self._one = (
            copied(networks[0]).train(),
        )  # in a tuple: its weights are none of the stack's
        parameters, buffers = stack_module_state(list(networks))
        for name, value in parameters.items():
            self.register_parameter(stacked_name(name), nn.Parameter(value.detach()))
        for name, value in buffers.items():
            self.register_buffer(stacked_name(name), value)

    def losses(self, run: Run, batches: Sequence[Batch]) -> Tensor:
        """(networks,): the mean loss of each network on its own batch; all batches are equally large."""
        one = self._one[0]

        def loss(state: Mapping[str, Tensor], inputs: Tensor, labels: Tensor) -> Tensor:
            def network(*args: Any, **kwargs: Any) -> Any:
                return functional_call(one, dict(state), args, kwargs)

            batch = Batch(batches[0].ids, inputs, labels, batches[0].part)
            found: Tensor = run.loss(network, batch)  # type: ignore[arg-type]  # it is only called
            return found

        inputs = torch.stack([batch.inputs for batch in batches])
        labels = torch.stack([batch.labels for batch in batches if batch.labels is not None])
        state = {name: getattr(self, stacked_name(name)) for name in _names(one)}
        found: Tensor = vmap(loss)(state, inputs, labels)
        return found

    def norms(self) -> Tensor:
        """(networks,): Euclidean norm of each network's parameters."""
        return _norms([parameter.detach() for parameter in self.parameters()])

    def into(self, networks: Sequence[nn.Module]) -> None:
        """Write each network's share back into it."""
        with torch.no_grad():
            for number, network in enumerate(networks):
                for name, value in (*network.named_parameters(), *network.named_buffers()):
                    value.copy_(getattr(self, stacked_name(name))[number])


def stacked_name(name: str) -> str:
    """What a parameter or buffer is called in a stack: no module may have a dot in such a name."""
    return name.replace(".", "/")


def _names(network: nn.Module) -> list[str]:
    own = (*network.named_parameters(), *network.named_buffers())
    return [name for name, _ in own]


def _norms(tensors: Sequence[Tensor]) -> Tensor:
    """(networks,): of tensors (networks, ...) together."""
    each = [torch.linalg.vector_norm(one.flatten(1), dim=1) for one in tensors]
    whole: Tensor = torch.linalg.vector_norm(torch.stack(each), dim=0)
    return whole


@dataclass(frozen=True)
class _Together:
    """Batches of one epoch, a tuple a step: one of each network."""

    streams: Sequence[Stream]

    def __len__(self) -> int:
        return len(self.streams[0])

    def __iter__(self) -> Iterator[tuple[Batch, ...]]:
        return zip(*self.streams, strict=True)


def train_stacked(
    sessions: Sequence[Session], networks: Sequence[nn.Module], *, steps: int | None = None
) -> None:
    """Train untrained networks in place, each as `train_from` would in its session.

    sessions: whose retain sets are equally large; `why_not` says which can be stacked. steps: only so
    many.

    Raises DivergenceError where one of them diverges; all are then as they were.
    """
    run = sessions[0].run
    recipe = run.original_recipe()
    stack = Stack(networks)
    mask = {
        stacked_name(name): kept.expand(len(networks), *kept.shape)
        for name, kept in (run.mask or {}).items()
    }
    start = stack.norms().clamp_min(SMALLEST_START)

    def check(_: nn.Module, epoch: int) -> None:
        if not bool((stack.norms() <= EXPLOSION * start).all()):
            raise DivergenceError(f"{run.label}: the weights of one explode in epoch {epoch + 1}")

    fit(
        stack,
        lambda epoch: _Together(
            [one.view.batches(Part.RETAIN, recipe.batch_size, epoch=epoch) for one in sessions]
        ),
        lambda _, batches, __: stack.losses(run, batches).sum(),
        recipe=recipe.but(clip_norm=None, precision="float32"),  # each is clipped by itself
        run=replace(run, label=f"{len(networks)} models at once", mask=mask or None),
        after_backward=None if recipe.clip_norm is None else _clipping(recipe.clip_norm),
        after_epoch=check,
        steps=steps,
    )
    stack.into(networks)


def _clipping(most: float) -> Callable[[nn.Module, Any, float], None]:
    """Bounds the whole gradient of each network, as torch does that of one."""

    def clip(stack: nn.Module, *_: Any) -> None:
        gradients = [one.grad for one in stack.parameters() if one.grad is not None]
        factors = (most / (_norms(gradients) + 1e-6)).clamp_max(1)
        for gradient in gradients:
            gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))

    return clip


def why_not(original: Trained, models: int, place: Place = HERE) -> str | None:
    """Why models like this cannot be trained as one, in a few words; None where they can.

    A step of a few of them is tried both ways, for nobody can tell by looking whether a module of
    somebody's own can be stacked.
    """
    recipe, data = original.recipe, original.data
    if recipe is None or original.fresh is None:
        return "nobody knows how it was trained"
    known = {
        "there is only one": models < 2,
        "a method took part in its training": original.trained_by is not None,
        "its schedule watches a validation loss of each": recipe.schedule == "plateau",
        "its recipe compiles the model": recipe.compile,
        "its batches are single samples": recipe.batch_size < 2,
        "its inputs are texts of different lengths": isinstance(data.train.store, TokenStore),
    }
    found = next((why for why, holds in known.items() if holds), None)
    if found is not None:
        return found
    sessions = trial_sessions(original, TRIED, place)
    run = sessions[0].run
    if run.world > 1:
        return "several processes share the work"
    networks = [one.run.fresh() for one in sessions]
    if resolve_precision(recipe.precision, networks[0], run.device) != "float32":
        return "it trains in bfloat16"
    if any(is_lazy(one) or not one.requires_grad for one in networks[0].parameters()):
        return "some of its parameters are frozen, or have no shape yet"
    return _differs(sessions, networks)


def trial_sessions(original: Trained, count: int, place: Place) -> list[Session]:
    """Sessions of so many models, whose results nobody keeps."""
    split, what = original.split.whole_again(), "trying how to train models"
    return [
        session_on(original, split, ("stacked", number), place, what) for number in range(count)
    ]


def _differs(sessions: Sequence[Session], networks: Sequence[nn.Module]) -> str | None:
    """What is wrong with a stacked step of these networks; None if it is what each does alone."""
    run, size = sessions[0].run, 2 * TRIED
    batches = [next(iter(one.view.batches(Part.RETAIN, size))) for one in sessions]
    if not all(isinstance(one.inputs, Tensor) for one in batches):
        return "an input is more than one tensor"
    batches = [replace(one, inputs=one.inputs[:size], labels=one.labels[:size]) for one in batches]  # type: ignore[index]
    with torch.random.fork_rng(devices=cards(run.device)):
        try:  # in float64, where two orders of one sum differ by nothing that matters
            exact = [replace(one, inputs=one.inputs.double()) for one in batches]
            doubled = [copied(one).double() for one in networks]
            alone = [_step(one, batch, run) for one, batch in zip(doubled, exact, strict=True)]
            tolerance = EXACT
        except Exception:  # it takes float32 alone
            doubled, exact, tolerance = list(networks), batches, TOLERANCE
            alone = [_step(one, batch, run) for one, batch in zip(networks, batches, strict=True)]
        try:
            stack = Stack(doubled).train()
            stack.losses(run, exact).sum().backward()  # type: ignore[no-untyped-call]
        except Exception as error:  # whatever a module of somebody's own raises
            told = str(error).strip().splitlines() or [""]
            if "randomness" in told[0]:  # what vmap says of dropout and the like
                return "its layers draw at random, and each alone would draw otherwise"
            return f"torch cannot stack its layers ({type(error).__name__}: {told[0][:200]})"
    for number, network in enumerate(alone):
        for name, own in (*network.named_parameters(), *network.named_buffers()):
            other = getattr(stack, stacked_name(name))
            both = [own, other] if own.grad is None else [own.grad, other.grad]
            if not _near(both[0], both[1][number], tolerance):
                return f"a step of several at once is not what each does alone (in {name!r})"
    return None


def _step(network: nn.Module, batch: Batch, run: Run) -> nn.Module:
    """A copy that has the gradients of one batch."""
    network = copied(network).train()
    run.loss(network, batch).backward()  # type: ignore[no-untyped-call]
    return network


def _near(a: Tensor, b: Tensor, tolerance: float) -> bool:
    """Whether two tensors differ by little, against the largest entry of the first."""
    a, b = a.detach().double(), b.detach().double()
    most = float(a.abs().max()) if a.numel() else 0.0
    return bool(((a - b).abs() <= tolerance * most + ZERO).all())
