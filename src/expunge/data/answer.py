"""The answer to a forget request: what of it the model learned, and what the rest is."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from expunge.data.load import Data
from expunge.data.lookup import LookedUp, look_up
from expunge.data.request import check_request, class_names, read_ids, row_number
from expunge.data.split import Split, rows_of_classes, rows_of_group, struck_ids, unknown_ids
from expunge.errors import SplitError, listed

SHOWN = 20
"""Ids that a record names, and readings of lines that it and the screen tell."""
WHEN = "by whom is not recorded"
_OF_TESTS = "of the test set: the model never learned from them, and tests still read them"
_UNKNOWN = "unknown: nothing is done about them"


@dataclass(frozen=True)
class Answered:
    """What a request names.

    Attributes:
        split: what is to be forgotten, and what is not.
        text: the request as typed; empty where it was no text.
        request: what to call it in records and pages; None: by its place in the chain.
        asked: how many samples the request names, unknown ones too; None where it names none by
            itself, as a random draw.
        tested: ids of the test set.
        validation: ids held for validation, which nothing reads from now on.
        before: by whom and when they were struck before -> ids.
        unknown: what fits no sample.
        read_as: lines that are no ids -> the ids that they were read as.
        comments: lines of the list that are nothing else.
        near: some of what fits no sample -> what may be meant, as the end of a sentence.
        gone: samples struck before that are gone from the data of a redacted folder, so that nothing
            but their whole ids tells which they are.
        unnamed: nothing was named at all: a model is to be cleansed by what is clean.
    """

    split: Split
    text: str = ""
    request: str | None = None
    asked: int | None = None
    tested: Sequence[str] = ()
    validation: Sequence[str] = ()
    before: Mapping[str, Sequence[str]] = field(default_factory=dict)
    unknown: Sequence[str] = ()
    read_as: Mapping[str, Sequence[str]] = field(default_factory=dict)
    comments: int = 0
    near: Mapping[str, str] = field(default_factory=dict)
    gone: int = 0
    unnamed: bool = False

    @property
    def _rest(self) -> list[tuple[str, Sequence[str]]]:
        """What is not forgotten now: what it is, and ids."""
        return [
            ("held for validation: never learned from, and set aside now", self.validation),
            (_OF_TESTS, self.tested),
            *((f"struck before {when}", ids) for when, ids in self.before.items()),
            (_UNKNOWN, self.unknown),
        ]

    def lines(self, *, redacted: bool = False) -> list[str]:
        """What to say of it before the work; no id of a redacted model, or of a class, is named."""
        if self.asked is None:
            return []
        named = not redacted and not self.text.startswith("class:")
        told = [
            f"{self.asked:,} samples asked for: {len(self.split.forget):,} learned, to be forgotten"
        ]
        for what, ids in self._rest:
            if ids:
                told.append(f"  {len(ids):,} {what}{f' ({listed(ids)})' if named else ''}")
        if self.unknown and named:
            told += [f"  {line!r} is unknown{near}" for line, near in self.near.items()]
        if self.unknown and self.gone:
            told.append(f"  {_gone(self.gone)}")
        if self.comments:
            told.append(f"  comments in the list: {self.comments:,}")
        if self.read_as and redacted:
            told.append(f"  {len(self.read_as):,} lines are no ids, and were read as some")
        for line, ids in () if redacted else list(self.read_as.items())[:SHOWN]:
            told.append(f"  {line!r} is read as {listed(ids)}")
        if len(self.read_as) > SHOWN and not redacted:
            told.append(f"  and {len(self.read_as) - SHOWN:,} more lines that are no ids")
        return told

    @property
    def warnings(self) -> list[str]:
        """What a person should know of it; no id is in them."""
        rest = [(_OF_TESTS, self.tested), (_UNKNOWN, self.unknown)]
        return [
            f"{len(ids):,} of the {self.asked:,} samples asked for are {what}"
            for what, ids in rest
            if ids
        ]

    def check_whole(self, data: Data, *, redacted: bool = False) -> None:
        """Raise SplitError for a list some of which is not learned, where nobody would be told."""
        by_name = self.text.startswith("ids:")
        left = [*self.unknown, *(self.tested if by_name else ())]
        if left:
            raise unknown_ids(data, left, self.asked or len(left), redacted=redacted)
        for when, ids in self.before.items() if by_name else ():
            raise struck_ids(ids, when, redacted=redacted)

    def plain(self) -> dict[str, Any]:
        """Counts, for a record; empty for a request that names no sample by itself."""
        if self.asked is None:
            return {}
        return {
            "asked": self.asked,
            "learned": len(self.split.forget),
            "validation": len(self.validation),
            "test": len(self.tested),
            "struck_before": {when: len(ids) for when, ids in self.before.items()},
            "unknown": len(self.unknown),
        }

    def names(self) -> dict[str, list[str]]:
        """Ids, of each kind that is not forgotten at most `SHOWN`, for an open record."""
        rest = {"validation": self.validation, "test": self.tested, "unknown": self.unknown}
        return {name: list(ids[:SHOWN]) for name, ids in rest.items() if ids}


def answer(
    data: Data,
    spec: str,
    *,
    seed: int = 0,
    base: Split,
    when: Callable[[Collection[str]], Mapping[str, Sequence[str]]] | None = None,
    hidden: Callable[[str], str] = str,
    redacted: bool = False,
) -> Answered:
    """Read a request as `Split.parse` does; of samples that it names, those that were learned are
    forgotten, and of the others is told what they are.

    base: the model's split, settled. when: struck ids by whom and when. hidden,
    redacted: as `look_up` takes them.

    Raises SplitError where nothing that it names was learned.
    """
    check_request(spec)
    kind, _, rest = spec.partition(":")
    tested: Sequence[str] = ()
    if kind == "ids":
        what, found = (
            "the list",
            look_up(read_ids(rest), data, base.excluded, hidden, redacted=redacted),
        )
        if not found.names and not found.unknown:
            raise SplitError(f"{rest!r} holds comments alone; write one id per line")
    elif kind == "indices":
        rows = [row_number(spec, row) for row in rest.split(",")]
        what, found = spec[:60], LookedUp(Split.named_rows(data, rows), {}, [], within=True)
    elif kind == "class":
        chosen, what = rows_of_classes(data, class_names(rest, data.classes))
        found = LookedUp(data.train.ids[chosen].tolist(), {}, [], within=True)
    elif kind == "group":
        column, _, value = rest.partition("=")
        chosen, tested, what = rows_of_group(data, column, value, redacted=redacted)
        found = LookedUp(data.train.ids[chosen].tolist(), {}, [], within=True)
    else:
        return Answered(Split.parse(data, spec, seed=seed, base=base), spec)
    gone = 0
    if hidden is not str and found.unknown:
        gone = int((data.train.rows_of(base.excluded) < 0).sum())
    told = replace(_answered(data, found, tested, base, when), text=spec, gone=gone)
    learned = set(found.names).difference(told.tested, told.validation, *told.before.values())
    if not learned:
        raise _nothing(told, data, what, redacted=redacted)
    wanted = learned.union(told.validation)
    return replace(told, split=base.forgetting(wanted, what="the request" if redacted else what))


def _answered(
    data: Data,
    found: LookedUp,
    tested: Sequence[str],
    base: Split,
    when: Callable[[Collection[str]], Mapping[str, Sequence[str]]] | None,
) -> Answered:
    """Of samples by name, what is not to be forgotten."""
    wanted = set(found.names)
    struck = wanted.intersection(base.excluded)
    before = {} if not struck else when(struck) if when is not None else {WHEN: sorted(struck)}
    if struck or not found.within:
        rest = [name for name in found.names if name not in struck]
        rows = data.train.rows_of(rest).tolist()
        outside = [name for name, row in zip(rest, rows, strict=True) if row < 0]
        tested = [*tested, *outside]
        wanted = {name for name, row in zip(rest, rows, strict=True) if row >= 0}
    return Answered(
        base,
        asked=len(found.names) + len(found.unknown) + len(set(tested).difference(found.names)),
        tested=tested,
        validation=[name for name in base.validation if name in wanted],
        before=before,
        unknown=found.unknown,
        read_as=found.read_as,
        comments=found.comments,
        near=found.near,
    )


def _gone(count: int) -> str:
    """Of what was struck from a redacted folder and is gone from the data."""
    return (
        f"{count:,} samples struck before are gone from the data, and known by whole ids alone: "
        "write whole ids, no base names or patterns"
    )


def _nothing(told: Answered, data: Data, what: str, *, redacted: bool) -> SplitError:
    """The error for a request that names nothing to forget; of a redacted model it names no id."""
    parts = [
        f"{len(ids):,} {which}{'' if redacted else f', such as {ids[0]!r}'}"
        for which, ids in told._rest
        if ids
    ]
    if told.unknown and len(parts) == 1 and not redacted:
        return unknown_ids(data, told.unknown, len(told.unknown))
    if told.unknown and told.gone:
        parts.append(_gone(told.gone))
    return SplitError(
        f"{'the request' if redacted else what} names no samples that there are to forget "
        f"({'; '.join(parts) or 'none at all'}); name some that the model learned from"
    )
