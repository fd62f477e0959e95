"""The folder of a bank.

bank.json                 what decides its models: see `card`
samples.json              ids and labels of all samples, in order of ids those that the original learned
                          from, then its validation set, then the test set, whose ids may be those of
                          others; a struck sample keeps its row, with neither
asked.json                how many models there are to be, and whether weights are kept
models/0003.safetensors   weights of model 3, where they are kept
logits/0003.safetensors   what model 3 says of every sample, and which of them it learned from; it is
                          written last, so that model is finished
locks/                    held (flock) by processes at work: bank by all, 0003 by the one that makes it
"""

from __future__ import annotations

import fcntl
import json
import os
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load, save

from expunge.audits.shadows import Read, Shadows
from expunge.disk.reading import MIB, check_regular, read_bytes, read_json, reading
from expunge.disk.whole import sweep, write_file
from expunge.errors import ConfigError
from expunge.shadows.card import BankCard
from expunge.shadows.halves import drawn_half
from expunge.shadows.places import AGAIN, CARD, LOCKS, LOGITS, MODELS, SAMPLES

OVERHEAD = 16 * MIB
MOST_CLASSES = 100_000
DAMAGED = "delete it, and build the bank again"
NOBODY = -1
"""The label of a struck sample."""


@dataclass(frozen=True, eq=False)
class Bank:
    """A bank as it lies on the disk.

    card: what decides its models. ids: of all samples, "" for one that was struck. labels: (n,), int64.
    learned: how many of them, from the first, the original learned from. tested: how many, the last,
    are of the test set.
    """

    folder: Path
    card: BankCard
    ids: tuple[str, ...]
    labels: NDArray[np.int64]
    learned: int
    tested: int

    @property
    def finished(self) -> list[int]:
        """Numbers of the models whose logits are there, in order."""
        return _numbers(self.folder / LOGITS)

    @property
    def weighed(self) -> list[int]:
        """Numbers of the models whose weights are there, in order."""
        return _numbers(self.folder / MODELS)

    @cached_property
    def struck(self) -> NDArray[np.bool_]:
        """(n,): samples that the bank was purged of."""
        return np.array([not name for name in self.ids], dtype=np.bool_)

    def among(self, ids: Collection[str]) -> NDArray[np.bool_]:
        """(n,): which samples these are that the original learned from or held out."""
        found = np.isin(np.array(self.ids, dtype=np.str_), [*{*ids} - {""}])
        found[len(found) - self.tested :] = False
        return found

    def weights_file(self, model: int) -> Path:
        """Where the weights of a model lie, if they are kept."""
        return self.folder / MODELS / f"{model:04d}.safetensors"

    def logits_file(self, model: int) -> Path:
        """Where a model's logits lie."""
        return self.folder / LOGITS / f"{model:04d}.safetensors"

    def half(self, model: int) -> NDArray[np.bool_]:
        """(n,): the half that a model was drawn, whatever was struck of it since."""
        chosen = np.zeros(len(self.ids), dtype=np.bool_)
        chosen[: self.learned] = drawn_half(self.learned, model, self.card.seed)
        return chosen

    def marked(self, model: int) -> bool:
        """Whether a finished model learned from samples that were struck since."""
        return bool((self.read_learned(model) & self.struck).any())

    @contextmanager
    def claim(self, model: int, what: str = "") -> Iterator[bool]:
        """Whether this process may make a model now: nobody else does, while the context lasts.

        what: is made, if not the model itself; it begins the name of the lock.
        """
        with self._lock(f"{what}{model:04d}", fcntl.LOCK_EX) as free:
            yield free

    def claimed(self, model: int, what: str = "") -> bool:
        """Whether some process makes a model now, or `what` as of `claim`; nothing is written."""
        try:
            handle = os.open(self._lock_file(f"{what}{model:04d}"), os.O_RDONLY | os.O_NOFOLLOW)
        except OSError:  # it was never claimed
            return False
        try:
            return not _locked(handle, fcntl.LOCK_EX)
        except OSError:  # a file system that has no locks
            return False
        finally:
            os.close(handle)

    @contextmanager
    def at_work(self, *, alone: bool = False) -> Iterator[None]:
        """While this lasts the samples stay as they are; alone, for whoever changes them.

        Raises ConfigError where others are at work on the bank.
        """
        with self._lock("bank", fcntl.LOCK_EX if alone else fcntl.LOCK_SH) as free:
            if not free:
                what = "is being built" if alone else "is being purged"
                raise ConfigError(f"{self.folder} {what} by another process; wait until it ends")
            yield

    def _lock_file(self, name: str) -> Path:
        return self.folder / LOCKS / name

    @contextmanager
    def _lock(self, name: str, how: int) -> Iterator[bool]:
        lock = self._lock_file(name)
        with reading(lock, "delete it, or choose a folder on a local disk", ConfigError):
            lock.parent.mkdir(exist_ok=True)
            handle = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666)
        try:
            with reading(lock, "choose a folder whose disk knows locks", ConfigError):
                free = _locked(handle, how)
            yield free
        finally:
            os.close(handle)

    def sweep(self) -> None:
        """Remove what killed processes left half-written."""
        for folder in (self.folder, self.folder / LOGITS, self.folder / MODELS):
            sweep(folder)

    def write_logits(self, model: int, logits: NDArray[np.float32], facts: dict[str, str]) -> None:
        """Keep what a model says of every sample, (n, classes), whole or not at all: it learned from its
        half, but for what is struck.
        """
        self.rewrite(model, logits, self.half(model) & ~self.struck, facts)

    def rewrite(
        self,
        model: int,
        logits: NDArray[np.float32],
        learned: NDArray[np.bool_],
        facts: dict[str, str],
    ) -> None:
        """Write the file of a model's logits, whole or not at all; `learned`: (n,)."""
        file = self.logits_file(model)
        file.parent.mkdir(exist_ok=True)
        tensors: dict[str, NDArray[Any]] = {"logits": logits, "learned": learned.astype(np.uint8)}
        write_file(file, save(tensors, {**facts, "card": self.card.digest()}))

    def read_logits(self, model: int) -> tuple[NDArray[np.float32], dict[str, str]]:
        """A model's logits, and what is noted of it. Raises ConfigError for a damaged file."""
        file, facts = self.logits_file(model), self.facts(model)
        with reading(file, DAMAGED, ConfigError):
            content = read_bytes(file, most=self._most, within=self.folder)
            try:
                logits = load(content)["logits"]
            except (SafetensorError, KeyError) as error:
                raise ValueError(f"it is no file of logits ({error})") from error
            if logits.ndim != 2 or len(logits) != len(self.ids):
                raise ValueError("it is of other samples")
            if logits.shape[1] <= self.labels.max():
                raise ValueError("it has fewer classes than there are labels")
        return logits, facts

    def read_learned(self, model: int) -> NDArray[np.bool_]:
        """(n,): what a finished model learned from. Raises ConfigError for a damaged file."""
        with self._opened(model) as opened:
            learned = np.asarray(opened.get_tensor("learned"), dtype=np.bool_)
            if learned.shape != (len(self.ids),):
                raise ValueError("it is of other samples")
        return learned

    def facts(self, model: int) -> dict[str, str]:
        """What is noted of a finished model. Raises ConfigError for a damaged file."""
        with self._opened(model) as opened:
            facts = dict(opened.metadata() or {})
            if not self.card.is_named(facts.pop("card", None)):
                raise ValueError("it is another bank's")
        return facts

    def seconds(self, model: int) -> float:
        """That a finished model took. Raises ConfigError for a damaged file."""
        with self._opened(model) as opened:
            return float((opened.metadata() or {})["seconds"])

    def remove_damaged(self) -> list[str]:
        """Remove files of logits whose heads cannot be read or are another bank's; a line for each."""
        lines = []
        for model in self.finished:
            try:
                self.facts(model)
                self.read_learned(model)
            except ConfigError as error:
                self.logits_file(model).unlink(missing_ok=True)
                lines.append(f"made again: {error}")
        return lines

    @contextmanager
    def _opened(self, model: int) -> Iterator[Any]:
        file = self.logits_file(model)
        with reading(file, DAMAGED, ConfigError):
            check_regular(file, within=self.folder)
            try:
                with safe_open(file, "np") as opened:
                    yield opened
            except SafetensorError as error:
                raise ValueError(f"it is no file of logits ({error})") from error

    @property
    def _most(self) -> int:
        return OVERHEAD + len(self.ids) * (MOST_CLASSES * 4 + 1)

    @cached_property
    def shadows(self) -> Shadows:
        """All finished pairs of models, and all samples that were not struck.

        Raises ConfigError where there is no pair, or a file is damaged.
        """
        finished = {*self.finished}
        numbers = sorted(one for one in finished if one ^ 1 in finished)
        if not numbers:
            raise ConfigError(
                f"{self.folder} has {len(finished)} finished model{'s' * (len(finished) != 1)} and no "
                "pair of them, which audits need; go on with `expunge bank build`"
            )
        learned = np.stack([self.read_learned(number) for number in numbers])
        made = self.say(numbers, lambda number: self.read_logits(number)[0], learned)
        _ = made.phi  # read now, so that a damaged file is told of here
        return made

    def say(
        self,
        numbers: Sequence[int],
        read: Callable[[int], NDArray[np.float32]],
        learned: NDArray[np.bool_],
        forgot: NDArray[np.bool_] | None = None,
        left_out: tuple[str, ...] = (),
    ) -> Shadows:
        """What models say of all samples that were not struck.

        read: gives what one of them says, (n, classes). learned, forgot: (numbers, n).
        """
        left = ~self.struck
        return Shadows(
            np.array(self.ids, dtype=np.str_)[left],
            self.labels[left],
            Read(numbers, lambda number: read(number)[left]),
            learned[:, left],
            None if forgot is None else forgot[:, left],
            left_out,
            self.tested,
        )


def _numbers(folder: Path) -> list[int]:
    """Of the models that have a file in a folder."""
    names: list[str] = []
    with suppress(FileNotFoundError):
        names = os.listdir(folder)
    stems = [name.removesuffix(".safetensors") for name in names if name.endswith(".safetensors")]
    return sorted(int(stem) for stem in stems if re.fullmatch("[0-9]{4}", stem))


def _locked(handle: int, how: int) -> bool:
    try:
        fcntl.flock(handle, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def read_bank_card(folder: Path) -> BankCard:
    """What decides a bank's models. Raises ConfigError for one that is missing, damaged or no bank."""
    if not (folder / CARD).is_file():
        what = "is no bank" if folder.exists() else "does not exist"
        raise ConfigError(f"{folder} {what}; make one with `expunge bank build`")
    with reading(folder / CARD, AGAIN, ConfigError):
        try:
            return BankCard(**read_json(folder / CARD, within=folder))
        except (TypeError, ValidationError) as error:
            raise ConfigError(f"{folder / CARD} is no card of a bank; {AGAIN}") from error


def open_bank(folder: str | Path) -> Bank:
    """A bank from its folder. Raises ConfigError for one that is missing, damaged or no bank."""
    folder = Path(folder)
    card = read_bank_card(folder)
    with reading(folder / SAMPLES, AGAIN, ConfigError):
        told = read_json(folder / SAMPLES, most=2**30, within=folder)
        try:
            ids, labels = tuple(map(str, told["ids"])), np.array(told["labels"], dtype=np.int64)
            found = Bank(folder, card, ids, labels, int(told["learned"]), int(told["tested"]))
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"{folder / SAMPLES} lists no samples; {AGAIN}") from error
    if not _fits_itself(found):
        raise ConfigError(f"{folder / SAMPLES} does not fit itself; {AGAIN}")
    return found


def _fits_itself(bank: Bank) -> bool:
    """Whether there are as many labels as ids, none of both twice or negative, but of struck samples."""
    n, learned, tested = len(bank.ids), bank.learned, bank.tested
    if bank.labels.shape != (n,) or learned <= 0 or not 0 <= tested <= n - learned:
        return False
    parts = bank.ids[: n - tested], bank.ids[n - tested :]
    once = all(len({*part} - {""}) == len(part) - part.count("") for part in parts)
    return once and bool((np.where(bank.struck, 0, bank.labels) >= 0).all())


def write_bank(bank: Bank) -> None:
    """Begin a bank's folder: of which samples it is, and last, so that it is one, what decides it.

    In a folder that has models of this bank already, only what is lacking is written.
    """
    bank.folder.mkdir(parents=True, exist_ok=True)
    if not bank.finished:
        _write_samples(bank)
    elif not (bank.folder / SAMPLES).is_file():
        nan = [np.isnan(bank.read_logits(one)[0]).all(axis=1) for one in bank.finished]
        strike_samples(bank, np.logical_or.reduce(nan))  # what it was purged of stays away
    card = json.dumps(bank.card.model_dump(mode="json"), indent=1, ensure_ascii=False)
    write_file(bank.folder / CARD, card + "\n")


def strike_samples(bank: Bank, rows: NDArray[np.bool_]) -> Bank:
    """Forget ids and labels of some rows, (n,); the bank as it then is. For whoever is alone at work."""
    ids = tuple("" if gone else name for name, gone in zip(bank.ids, rows, strict=True))
    left = replace(bank, ids=ids, labels=np.where(rows, NOBODY, bank.labels))
    _write_samples(left)
    return left


def _write_samples(bank: Bank) -> None:
    samples = {
        "ids": list(bank.ids),
        "labels": bank.labels.tolist(),
        "learned": bank.learned,
        "tested": bank.tested,
    }
    write_file(bank.folder / SAMPLES, json.dumps(samples, ensure_ascii=False) + "\n")
