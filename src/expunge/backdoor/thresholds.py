"""From where on a detector's statistic is suspect: fixed on models that were made for it.

`benchmarks/detection.py calibrate` makes these models and prints the table; the models that are judged,
and those that the false-alarm rates are measured on, are others.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Threshold(NamedTuple):
    """value: of the statistic. says: where it comes from."""

    value: float
    says: str


THRESHOLDS: Mapping[str, Threshold] = {
    "inversion": Threshold(4.0, "TODO"),
    "activation_clustering": Threshold(0.08, "TODO"),
    "spectral": Threshold(0.06, "TODO"),
    "strip": Threshold(0.05, "TODO"),
}
