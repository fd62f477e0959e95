"""How far a method is from retraining, and from the distance between two retrainings.

Seeds pair runs: in every sequence here, position s belongs to the same seed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.scores.statistics import mean_sd, paired_interval
from expunge.scores.table import AVERAGED

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class Gap:
    """The papers' bracket: |method_mean - retrain_mean|, in the scores' unit, 0 at best."""

    value: float
    method_mean: float
    retrain_mean: float
    n: int


@dataclass(frozen=True)
class AverageGap:
    """Mean of the gaps of several scores, and the gaps themselves by score."""

    value: float
    gaps: Mapping[str, Gap]


@dataclass(frozen=True)
class ExcessGap:
    """Gap beyond the noise floor, over n seeds; 0 = as near as a second retraining.

    `low` and `high` are the paired 95 % interval, nan for one seed.
    """

    value: float
    low: float
    high: float
    n: int

    @property
    def undecided(self) -> bool:
        """True unless the interval excludes 0. Undecided is not equal."""
        return not (self.low > 0 or self.high < 0)


def gap(method_values: Sequence[float], retrain_values: Sequence[float]) -> Gap:
    """Absolute difference of the two means over seeds; `n` counts the method's seeds.

    Raises:
        ConfigError: if either sequence is empty.
    """
    method_mean, _ = mean_sd(method_values)
    retrain_mean, _ = mean_sd(retrain_values)
    return Gap(abs(method_mean - retrain_mean), method_mean, retrain_mean, len(method_values))


def average_gap(
    method: Mapping[str, Sequence[float]],
    retrain: Mapping[str, Sequence[float]],
    scores: Sequence[str] = AVERAGED,
) -> AverageGap:
    """Mean over `scores` of the gap; each mapping holds a score's values over seeds.

    Raises:
        ConfigError: if a score is missing on either side, or `scores` is empty.
    """
    missing = [score for score in scores if score not in method or score not in retrain]
    if missing:
        raise ConfigError(
            f"the average gap needs {', '.join(scores)} of the method and of retraining; "
            f"missing: {', '.join(missing)}"
        )
    gaps = {score: gap(method[score], retrain[score]) for score in scores}
    mean, _ = mean_sd([item.value for item in gaps.values()])
    return AverageGap(mean, MappingProxyType(gaps))


def excess_gap(
    method: Sequence[float], retrain: Sequence[float], floor: Sequence[float]
) -> ExcessGap:
    """Mean over seeds of |method - retrain| - |floor - retrain|, with its paired interval.

    `floor` is a second retraining of each seed (seed name "floor"). Negative values happen: a
    method may land nearer to one retraining than another retraining does.

    Raises:
        ConfigError: unless all three have the same length, one or more.
    """
    if not len(method) == len(retrain) == len(floor):
        raise ConfigError(
            "the excess gap pairs by seed and needs equally many values; got "
            f"{len(method)} of the method, {len(retrain)} of retraining, {len(floor)} of the floor"
        )
    of_method = [abs(x - r) for x, r in zip(method, retrain, strict=True)]
    of_floor = [abs(x - r) for x, r in zip(floor, retrain, strict=True)]
    return beyond_floor(of_method, of_floor)


def beyond_floor(of_method: Sequence[float], of_floor: Sequence[float]) -> ExcessGap:
    """Excess of gaps that are known seed by seed, the method's and the floor's.

    Raises:
        ConfigError: unless both have the same length, one or more.
    """
    mean, low, high = paired_interval(of_method, of_floor)
    return ExcessGap(mean, low, high, len(of_method))


def own_gaps(values: pd.DataFrame, retrain: pd.DataFrame) -> pd.Series[float]:
    """Each row's own average gap: the mean over AVERAGED of |its value - retrain's of the same row|.

    Unlike `average_gap`, which goes by the means of seeds, this does not let a seed that lies above
    make up for one that lies below.

    Args:
        values: a row per seed (or setting and seed), a column per score; a row's name may stand
            several times.
        retrain: the same of the retrained model, each row's name once.

    Returns:
        Named as the rows of `values`; nan where a score is missing on either side.
    """
    names = list(AVERAGED)
    target = retrain.reindex(columns=names).reindex(values.index)
    apart = (values.reindex(columns=names) - target).abs()
    return apart.mean(axis="columns", skipna=False)
