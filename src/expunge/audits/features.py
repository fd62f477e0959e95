"""What goes into a model's last linear layer: what the model sees in a sample."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from expunge.data.batch import Batch, Indices
from expunge.data.samples import Samples
from expunge.data.task import logits_of_task
from expunge.data.transform import Transform
from expunge.errors import HeadError
from expunge.names.seeds import torch_generator
from expunge.training.loop import evaluating
from expunge.training.run import Run

FEATURE_BATCH = 256


def head_name(model: nn.Module) -> str:
    """Name of the last linear layer. Raises HeadError for a model without one."""
    names = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    if not names:
        raise HeadError(
            "the model has no linear layer as its head, and a linear probe and transfer need one; "
            "leave them out"
        )
    return str(names[-1])


def features(
    model: nn.Module,
    samples: Samples,
    transform: Transform,
    run: Run,
    *,
    rows: Indices | None = None,
    most: int | None = None,
) -> Tensor:
    """What goes into the head: (n, features), float32 on the CPU, in evaluation mode.

    rows: of the samples; all of them by default. most: wider features are brought to so many by
    `narrowed`, a batch at a time, so that no more are held.

    Raises HeadError where no linear layer gives the logits. The model comes back as it was.
    """
    import numpy as np

    head = model.get_submodule(head_name(model))
    going_in: list[Tensor] = []

    def keep(_: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        going_in.append(inputs[0].detach().flatten(1).float().cpu())

    rows = np.arange(len(samples)) if rows is None else rows
    batches = [rows[start : start + FEATURE_BATCH] for start in range(0, len(rows), FEATURE_BATCH)]
    found = []
    hook = head.register_forward_pre_hook(keep)
    device = next((p.device for p in model.parameters()), run.device)
    model.to(run.device)
    try:
        with evaluating(model), torch.no_grad():
            for index, raw in zip(batches, samples.store.stream(batches, run.device), strict=True):
                labels = torch.from_numpy(samples.labels[index]).to(run.device)
                batch = Batch(samples.ids[index], transform(raw), labels, None)
                logits = logits_of_task(run.task.observe(model, batch))
                if len(going_in) != 1 or logits.shape != (len(going_in[0]), head.out_features):
                    raise HeadError(
                        "the model's last linear layer does not give its class logits, so what goes "
                        "into it is not what they come from; a linear probe and transfer need that: "
                        "leave them out"
                    )
                found.append(narrowed(going_in.pop(), most))
    finally:
        hook.remove()
        model.to(device)
    return torch.cat(found)


def narrowed(wide: Tensor, most: int | None) -> Tensor:
    """Features (n, wide) as (n, most): each is added to one of `most` sums, with a sign of its own.

    Place and sign are drawn at random, the same for every model of that width (a count sketch:
    Charikar et al. 2002), so that inner products stay near what they were. Features that are no more
    than `most` are handed back.
    """
    width = wide.shape[1]
    if most is None or width <= most:
        return wide
    generator = torch_generator("narrowed", width, most)
    place = torch.randint(most, (width,), generator=generator)
    sign = 2 * torch.randint(2, (width,), generator=generator) - 1
    return torch.zeros(len(wide), most, dtype=wide.dtype).index_add_(1, place, wide * sign)
