"""Models of a bank made to forget by the method that an audit judges, each what it had learned of it.

forgot/KEY/0003.safetensors: what model 3 says of every sample afterwards, or why it says nothing. KEY is
of the bank, the method with its settings, and the samples to forget. A purge of the bank removes all.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from expunge.api import unlearn
from expunge.audits.shadows import Shadows
from expunge.disk.reading import check_regular, reading
from expunge.disk.whole import sweep, write_file
from expunge.errors import ConfigError, DivergenceError
from expunge.methods import Method, method_name
from expunge.methods.retrain import Retrain
from expunge.place import HERE, Place
from expunge.shadows.audited import method_of
from expunge.shadows.bank import Bank, open_bank
from expunge.shadows.making import make_all, names_of, said_by, shadow
from expunge.shadows.places import FORGOT
from expunge.trained.trained import Trained
from expunge.training.processes import one_thread

FEWEST_PAIRS = 2
"""Pairs of models, without which there is none to compare a model with."""
WHY = "why"
NOTHING_TO_FORGET = "it learned nothing of what is to be forgotten, or nothing else"


@dataclass(frozen=True, eq=False)
class Forgetting:
    """What the models of a bank are to forget, and how.

    rows: (n,), True for what the audited model forgot. seed: of the method's runs.
    """

    original: Trained
    bank: Bank
    method: Method
    rows: NDArray[np.bool_]
    seed: int
    place: Place

    @property
    def folder(self) -> Path:
        """Where what comes of it lies."""
        told = {
            "bank": self.bank.card.digest(),
            "method": method_name(self.method),
            "settings": self.method.model_dump(mode="json"),
            "forget": sorted(np.array(self.bank.ids, dtype=np.str_)[self.rows].tolist()),
            "seed": self.seed,
        }
        digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
        return self.bank.folder / FORGOT / digest[:16]

    def file(self, model: int) -> Path:
        """Where what a model says afterwards lies."""
        return self.folder / f"{model:04d}.safetensors"

    def forgets(self, model: int) -> NDArray[np.bool_]:
        """(n,): what a model learned and is made to forget."""
        return self.bank.read_learned(model) & self.rows

    @cached_property
    def able(self) -> list[int]:
        """Models that can forget: both of a pair have weights, something to forget and to keep."""
        weighed, learned = {*self.bank.weighed}, self.bank.learned

        def can(model: int) -> bool:
            if model not in weighed:
                return False
            kept = self.bank.read_learned(model) & ~self.rows
            return bool(self.forgets(model).any()) and bool(kept[:learned].any())

        finished = {*self.bank.finished}
        pairs = sorted({one // 2 for one in finished if {one, one ^ 1} <= finished})
        return [
            one
            for pair in pairs
            for one in (2 * pair, 2 * pair + 1)
            if can(2 * pair) and can(2 * pair + 1)
        ]


@dataclass(frozen=True, eq=False)
class Unlearning:
    """Gives what the models of a bank say that were made to forget, and makes those that are not yet."""

    request: Forgetting

    @property
    def left(self) -> int:
        """How many are still to be made."""
        return len(_lacking(self.request, self.request.able))

    def __call__(self) -> Shadows:
        """What they say. Raises ConfigError where too few can, or a file is damaged."""
        return _unlearned(self.request)


def unlearned(
    bank: Bank,
    original: Trained,
    subject: Trained | Method,
    forget: Sequence[str] | None = None,
    *,
    seed: int = 0,
    place: Place = HERE,
) -> Unlearning:
    """What makes the models of a bank forget as an audited model did, and gives what they then say.

    What was done before is read from the bank's folder. Of a model that diverges, `left_out` tells; its
    partner is left out too. A sample of the request that a model never saw is one that a model which was
    made to forget as well never saw: the null of `u_lira`.

    bank: made for the original, weights kept. subject: the audited model, or a method. forget: what it
    forgot; by default as the subject's split has it. place: `allow_code`, consent to run a method
    that the subject's folder names.

    Raises ConfigError for a subject that forgot nothing or more than once, and where fewer than 2 pairs
    of models can forget any of it.
    """
    if isinstance(subject, Trained):
        method = method_of(subject, allow_code=place.allow_code)
        forget = subject.split.forget if forget is None else forget
    else:
        method = subject
    rows = bank.among(forget or ())
    if not rows[: bank.learned].any():
        raise ConfigError(f"the models of {bank.folder} learned nothing of what is to be forgotten")
    request = Forgetting(original, bank, without_floor(method), rows, seed, place)
    if len(request.able) < 2 * FEWEST_PAIRS:
        raise ConfigError(
            f"only {len(request.able) // 2} pairs of models of {bank.folder} have weights, and samples "
            f"to forget and to keep; {FEWEST_PAIRS} are needed: build more models, with weights, or ask "
            "of more samples"
        )
    return Unlearning(request)


def _unlearned(request: Forgetting) -> Shadows:
    bank, place = request.bank, request.place
    with bank.at_work():
        bank = open_bank(bank.folder)  # nobody purges it from here on
        if len(bank.ids) != len(request.rows) or (bank.struck & request.rows).any():
            raise ConfigError(f"{bank.folder} has been purged of what is to be forgotten meanwhile")
        request = replace(request, bank=bank)
        request.folder.mkdir(parents=True, exist_ok=True)
        sweep(request.folder)
        numbers = request.able
        done = len(numbers) - len(_lacking(request, numbers))
        label = f"forgetting by {request.method.name}"
        with place.progress.work(label, len(numbers), done, unit="models") as bar:
            make_all(
                numbers,
                partial(_lacking, request),
                partial(bank.claim, what=f"{request.folder.name}-"),
                partial(_forget, request),
                bar.advance,
            )
        return _read_all(request, numbers)


def _lacking(request: Forgetting, numbers: Sequence[int]) -> list[int]:
    return [one for one in numbers if not request.file(one).is_file()]


def forget_half(
    original: Trained,
    bank: Bank,
    model: int,
    method: Method,
    rows: NDArray[np.bool_],
    *,
    seed: int = 0,
    place: Place = HERE,
) -> Trained:
    """A model of a bank, whose weights are kept, made to forget what it learned of some samples.

    rows: (n,) of these. seed: of the method's run. Raises DivergenceError if it diverges.
    """
    before = shadow(original, bank, model)
    ids = np.array(bank.ids, dtype=np.str_)[bank.read_learned(model) & rows].tolist()
    # a paired retraining begins as the model's own training did
    paired = isinstance(method, Retrain) and method.paired
    names = None if paired else (*names_of(bank, model), "forget", seed)
    return unlearn(
        before,
        ids,
        method,
        names=names,
        place=replace(place, strike=False),
        allow_code=place.allow_code,
    )


def without_floor(method: Method) -> Method:
    """A paired retraining without the floor beside it, which nobody reads of a model of a bank."""
    if isinstance(method, Retrain) and method.paired:
        return method.model_copy(update={"floor": False})
    return method


def _forget(request: Forgetting, model: int) -> None:
    """Make one model forget, and keep what it says afterwards."""
    bank, place = request.bank, request.place
    try:
        with one_thread():
            after = forget_half(
                request.original,
                bank,
                model,
                request.method,
                request.rows,
                seed=request.seed,
                place=place,
            )
            logits, why = said_by(after, bank, place), ""
    except DivergenceError as error:
        logits, why = np.zeros((0, 0), dtype=np.float32), str(error)
    write_file(request.file(model), save({"logits": logits}, {WHY: why}))


@contextmanager
def _opened(request: Forgetting, model: int) -> Iterator[Any]:
    file = request.file(model)
    with reading(file, "delete it, and audit again", ConfigError):
        check_regular(file)
        try:
            with safe_open(file, framework="numpy") as opened:
                yield opened
        except SafetensorError as error:
            raise ValueError(f"it is no file of logits ({error})") from error


def _why(request: Forgetting, model: int) -> str:
    """Why a model says nothing afterwards; empty where it does."""
    with _opened(request, model) as opened:
        return str((opened.metadata() or {}).get(WHY, ""))


def _said(request: Forgetting, model: int) -> NDArray[np.float32]:
    """(n, classes): what a model says afterwards."""
    with _opened(request, model) as opened:
        logits = np.asarray(opened.get_tensor("logits"), dtype=np.float32)
        if len(logits) != len(request.bank.ids):
            raise ValueError("it is of other samples")
    return logits


def _read_all(request: Forgetting, numbers: Sequence[int]) -> Shadows:
    """All pairs of which both forgot; a line for each model that did not."""
    whys = {one: _why(request, one) for one in numbers}
    learned = {one: request.bank.read_learned(one) for one in numbers}
    said = partial(_said, request)
    made = whole_pairs(request.bank, request.rows, whys, said, learned, request.method.name)
    for line in made.left_out:
        request.place.tell(line)
    return made


def whole_pairs(
    bank: Bank,
    rows: NDArray[np.bool_],
    whys: Mapping[int, str],
    said: Callable[[int], NDArray[np.float32]],
    learned: Mapping[int, NDArray[np.bool_]],
    method: str,
) -> Shadows:
    """The pairs of models of which both forgot, and why others did not.

    rows: (n,), what was to be forgotten. whys: by number of a model why it says nothing afterwards,
    empty where it does. said: gives what it says, (n, classes). learned: by number, (n,).

    Raises ConfigError where fewer than 2 pairs are left.
    """
    lost = {one: why for one, why in whys.items() if why}
    kept = [one for one in sorted(whys) if not {one, one ^ 1} & {*lost}]
    told = tuple(f"model {one} of the bank: {why}" for one, why in lost.items())
    if len(kept) < 2 * FEWEST_PAIRS:
        why = f": {told[0]}" if told else ""
        raise ConfigError(
            f"{len(lost)} of {len(whys)} models of the bank diverged, or had nothing to forget, when "
            f"they were to forget by {method}, so too few are left to compare{why}"
        )
    own = np.stack([learned[one] for one in kept])
    diverged = {one // 2 for one, why in lost.items() if why != NOTHING_TO_FORGET}
    made = replace(bank.say(kept, said, own, own & rows, told), lost_pairs=len(diverged))
    _ = made.phi  # read while nobody purges the bank
    return made
