"""From where on a detector's statistic is suspect: fixed on models that were made for it.

`benchmarks/detection.py run --group calibration` makes these models, and `thresholds` prints what stands
here; the models that false alarms are counted on (`--group measured`) are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from expunge.audits.counts import clopper_pearson


def share_told(alarms: tuple[int, int] | None) -> str:
    """How many of how many models are suspected, with the exact 95 % interval, or that nobody knows."""
    if alarms is None:
        return "not measured"
    count, asked = alarms
    low, high = clopper_pearson(count, asked)
    return f"{count} of {asked} ({100 * low:.0f} to {100 * high:.0f} %)"


class Threshold(NamedTuple):
    """value: of the statistic. clean: how many clean models it was fixed on. alarms: how many of so many
    other clean models it then suspected; None where nobody measured it.
    """

    value: float
    clean: int
    alarms: tuple[int, int] | None = None

    def told(self) -> str:
        """Its false alarms, in words."""
        return share_told(self.alarms)


# Half as much again as the highest of eight clean models of mnist:5000 (`cnn`, ten epochs; seeds 100 to
# 107), as `benchmarks/detection.py thresholds` says; alarms on 20 others, as its results have them.
THRESHOLDS: Mapping[str, Threshold] = {
    "inversion": Threshold(4.6, 8, (0, 20)),
    "activation_clustering": Threshold(0.13, 8, (0, 20)),
    "spectral": Threshold(0.05, 8, (0, 20)),
    "strip": Threshold(0.015, 8, (0, 20)),
}
ANY_ALARMS: tuple[int, int] | None = (0, 20)
"""The same of all four together, of which one that suspects suffices."""
