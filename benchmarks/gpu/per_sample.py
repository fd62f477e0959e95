"""Per-sample work: the fast way beside batches of one, seconds and the largest difference."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from per_sample import batch_of, loop, trained
from torch import Tensor, nn

from expunge import Run
from expunge.errors import ConfigError
from expunge.per_sample import fisher_diagonal, gradient_products, per_sample_gradients
from expunge.training.loop import evaluating
from expunge.training.run import accelerator_on
from gpu.child import Asked, Tell
from gpu.parts import FailedError, LeftOutError
from gpu.training import timed

FULL = {"cnn": (256, 32), "resnet20": (256, 24), "resnet18": (64, 8)}
TINY = {"cnn": (16, 4)}
"""Model -> samples that the fast way is timed on, and batches of one."""

LIMITS = {"gradients": 1e-3, "Fisher diagonal": 3e-2, "products": 1e-3}
"""Difference allowed, relative to the largest entry: of float32, and where the diagonal's products are
bfloat16, of that."""


@dataclass(frozen=True)
class Contest:
    """Two ways to the same numbers: (images) -> name -> tensor."""

    what: str
    fast: Callable[[Tensor], Mapping[str, Tensor]]
    slow: Callable[[Tensor], Mapping[str, Tensor]]
    samples: int
    by_sample: bool = True
    """Whether the first axis counts samples."""


def run(asked: Asked, tell: Tell) -> None:
    """Time and compare every contest on every model, until the time is over."""
    device = torch.device(asked.device)
    rows: list[dict[str, Any]] = []
    wrong = []
    for name, (many, few) in (TINY if asked.tiny else FULL).items():
        model, images = trained(name, asked.device, many)
        here = Run(names=("check", 0), accelerator=accelerator_on(asked.device))
        for contest in contests(model, here, many):
            if asked.left() <= 0:
                raise LeftOutError(f"time: over at {name}, {contest.what}; the rest was not run")
            rows.append(compare(contest, images, few, device, name))
            tell({"contests": rows})
            if not rows[-1]["difference"] <= LIMITS[contest.what]:
                wrong.append(f"{name}: {contest.what}: the two ways differ, see the table")
        wrong += unfit(model, images, here, name)
    if wrong:
        raise FailedError("\n".join(wrong))


def contests(model: nn.Module, run: Run, many: int) -> list[Contest]:
    """What is compared. All of a big model's gradients at once would not fit, so fewer are taken."""
    generator = torch.Generator().manual_seed(0)
    vector = {
        name: torch.randn(p.shape, generator=generator).to(p)
        for name, p in model.named_parameters()
    }

    def gradients(images: Tensor, engine: Any) -> Mapping[str, Tensor]:
        return per_sample_gradients(model, batch_of(images), run, engine=engine)

    def slow_diagonal(images: Tensor) -> Mapping[str, Tensor]:
        with evaluating(model):  # in exact float32, as the fast way's forward passes
            return loop(model, images)

    def slow_products(images: Tensor) -> Mapping[str, Tensor]:
        rows = gradients(images, "loop")
        along = [(rows[name] * vector[name]).flatten(1).sum(1) for name in vector]
        return {"products": torch.stack(along).sum(0)}

    return [
        Contest(
            "gradients",
            lambda images: gradients(images, "auto"),
            lambda images: gradients(images, "loop"),
            min(many, 32),
        ),
        Contest(
            "Fisher diagonal",
            lambda images: fisher_diagonal(model, [batch_of(images)], run),
            slow_diagonal,
            many,
            by_sample=False,
        ),
        Contest(
            "products",
            lambda images: {"products": gradient_products(model, [batch_of(images)], run, vector)},
            slow_products,
            many,
        ),
    ]


def compare(
    contest: Contest, images: Tensor, few: int, device: torch.device, name: str
) -> dict[str, Any]:
    """Seconds of a sample each way, and how far the results on the same samples are apart."""
    some = images[:few]
    fast, slow = contest.fast(some), contest.slow(some)  # also the first call, which is not timed
    largest = max(float(value.abs().max()) for value in slow.values())
    apart = differences(fast, slow, by_sample=contest.by_sample)
    del fast, slow
    contest.fast(images[: contest.samples])
    quick = timed(lambda _: contest.fast(images[: contest.samples]), 0, device)
    plain = timed(lambda _: contest.slow(some), 0, device)
    each, one = quick.seconds / contest.samples, plain.seconds / len(some)
    return {
        "model": name,
        "what": contest.what,
        "samples": contest.samples,
        "milliseconds_a_sample": 1000 * each,
        "one_by_one": 1000 * one,
        "times_faster": one / each,
        "difference": float(apart.quantile(0.9, interpolation="lower")) / largest,
        "largest_difference": float(apart.max()) / largest,
        "limit": LIMITS[contest.what],
        "peak_memory_mib": quick.peak_memory_bytes / 2**20,
    }


def differences(
    fast: Mapping[str, Tensor], slow: Mapping[str, Tensor], *, by_sample: bool
) -> Tensor:
    """The largest difference of each sample's numbers, (n,); or of all, (1,).

    What is judged is what nine in ten samples stay under. Two ways of the same rounding differ much in a
    rare sample all the same: where two pixels under a max-pooling, or a value and a rectifier's 0, are
    alike to the last digit, each way may take another for the larger. Coarse arithmetic shows in every
    sample, and an error in few alone shows in the tests, which compare in float64.
    """
    apart = [
        (fast[key] - value).abs().reshape(len(value) if by_sample else 1, -1).amax(1)
        for key, value in slow.items()
    ]
    return torch.stack(apart).amax(0)


def unfit(model: nn.Module, images: Tensor, run: Run, name: str) -> list[str]:
    """Why the fastest engine cannot follow the model here; "auto" would say so by its speed alone."""
    try:
        fisher_diagonal(model, [batch_of(images[:4])], run, labels="true", engine="hooks")
    except ConfigError as error:
        return [f"{name}: {error}"]
    return []
