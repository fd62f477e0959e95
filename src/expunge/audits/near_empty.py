"""Forget sets too small for a verdict: look at each sample instead."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.audits.outputs import Outputs, PartOutputs
from expunge.errors import SplitError


@dataclass(frozen=True)
class SampleLoss:
    """Cross-entropy in nats of one forget sample, and the retrained model's; None without one."""

    id: str
    label: int
    loss: float
    reference_loss: float | None


def near_empty_report(outputs: Outputs, reference: Outputs | None = None) -> list[SampleLoss]:
    """Each forget sample's loss beside the retrained model's, in the order of `outputs.forget`.

    Empty without forget samples. A loss far under the retrained model's says that the sample is
    still remembered; one far above, that it is conspicuously forgotten.

    Raises:
        SplitError: if the reference was observed on other forget samples.
    """
    part = outputs.forget
    if part is None or part.n == 0:
        return []
    beside = _losses_by_id(part, reference) if reference is not None else {}
    rows = zip(part.ids, part.labels.tolist(), part.losses.tolist(), strict=True)
    return [SampleLoss(id_, label, loss, beside.get(id_)) for id_, label, loss in rows]


def check_same_samples(name: str, part: PartOutputs | None, other: PartOutputs | None) -> None:
    """Refuse a reference observed on other samples; a part that either lacks is not compared.

    Raises:
        SplitError: if both have samples and their ids differ.
    """
    if part is None or other is None or part.n == 0 or other.n == 0:
        return
    if part.ids == other.ids:
        return
    if sorted(part.ids) != sorted(other.ids):
        odd = sorted(set(part.ids) ^ set(other.ids))[:3]
        raise SplitError(
            f"the reference's {name} part holds other samples ({other.n} against {part.n}, for "
            f"example {', '.join(odd) or 'a repeated id'}): pass a model retrained on this split"
        )


def _losses_by_id(part: PartOutputs, reference: Outputs) -> dict[str, float]:
    other = reference.forget
    check_same_samples("forget", part, other)
    return {} if other is None else dict(zip(other.ids, other.losses.tolist(), strict=True))
