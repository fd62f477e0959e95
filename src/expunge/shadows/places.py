"""Where a bank lies and what its files are called, told without torch."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from expunge.disk.reading import read_json, reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError
from expunge.shadows.plan import check_number

CARD, SAMPLES, ASKED = "bank.json", "samples.json", "asked.json"
MODELS, LOGITS, LOCKS, FORGOT = "models", "logits", "locks", "forgot"
HOW = "how.json"
ALL = frozenset({CARD, SAMPLES, ASKED, MODELS, LOGITS, LOCKS, FORGOT, HOW})
"""Whatever a bank's folder may hold."""
ENDING = "-bank"
AGAIN = "delete that file, and build the bank again"


def bank_beside(model_dir: str | Path) -> Path:
    """The folder of a model's bank, unless somebody says otherwise: beside it, `MODEL_DIR-bank`."""
    folder = Path(os.path.normpath(model_dir))
    if folder.name in ("", ".."):
        folder = folder.absolute().resolve()
    return folder.with_name(f"{folder.name}{ENDING}")


def is_bank(folder: Path) -> bool:
    """Whether a folder says that it is a bank."""
    return (folder / CARD).is_file()


@dataclass(frozen=True)
class BankAsked:
    """What was asked for when a bank was last built. models: how many. weights: whether kept."""

    models: int
    weights: bool = True


def read_asked(folder: Path) -> BankAsked | None:
    """What was asked for; None of a bank that is not that far. Raises ConfigError for a damaged file."""
    file = folder / ASKED
    if not os.path.lexists(file):
        return None
    with reading(file, "delete it, and build the bank again", ConfigError):
        told = read_json(file, within=folder)
        if not isinstance(told, dict) or {*told} != {"models", "weights"}:
            raise ValueError("it does not say what was asked for")
        models = int(told["models"])
        check_number(models)
        return BankAsked(models, bool(told["weights"]))


def write_asked(folder: Path, asked: BankAsked) -> None:
    """Note it, for whoever goes on."""
    content = {"models": asked.models, "weights": asked.weights}
    write_file(folder / ASKED, json.dumps(content) + "\n")
