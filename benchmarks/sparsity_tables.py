"""Tables and claims of `benchmarks/sparsity.py`: the papers' table by level, paired differences."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from rich.console import Console

from expunge.cli.show import study_tables
from expunge.scores.gaps import own_gaps
from expunge.scores.statistics import paired_interval
from expunge.scores.table import AVERAGED

LEVEL_NAMES = {"dense": "dense", "omp": "95 % OMP", "synflow": "95 % SynFlow", "imp": "95 % IMP"}
KIND_NAMES = {"class": "one class", "random": "random 10%"}
EXTRA = ("zero_fraction", "near_zero_fraction", "top_eigenvalue")
L1 = "l1_sparse decreasing"
NAMED = ("finetune", "gradient_ascent", "fisher", "influence")


def read(out: Path) -> pd.DataFrame:
    """All parts that are done."""
    files = sorted(out.glob("part-*.csv"))
    if not files:
        raise SystemExit(f"no parts in {out}; make some with `run`")
    return pd.concat([pd.read_csv(file) for file in files], ignore_index=True)


def print_tables(out: Path) -> None:
    """The tables, the pruners' criteria and the claims."""
    frame = read(out)
    console = Console(width=190)
    scored = frame[~frame["score"].isin(EXTRA)].copy()
    for level, title in LEVEL_NAMES.items():
        for kind, name in KIND_NAMES.items():
            part = scored[(scored["level"] == level) & (scored["kind"] == kind)]
            if len(part):
                part = part.assign(scenario=f"{name}, {title}")
                console.print(study_tables(part, 190))
    _print_extra(frame)
    _print_criteria(out)
    for line in claims(scored):
        print(line)
    for file in sorted(out.glob("tuned-*.json")):
        for level, rows in json.loads(file.read_text()).items():
            fields = {row: found["fields"] for row, found in rows.items()}
            print(f"{file.stem} {level}: {json.dumps(fields)}")


def _print_extra(frame: pd.DataFrame) -> None:
    extra = frame[frame["score"].isin(EXTRA)]
    if len(extra):
        table = extra.groupby(["kind", "level", "method", "score"])["value"].agg(
            ["mean", "std", "count"]
        )
        print(table.to_string(float_format=lambda v: f"{v:.4g}"), end="\n\n")


def _print_criteria(out: Path) -> None:
    rows = [json.loads(file.read_text()) for file in sorted((out / "criteria").glob("*.json"))]
    if rows:
        frame = pd.DataFrame(rows)
        frame["seconds / dense"] = frame["seconds"] / frame["dense_seconds"]
        table = frame.groupby("pruner", sort=False)[["overlap", "difference", "seconds / dense"]]
        print(table.agg(["mean", "std", "count"]).to_string(float_format=lambda v: f"{v:.3f}"))
        print()


def average_gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Mean |score - retrained model's of the same seed and level|: kind, level, method x seed."""
    wide = frame.pivot_table(
        index=["kind", "level", "seed", "method"], columns="score", values="value"
    )[list(AVERAGED)]
    retrain = wide.xs("retrain", level="method")
    apart = wide.drop("retrain", level="method").reset_index("method")
    gaps = own_gaps(apart, retrain)
    return apart[["method"]].assign(gap=gaps.to_numpy()).reset_index()


def verdict(less: Sequence[float], more: Sequence[float]) -> str:
    """`less` < `more`? From paired differences and their 95 % interval."""
    if len(less) < 2:
        return "undecided (fewer than two seeds)"
    mean, low, high = paired_interval(less, more)
    word = "undecided" if low <= 0 <= high else ("holds" if high < 0 else "fails")
    return f"{word}: difference {mean:+.2f} [{low:+.2f}, {high:+.2f}], n = {len(less)}"


def series(table: pd.DataFrame, **where: str) -> pd.Series:
    """The values of one row over seeds."""
    for key, value in where.items():
        table = table[table[key] == value]
    return table.set_index("seed")["gap" if "gap" in table else "value"].sort_index()


def compare(label: str, less: pd.Series, more: pd.Series) -> str:
    """One claim in a line: both means, and the verdict over the seeds that both have."""
    both = less.index.intersection(more.index)
    a, b = less.loc[both], more.loc[both]
    means = f"{a.mean():.2f} < {b.mean():.2f}" if len(both) else "no seeds"
    return f"{label} ({means}): {verdict(a.tolist(), b.tolist())}"


def claims(frame: pd.DataFrame) -> list[str]:
    """J's claims 0 to 4, each as paired differences over seeds; what was not run is left out."""
    gaps = average_gaps(frame)
    levels = set(frame["level"])
    lines = []
    for kind in sorted(set(frame["kind"])):
        if kind == "class":
            lines += _class_claims(frame)
        for name in NAMED:
            dense, sparse = (
                series(gaps, method=name, level=level, kind=kind) for level in ("dense", "omp")
            )
            lines.append(compare(f"(1) {name} {kind}: average gap 95 % OMP < dense", sparse, dense))
        best = series(gaps, method=L1, level="dense", kind=kind)
        for other in ("constant", "increasing"):
            rival = series(gaps, method=f"l1_sparse {other}", level="dense", kind=kind)
            label = f"(3) {kind}, dense: average gap decreasing < {other}"
            lines.append(compare(label, best, rival))
        if "imp" in levels:
            part = gaps[gaps["method"].isin(NAMED) & (gaps["kind"] == kind)]
            mean = part.groupby(["level", "seed"])["gap"].mean().reset_index()
            for prior in ("omp", "synflow"):
                label = f"(4) {kind}: mean average gap of FT, GA, FF, IU, {prior} < imp"
                lines.append(compare(label, series(mean, level=prior), series(mean, level="imp")))
    return lines


def _class_claims(frame: pd.DataFrame) -> list[str]:
    """Claims 0 and 2, which are about forgetting a class."""

    def score(method: str, name: str, level: str) -> pd.Series:
        return series(frame, method=method, score=name, kind="class", level=level)

    def both(method: str, name: str) -> tuple[pd.Series, pd.Series]:
        return score(method, name, "dense"), score(method, name, "omp")

    lines = [
        compare(f"(0) FT class: {name} dense < 95 % OMP", *both("finetune", name))
        for name in ("UA", "MIA")
    ]
    falls = [
        ("gradient_ascent", "RA", "falls"),
        ("finetune", "TA", "stays"),
        ("influence", "TA", "stays"),
    ]
    for method, name, said in falls:
        dense, sparse = both(method, name)
        lines.append(
            compare(f"(0) {method} class: {name} 95 % OMP < dense (J: {said})", sparse, dense)
        )
    ft, l1 = score("finetune", "UA", "dense"), score(L1, "UA", "dense")
    lines.append(compare("(2) class, dense: UA of FT < UA of l1-sparse", ft, l1))
    cost = score(L1, "RTE", "dense") / score("finetune", "RTE", "dense")
    lines.append(f"(2) cost of l1-sparse / FT: {np.median(cost):.2f} (median over seeds)")
    return lines


if __name__ == "__main__":
    import sys

    print_tables(Path(sys.argv[1]))
