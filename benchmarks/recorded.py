"""A record of `docs/results`, read where it lies: what its study plans, and the scores of its cells."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from expunge.study.file import read_study
from expunge.study.launch import FILE, Planned, planned
from expunge.study.results import results


def read_record(record: Path) -> tuple[Planned, pd.DataFrame]:
    """The plan, and a row for each cell and score; nothing is written or made.

    Raises ConfigError for a folder that is no record.
    """
    file = record / FILE
    plan = planned(read_study(file, recorded=file), record, recorded=True)
    return plan, results(plan.rows, plan.store)
