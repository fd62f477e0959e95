"""The folder of a bank.

bank.json                 what decides its models: see `card`
samples.json              ids and labels of all samples, those that the original learned from first
models/0003/              a model folder, where weights are kept
logits/0003.safetensors   what model 3 says of every sample; it stands last, so that model is finished
locks/0003                held (flock) by the process that works on it
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError
from safetensors.numpy import load, save

from expunge.audits.shadows import Shadows
from expunge.disk.reading import MIB, parse_json, read_bytes, read_json, reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError
from expunge.shadows.card import BankCard
from expunge.shadows.halves import learns

CARD, SAMPLES, MODELS, LOGITS, LOCKS = "bank.json", "samples.json", "models", "logits", "locks"
AGAIN = "delete that folder, and build it again"
OVERHEAD = 16 * MIB


@dataclass(frozen=True, eq=False)
class Bank:
    """A bank as it lies on the disk.

    card: what decides its models. ids: of all samples, "" for one that was struck. labels: (n,), int64.
    learned: how many of them, from the first, the original learned from.
    """

    folder: Path
    card: BankCard
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    learned: int

    @property
    def finished(self) -> list[int]:
        """Numbers of the models whose logits are there, in order."""
        names = os.listdir(self.folder / LOGITS) if (self.folder / LOGITS).is_dir() else []
        stems = [name.removesuffix(".safetensors") for name in names]
        return sorted(int(stem) for stem in stems if stem.isdecimal())

    def model_folder(self, model: int) -> Path:
        """Where the weights of a model lie, if they are kept."""
        return self.folder / MODELS / f"{model:04d}"

    def logits_file(self, model: int) -> Path:
        """Where a model's logits lie."""
        return self.folder / LOGITS / f"{model:04d}.safetensors"

    def half(self, model: int) -> NDArray[np.bool_]:
        """(n,): whether a model learned from each sample."""
        chosen = np.zeros(len(self.ids), dtype=np.bool_)
        chosen[: self.learned] = learns(self.ids[: self.learned], model, self.card.seed)
        return chosen

    @contextmanager
    def claim(self, model: int) -> Iterator[bool]:
        """Whether this process may make a model now: nobody else does, while the context lasts."""
        (self.folder / LOCKS).mkdir(exist_ok=True)
        handle = os.open(self.folder / LOCKS / f"{model:04d}", os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                free = True
            except OSError:
                free = False
            yield free
        finally:
            os.close(handle)

    def write_logits(self, model: int, logits: NDArray[np.float32], facts: dict[str, str]) -> None:
        """Keep what a model says of every sample, (n, classes), whole or not at all."""
        file = self.logits_file(model)
        file.parent.mkdir(exist_ok=True)
        write_file(file, save({"logits": logits}, {**facts, "card": self.card.digest()}))

    def read_logits(self, model: int) -> tuple[NDArray[np.float32], dict[str, Any]]:
        """A model's logits, and what is noted of it. Raises ConfigError for a damaged file."""
        file = self.logits_file(model)
        with reading(file, "delete it, and build the bank again", ConfigError):
            content = read_bytes(file, most=self._most, within=self.folder)
            size = int.from_bytes(content[:8], "little")
            facts = parse_json(content[8 : 8 + size])["__metadata__"]
            try:
                logits = load(content)["logits"]
            except (SafetensorError, KeyError) as error:
                raise ConfigError(f"it is no file of logits ({error})") from error
        if facts.get("card") != self.card.digest() or len(logits) != len(self.ids):
            raise ConfigError(f"{file} is another bank's; delete it, and build the bank again")
        return logits, facts

    @property
    def _most(self) -> int:
        return OVERHEAD + len(self.ids) * 100_000 * 4

    @cached_property
    def shadows(self) -> Shadows:
        """All finished models. Raises ConfigError where there are fewer than two, or one is damaged."""
        numbers = self.finished
        if len(numbers) < 2:
            raise ConfigError(
                f"{self.folder} has {len(numbers)} finished models, and audits need two or more; "
                "go on with `expunge bank build`"
            )
        return Shadows(
            np.array(self.ids, dtype=np.str_),
            self.labels,
            np.stack([self.read_logits(number)[0] for number in numbers]),
            np.stack([self.half(number) for number in numbers]),
        )


def open_bank(folder: str | Path) -> Bank:
    """A bank from its folder. Raises ConfigError for one that is missing, damaged or no bank."""
    folder = Path(folder)
    if not (folder / CARD).is_file():
        what = "is no bank" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {what}; make one with `expunge bank build`")
    with reading(folder / CARD, AGAIN, ConfigError):
        try:
            card = BankCard(**read_json(folder / CARD, within=folder))
        except (TypeError, ValidationError) as error:
            raise ConfigError(f"{folder / CARD} is no card of a bank; {AGAIN}") from error
    with reading(folder / SAMPLES, AGAIN, ConfigError):
        told = read_json(folder / SAMPLES, most=2**30, within=folder)
        try:
            ids, labels, learned = tuple(told["ids"]), told["labels"], int(told["learned"])
            found = Bank(folder, card, ids, np.array(labels, dtype=np.int64), learned)
        except (KeyError, TypeError, ValueError) as error:
            raise ConfigError(f"{folder / SAMPLES} lists no samples; {AGAIN}") from error
    if len(found.labels) != len(ids) or not 0 < learned <= len(ids):
        raise ConfigError(f"{folder / SAMPLES} does not fit itself; {AGAIN}")
    return found


def write_bank(bank: Bank) -> None:
    """Begin a bank's folder: what it is of, and of which samples."""
    bank.folder.mkdir(parents=True, exist_ok=True)
    samples = {
        "ids": list(bank.ids),
        "labels": bank.labels.tolist(),
        "learned": bank.learned,
    }
    write_file(bank.folder / SAMPLES, json.dumps(samples, ensure_ascii=False) + "\n")
    card = json.dumps(bank.card.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_file(bank.folder / CARD, card + "\n")
