"""One measured number with its interval, and the retrained model's number beside it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import Any, Literal

from expunge.scores.finding import Finding

Goal = Literal["retrained", "low", "high"]
"""What a score should be: as the retrained model's, as low, or as high as it goes."""
Censoring = Literal["at least", "at most"]
"""Of a value that was not reached: all that is known is that it is no smaller, or no larger."""
SIGNS: Mapping[str | None, str] = MappingProxyType({"at least": "≥ ", "at most": "≤ ", None: ""})
"""What stands before a number that is only a bound."""


@dataclass(frozen=True)
class Score:
    """A score of one model.

    Attributes:
        name: a key of `expunge.scores.table.SCORES`, or one of an audit of somebody else's.
        value: in `unit`; nan where it is undefined.
        n: how many samples (or repetitions) it was measured on.
        low, high: ends of the 95 % interval, in `unit`; None where there is none.
        unit: "percent" (0 to 100), "seconds", ...
        target: what the value should be near.
        detail: what else was found on the way (the feature, the sizes, a missing verdict).
        reference: the retrained model's value of the same score; None without such a model.
        bound, reference_bound: where a value is only a bound, such as the number of steps after which
            somebody gave up; None for a value that was measured.
        per_sample: id -> what the audit says of that sample; empty where it says nothing of single ones.
        finding: what was found against retrained models; None where nothing was looked for.
    """

    name: str
    value: float
    n: int
    low: float | None
    high: float | None
    unit: str
    target: Goal
    detail: Mapping[str, Any] = field(default_factory=dict)
    reference: float | None = None
    bound: Censoring | None = None
    reference_bound: Censoring | None = None
    per_sample: Mapping[str, float] = field(default_factory=dict)
    finding: Finding | None = None

    @property
    def retrained(self) -> tuple[float, ...]:
        """The values of all retrained models that have a finite one, the reference first."""
        known = self.detail.get("references") or [self.reference]
        return tuple(one for one in known if one is not None and math.isfinite(one))

    @property
    def retrained_mean(self) -> float | None:
        """Their mean; None without one."""
        known = self.retrained
        return sum(known) / len(known) if known else None

    @property
    def gap(self) -> float | None:
        """Absolute difference to the retrained model, in `unit`; None without one.

        Where one of the two values is only a bound, the smallest difference that it allows; nan where
        both are.
        """
        if self.reference is None:
            return None
        apart = self.value - self.reference
        if self.bound is None and self.reference_bound is None:
            return abs(apart)
        if self.bound is not None and self.reference_bound is not None:
            return math.nan
        above = self.bound == "at least" or self.reference_bound == "at most"
        return max(apart if above else -apart, 0.0)

    @property
    def gap_bound(self) -> Censoring | None:
        """Whether the gap is the smallest of those that are possible, and how that is said."""
        return None if self.bound is None and self.reference_bound is None else "at least"

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON, `gap` included; a number that is not finite becomes None."""
        names = ("name", "value", "n", "low", "high", "unit", "target", "reference", "gap")
        bounds = ("bound", "reference_bound")
        plain = {name: as_plain(getattr(self, name)) for name in (*names, *bounds)}
        found = None if self.finding is None else as_plain(asdict(self.finding))
        return plain | {"finding": found, "detail": as_plain(self.detail)}


def as_plain(value: Any) -> Any:
    """`value` with JSON's types only."""
    if isinstance(value, Mapping):
        return {str(key): as_plain(item) for key, item in value.items()}
    if hasattr(value, "tolist"):  # a tensor, an array or one of its numbers
        return as_plain(value.tolist())
    if isinstance(value, list | tuple):
        return [as_plain(item) for item in value]
    if isinstance(value, set | frozenset):
        return sorted((as_plain(item) for item in value), key=str)
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)
