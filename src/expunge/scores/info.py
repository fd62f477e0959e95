"""What is known of a score before it is measured: its unit, its target, what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from expunge.scores.score import Goal

GivenBy = Literal["audit", "transfer", "mask"]
"""What gives a score: an audit of a model, its transfer to a target task, or the search for a mask."""
Knows = Literal["below", "above", "as the original", ""]
"""On which side of retraining a model lies that still knows what was forgotten: the same whatever was
forgotten, or that on which the original lies; empty where no side tells it.
"""
GOALS: Mapping[Goal, str] = MappingProxyType(
    {
        "retrained": "Good is what retrain has.",
        "low": "Low is good.",
        "high": "High is good.",
    }
)
"""What a reader is told of a target."""


@dataclass(frozen=True)
class ScoreInfo:
    """One line of the table of scores.

    Attributes:
        name: as results, tables and claims have it.
        measures: what it is, in one line for lists.
        unit: "percent" (0 to 100), "seconds", ...
        target: what the value should be near.
        paper: where it was published.
        reads: what it says and when it is good, for the reader of a page.
        title: a few words beside the name, over a picture of it.
        decimals: how many are printed of a mean; None for as many as make four digits.
        limits: the smallest and the largest value that there can be; None where there are none.
        given_by: what gives it.
        margin: the difference from retraining that does not matter, in `unit`, fixed before anything is
            measured; None for a score that nothing is found by.
        knows: on which side of retraining a model lies that still knows what was forgotten.
    """

    name: str
    measures: str
    unit: str
    target: Goal
    paper: str
    reads: str = ""
    title: str = ""
    decimals: int | None = None
    limits: tuple[float, float] | None = None
    given_by: GivenBy = "audit"
    margin: float | None = None
    knows: Knows = ""
