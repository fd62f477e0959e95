"""Blocks of studies' records for `benchmarks/ranking.py`: ranks of methods, and what tests show of them.

A block is one data set and scenario; where records have several models, recipes or densities, these make
blocks, too.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd
from recorded import read_record

from expunge.scores.joint import holm
from expunge.scores.rows import CONTROLS, FINDINGS_FILE, NO_METHODS, ORIGINAL, RETRAIN, SETTING
from expunge.scores.statistics import p_values, student_interval
from expunge.scores.table import AVERAGE_GAP
from expunge.study.findings import findings_of
from expunge.study.results import with_average_gap
from expunge.study.scenarios import scenario_of

OUTSIDE = {
    "sisa": "begins with an original of its own training",
    "certified_head": "begins with an original of its own training",
    "noisy_finetune": "trains anew behind its noise",
}
"""Not ranked, for each stands beside a reference of its own: its gap holds the way to that, too."""
BASE, BEATABLE = "finetune", (ORIGINAL, *CONTROLS)
LEVEL, DRAWS = 0.05, 10_000
FEWEST, LEAST = 5, 3
"""Blocks and methods that a critical difference wants."""


@dataclass(frozen=True)
class Apart:
    """Average gap of a method minus another's: mean, 95 % interval, and the word after Holm."""

    mean: float = math.nan
    low: float = math.nan
    high: float = math.nan
    word: str = "–"

    def __str__(self) -> str:
        ends = "" if math.isnan(self.low) else f" [{self.low:+.2f}, {self.high:+.2f}]"
        return "–" if math.isnan(self.mean) else f"{self.mean:+.2f}{ends}"


@dataclass(frozen=True)
class Block:
    """gaps: of each row of the study (columns) at each seed, nan where it failed. seeds: those at which
    each method is made or failed, and one has a gap. step: by how much one sample moves a gap. share:
    seconds over retraining's. together: what audits say together, by method; empty without audits.
    """

    name: str
    gaps: pd.DataFrame
    seeds: Sequence[int]
    step: float
    share: Mapping[str, float]
    together: Mapping[str, str]

    @cached_property
    def ranks(self) -> pd.DataFrame:
        """Of each method (columns) at each seed."""
        return ranks_of(self.gaps.loc[[*self.seeds], ranked(self.gaps)])

    @cached_property
    def ends(self) -> pd.DataFrame:
        """Of the interval of each mean rank."""
        return bootstrap(self.ranks)

    @cached_property
    def pairs(self) -> Mapping[tuple[str, str], Apart]:
        return compared(self.gaps, self.step)

    @cached_property
    def controls(self) -> list[str]:
        """Those that there are, the nearest first."""
        means = self.gaps.mean()
        return sorted((name for name in BEATABLE if name in means), key=lambda name: means[name])

    def beaten(self, method: str) -> list[str]:
        """The controls than which a method is shown to be nearer."""
        return [one for one in self.controls if self.pairs[method, one].word == "nearer"]

    def is_shown(self, method: str) -> bool:
        """Whether it is nearer than every control, and failed at no seed, which would pick its best."""
        whole = bool(self.controls) and not self.failed(method)
        return whole and self.beaten(method) == self.controls

    def failed(self, method: str) -> int:
        return int(self.gaps.loc[[*self.seeds], method].isna().sum())

    def label(self, method: str) -> str:
        """As figures call it."""
        return f"{method}†" if self.failed(method) else method

    def cells(self, row: str) -> list[str]:
        """Its gap with the 95 % interval, the median of its seeds, its share of retraining's seconds."""
        values, share = self.gaps[row].dropna().tolist(), self.share.get(row, math.nan)
        mean, low, high = student_interval(values, least=self.step) if values else (math.nan,) * 3
        ends = "" if math.isnan(low) else f" [{max(0.0, low):.2f}, {min(100.0, high):.2f}]"
        told = f"{mean:.2f}{ends}" if values else "failed"
        middle = f"{np.median(values):.2f}" if values else "–"
        return [told, middle, "–" if math.isnan(share) else f"{share:.2g}"]


def ranked(gaps: pd.DataFrame) -> list[str]:
    """The rows that are ranked."""
    return [str(name) for name in gaps if name not in (*NO_METHODS, *OUTSIDE)]


def ranks_of(gaps: pd.DataFrame) -> pd.DataFrame:
    """Ranks within each seed, 1 the smallest gap; equal ones share their mean, nan comes last."""
    return gaps.round(9).fillna(math.inf).rank(axis="columns")


def bootstrap(ranks: pd.DataFrame) -> pd.DataFrame:
    """95 % percentile interval of each mean rank, over seeds: rows low and high, nan for one seed."""
    values, n = ranks.to_numpy(dtype=float), len(ranks)
    drawn = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    ends = np.quantile(values[drawn].mean(axis=1), [LEVEL / 2, 1 - LEVEL / 2], axis=0)
    return pd.DataFrame(ends if n > 1 else ends * math.nan, ["low", "high"], ranks.columns)


def compared(gaps: pd.DataFrame, step: float) -> dict[tuple[str, str], Apart]:
    """Each ranked method minus `BASE` and minus each control, over the seeds that have both.

    The word is that of paired t tests, by Holm's rule over all pairs; one seed decides nothing.
    """
    others = [name for name in (BASE, *BEATABLE) if name in gaps]
    pairs = [(one, other) for one in ranked(gaps) for other in others if one != other]
    values = [(gaps[one] - gaps[other]).dropna().to_numpy() for one, other in pairs]
    p = [float(p_values(own[None], step)[0]) if len(own) > 1 else 1.0 for own in values]
    found = {}
    for pair, own, stands in zip(pairs, values, holm(p, LEVEL), strict=True):
        ends = student_interval(own.tolist(), least=step) if len(own) else (math.nan,) * 3
        side = "nearer" if ends[0] < 0 else "farther"
        found[pair] = Apart(*ends, side if stands else "undecided")
    return found


def critical_difference(methods: int, blocks: int) -> float | None:
    """Nemenyi's, of mean ranks over blocks (Demsar 2006, JMLR 7); None for too few of either."""
    from scipy.stats import studentized_range

    if blocks < FEWEST or methods < LEAST:
        return None
    q = studentized_range.ppf(1 - LEVEL, methods, math.inf) / math.sqrt(2)
    return float(q * math.sqrt(methods * (methods + 1) / (6 * blocks)))


def mean_ranks(blocks: Sequence[Block]) -> pd.DataFrame:
    """By block, of the methods (columns) that are in all, ranked among themselves in each seed."""
    shared = [name for name in ranked(blocks[0].gaps) if all(name in one.gaps for one in blocks)]
    means = {one.name: ranks_of(one.gaps.loc[[*one.seeds], shared]).mean() for one in blocks}
    return pd.DataFrame(means, index=shared).T.round(9)


def recorded(record: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Scores of a record with average gaps, and findings of its audits; nothing is written."""
    plan, frame = read_record(record)
    findings = findings_of(plan.rows, plan.store, frame)
    if findings is None:
        findings = pd.DataFrame(columns=[*FINDINGS_FILE])
    return with_average_gap(frame), findings


def blocks_of(frame: pd.DataFrame, findings: pd.DataFrame) -> Iterator[Block]:
    """A block for each setting in the scores and findings of all records."""
    if frame.duplicated([*SETTING, "method", "seed", "score"]).any():
        raise SystemExit("two of the records have the same row, which can stand in one place alone")
    alike = frame[[*SETTING]].drop_duplicates().groupby(["data", "scenario"])
    further = [name for name in ("model", "recipe", "density") if (alike[name].nunique() > 1).any()]
    for setting, own in frame.groupby([*SETTING], sort=False):
        told = dict(zip(SETTING, map(str, setting), strict=True))
        scenario = scenario_of(told["scenario"]).told(told["scenario"])
        name = ", ".join([told["data"], scenario, *(told[one] for one in further)])
        known = own[own["score"] == AVERAGE_GAP]
        if not len(known):
            raise SystemExit(f"{name}: nothing has an average gap")
        made = pd.crosstab(own["seed"], own["method"]).drop(columns=RETRAIN)
        order = [one for one in dict.fromkeys(own["method"]) if one != RETRAIN]
        gaps = known.pivot(index="seed", columns="method", values="value")
        gaps = gaps.reindex(index=made.index, columns=order)
        whole = made[ranked(gaps)].all(axis="columns") & gaps.notna().any(axis="columns")
        seconds = own[own["score"] == "RTE"].groupby("method")["value"].mean()
        share = (seconds / seconds[RETRAIN]).to_dict()
        here = findings[(findings[[*SETTING]] == [*setting]).all(axis="columns")]
        words = {str(one): counted(lines) for one, lines in here.groupby("method")}
        step = 100 / float(known["n"].min())
        yield Block(name, gaps, gaps.index[whole].tolist(), step, share, words)


def counted(findings: pd.DataFrame) -> str:
    """`not forgotten 8, cannot tell 2`: at how many seeds all audits together say so."""
    words = findings.drop_duplicates("seed")["together"].value_counts()
    return ", ".join(f"{word} {number}" for word, number in words.items())
