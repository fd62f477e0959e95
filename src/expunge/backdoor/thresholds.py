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


# Half as much again as the highest of so few clean models of mnist:5000 (seeds 0, 1, 2; `cnn`, ten
# epochs); the campaign puts better founded ones in their place.
THRESHOLDS: Mapping[str, Threshold] = {
    "inversion": Threshold(4.0, 2),
    "activation_clustering": Threshold(0.12, 3),
    "spectral": Threshold(0.056, 3),
    "strip": Threshold(0.05, 1),
}
