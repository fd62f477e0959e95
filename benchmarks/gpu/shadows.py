"""Stacked shadow training: models of a bank trained at once, beside one after another."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from stacked import contest, original

from expunge.place import Place
from expunge.shadows.stacked import why_not
from gpu.child import Asked, Tell
from gpu.parts import FailedError, LeftOutError
from gpu.training import timed

FULL = {
    "mlp": ((1, 8, 8), 64, 60, (4, 16)),
    "cnn": ((3, 32, 32), 64, 30, (4, 16)),
    "resnet20": ((3, 32, 32), 64, 15, (4, 16)),
    "resnet18": ((3, 32, 32), 64, 10, (4,)),
}
TINY = {"mlp": ((1, 8, 8), 64, 4, (2,))}
"""Architecture -> shape of an input, batch size, steps of a timing, models at once."""
ROUNDS = 3


def run(asked: Asked, tell: Tell) -> None:
    """Time each network at each number of models, until the time is over."""
    device, place = torch.device(asked.device), Place(device=asked.device)
    rows: list[dict[str, Any]] = []
    refused = []
    for name, (shape, size, steps, counts) in (TINY if asked.tiny else FULL).items():
        made = original(name, shape, size, place)
        if (why := why_not(made, 2, place)) is not None:
            refused.append(f"{name}: {why}")  # a step at once is not that of each alone
            continue
        for count in counts:
            if asked.left() <= 0:
                raise LeftOutError(f"time: over at {name}, {count} models; the rest was not run")
            works = contest(made, count, steps, place)
            meters = {
                what: [timed(lambda _, work=work: work(), 1, device) for _ in range(ROUNDS + 1)][1:]
                for what, work in works.items()  # the first of each prepares kernels
            }
            alone, at_once = (
                statistics.median(one.seconds for one in meters[what]) for what in works
            )
            rows.append(
                {
                    "model": name,
                    "models_at_once": count,
                    "ms_a_step_alone": 1000 * alone / steps,
                    "ms_a_step_and_model_at_once": 1000 * at_once / steps / count,
                    "times_faster": alone * count / at_once,
                    "peak_memory_mib": max(one.peak_memory_bytes for one in meters["at_once"])
                    / 2**20,
                }
            )
            tell({"networks": rows})
    if refused:
        raise FailedError("\n".join(refused))
