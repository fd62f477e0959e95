"""From where on a detector's statistic is suspect: fixed on models that were made for it.

`benchmarks/detection.py calibrate` makes these models and prints what stands here; the models that are
judged, and those that false alarms are counted on (`benchmarks/detection.py measure`), are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from expunge.audits.counts import clopper_pearson


class Threshold(NamedTuple):
    """value: of the statistic. clean: how many clean models it was fixed on. alarms: how many of so many
    other clean models it then suspected; None where nobody measured it.
    """

    value: float
    clean: int
    alarms: tuple[int, int] | None = None

    def told(self) -> str:
        """How often a clean model is suspected, with the exact 95 % interval, or that nobody knows."""
        if self.alarms is None:
            return "not measured"
        count, asked = self.alarms
        low, high = clopper_pearson(count, asked)
        return f"{count} of {asked} ({100 * low:.0f} to {100 * high:.0f} %)"


THRESHOLDS: Mapping[str, Threshold] = {
    "inversion": Threshold(4.0, 0),
    "activation_clustering": Threshold(0.08, 0),
    "spectral": Threshold(0.06, 0),
    "strip": Threshold(0.05, 0),
}
