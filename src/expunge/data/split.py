"""What to forget: every sample of the training data in exactly one of four disjoint parts."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import InitVar, dataclass, replace
from functools import cached_property
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
from numpy.typing import NDArray

from expunge.data.aside import others, stratified
from expunge.data.batch import Indices
from expunge.data.classes import resolve_class
from expunge.data.load import Data
from expunge.data.lookup import look_up
from expunge.data.parts import SPLIT_PARTS, Part
from expunge.data.request import (
    check_request,
    check_share,
    class_names,
    read_ids,
    request_number,
    row_number,
)
from expunge.data.samples import Samples
from expunge.errors import SplitError, listed, nearest
from expunge.names.seeds import numpy_generator
from expunge.names.text import clean_name, composed

IdTuple = tuple[str, ...]


@dataclass(frozen=True)
class Split:
    """Disjoint ids of the training data; the test set stands apart.

    retain: kept and learned from. forget: to be forgotten. validation: never learned from, for
    schedules and tuning. excluded: struck by an earlier request, or asked for now but never learned
    from; never read again, and allowed to be gone from the data.

    The constructors `random`, `classes`, `ids`, `groups`, `mask`, `indices`, `poison` and `parse` take
    a `base`: the split of the model that is to forget; without one, `Split.whole(data)`.
    All raise SplitError for requests that are empty, ask for everything, or name what is not there.
    """

    retain: IdTuple
    forget: IdTuple = ()
    validation: IdTuple = ()
    excluded: IdTuple = ()
    checked: InitVar[bool] = False

    def __post_init__(self, checked: bool) -> None:
        if checked:  # made of the parts of a split, or of rows: each id is in one
            return
        parts = [getattr(self, name) for name in SPLIT_PARTS]
        if len(set().union(*parts)) == sum(map(len, parts)):
            return
        seen: dict[str, str] = {}
        for name in SPLIT_PARTS:
            for key in getattr(self, name):
                if key in seen:
                    raise SplitError(
                        f"id {key!r} is in {seen[key]} and in {name}: each sample belongs to one part"
                    )
                seen[key] = name

    @classmethod
    def whole(cls, data: Data, *, validation: float = 0.1, split_seed: int = 0) -> Split:
        """Nothing forgotten: everything in retain but a stratified share for validation.

        validation: share in [0, 1) of the training samples, drawn by `split_seed` alone.
        """
        check_share(validation)
        samples = data.train
        generator = numpy_generator("validation", split_seed)
        held = stratified(samples.labels, validation, generator) if validation else _no_rows()
        kept = others(len(samples), held)
        if not len(kept):
            raise SplitError("there are no samples to learn from; give data that hold some")
        made = cls(_names(samples, kept), (), _names(samples, held), checked=True)
        made._looked_up[samples] = {"retain": kept, "validation": held}
        return made.withholding(data.struck.ids)

    @classmethod
    def random(
        cls, data: Data, fraction: float, *, seed: int = 0, base: Split | None = None
    ) -> Split:
        """Forget a share in (0, 1) of the retain set, drawn by `seed`; at least one sample."""
        base = base or cls.whole(data)
        if not 0 < fraction < 1:
            raise SplitError(f"random:{fraction:g} - the fraction must lie between 0 and 1")
        count = round(fraction * len(base.retain))
        if count == 0:
            raise SplitError(
                f"random:{fraction:g} of {len(base.retain)} samples is none; ask for a larger share"
            )
        chosen = numpy_generator("forget", seed).choice(len(base.retain), count, replace=False)
        return base.forgetting([base.retain[row] for row in chosen])

    @classmethod
    def classes(
        cls, data: Data, classes: Iterable[str | int], *, base: Split | None = None
    ) -> Split:
        """Forget whole classes, by name, or by index (an int, or text such as "#3")."""
        base = base or cls.whole(data)
        texts = [c if isinstance(c, str) else f"#{int(c)}" for c in classes]
        rows, what = rows_of_classes(data, texts)
        struck = set(base.excluded)
        names = [name for name in _names(data.train, rows) if name not in struck]
        return base.forgetting(names, what=what)

    @classmethod
    def ids(cls, data: Data, ids: Iterable[str], *, base: Split | None = None) -> Split:
        """Forget samples by id; each must be in the training data, once, and not struck before."""
        base = base or cls.whole(data)
        names = [clean_name(str(name)) for name in ids]
        repeated = [name for name, count in Counter(names).items() if count > 1]
        if repeated:
            raise SplitError(
                f"id {repeated[0]!r} is listed {Counter(names)[repeated[0]]} times; list each once"
            )
        struck = sorted(set(names) & set(base.excluded))
        if struck:
            raise SplitError(
                f"id {struck[0]!r} was struck or set aside before, this model never reads it again; "
                "remove it from the list"
            )
        rows = data.train.rows_of(names)
        unknown = [names[number] for number in np.flatnonzero(rows < 0)]
        if unknown:
            raise unknown_ids(data, unknown, len(names))
        return base.forgetting(names)

    @classmethod
    def indices(cls, data: Data, rows: Iterable[int], *, base: Split | None = None) -> Split:
        """Forget rows of the training data, counted from 0."""
        return cls.ids(data, cls.named_rows(data, rows), base=base)

    @staticmethod
    def named_rows(data: Data, rows: Iterable[int]) -> list[str]:
        """Ids of rows of the training data, counted from 0."""
        wanted = [int(row) for row in rows]
        wrong = [row for row in wanted if not 0 <= row < len(data.train)]
        if wrong:
            raise SplitError(
                f"row {wrong[0]} is out of range: the training data has rows 0 to "
                f"{len(data.train) - 1}"
            )
        return [str(data.train.ids[row]) for row in wanted]

    @classmethod
    def mask(
        cls, data: Data, mask: Sequence[bool] | NDArray[np.bool_], *, base: Split | None = None
    ) -> Split:
        """Forget where a boolean per training sample is true."""
        chosen = np.asarray(mask)
        if chosen.dtype != np.bool_ or chosen.shape != (len(data.train),):
            raise SplitError(
                f"the mask is {chosen.dtype} of shape {chosen.shape}; give one boolean for each of "
                f"the {len(data.train)} training samples"
            )
        return cls.indices(data, np.flatnonzero(chosen).tolist(), base=base)

    @classmethod
    def groups(cls, data: Data, column: str, value: str, *, base: Split | None = None) -> Split:
        """Forget the samples whose `column` reads `value`, such as all of one person."""
        base = base or cls.whole(data)
        rows, tested, what = rows_of_group(data, column, value)
        if not len(rows):
            raise SplitError(
                f"{what} names {len(tested):,} samples, all of the test set: the model never learns "
                "from them, so there is nothing to forget; take them out of the test data instead"
            )
        struck = set(base.excluded)
        names = [name for name in _names(data.train, rows) if name not in struck]
        return base.forgetting(names, what=what)

    @classmethod
    def poison(
        cls, data: Data, share: float = 1.0, *, seed: int = 0, base: Split | None = None
    ) -> Split:
        """Forget the poisoned samples, or a share in (0, 1] of those learned from, drawn by `seed`.

        What is not drawn stays in retain, as it does for someone who has found only some of them.
        """
        base = base or cls.whole(data)
        if data.poison is None:
            raise SplitError(
                "these data have no poison that is known of; poison them (as in digits+patch), or name "
                "the samples with ids:FILE"
            )
        asked = base.forgetting(data.poison.ids.difference(base.excluded), what="poison")
        return asked if share == 1 else base.forgetting(some_of(asked.forget, share, seed))

    @classmethod
    def parse(cls, data: Data, spec: str, *, seed: int = 0, base: Split | None = None) -> Split:
        """Read a forget request as typed:

        `random:FRACTION`, `class:LABEL[,LABEL...]`, `ids:FILE` (UTF-8, read as `look_up` reads lines;
        `-` reads standard input), `group:COLUMN=VALUE`, `indices:ROW[,ROW...]`, `poison[:SHARE]`.
        """
        check_request(spec)
        kind, _, rest = spec.partition(":")
        if spec == "poison":
            return cls.poison(data, base=base)
        if kind == "random":
            return cls.random(data, request_number(spec, rest), seed=seed, base=base)
        if kind == "poison":
            return cls.poison(data, request_number(spec, rest), seed=seed, base=base)
        if kind == "class":
            return cls.classes(data, class_names(rest, data.classes), base=base)
        if kind == "ids":
            found = look_up(read_ids(rest), data, () if base is None else base.excluded)
            return cls.ids(data, [*found.names, *found.unknown], base=base)
        if kind == "indices":
            return cls.indices(data, [row_number(spec, r) for r in rest.split(",")], base=base)
        column, _, value = rest.partition("=")
        return cls.groups(data, column, value, base=base)

    def forgetting(self, names: Iterable[str], *, what: str = "the request") -> Split:
        """This split with some more ids to forget.

        Ids in validation were never learned from: they become excluded, so that nothing reads them
        again. An earlier forget set becomes excluded too.
        """
        wanted = set(names)
        forget = tuple(name for name in self.retain if name in wanted)
        if not wanted:
            raise SplitError(
                f"{what} names no samples, or all of them were struck before; name some to forget"
            )
        if not forget:
            raise SplitError(
                f"{what} names only samples that the model never learned from (validation or set "
                "aside); there is nothing to forget"
            )
        if len(forget) == len(self.retain):
            raise SplitError(
                f"{what} names all {len(forget)} samples that the model learned from; nothing would "
                "be retained: delete the model instead, or keep some samples"
            )
        made = Split(
            retain=tuple(name for name in self.retain if name not in wanted),
            forget=forget,
            validation=tuple(name for name in self.validation if name not in wanted),
            excluded=tuple(
                sorted({*self.excluded, *self.forget, *wanted.intersection(self.validation)})
            ),
            checked=True,
        )
        made.__dict__["_base"] = self.retain
        for samples, known in self._looked_up.items():  # so that not all are looked up again
            struck = made._rows(samples, "forget")
            if "retain" in known and (struck >= 0).all():
                kept = known["retain"][~np.isin(known["retain"], struck)]
                made._looked_up[samples]["retain"] = kept
        return made

    def whole_again(self) -> Split:
        """This split before its forget set was asked for: all of it retained."""
        return replace(self, retain=(*self.retain, *self.forget), forget=(), checked=True)

    def settled(self) -> Split:
        """This split after its forget set is forgotten: the base of a further request."""
        struck = tuple(sorted({*self.excluded, *self.forget}))
        made = replace(self, forget=(), excluded=struck, checked=True)
        for samples, known in self._looked_up.items():
            made._looked_up[samples] = {
                n: r for n, r in known.items() if n in ("retain", "validation")
            }
        return made

    def withholding(self, names: Collection[str]) -> Split:
        """This split without some ids in retain and validation, which nothing that learns may read."""
        gone = set(names).intersection((*self.retain, *self.validation)) if names else set()
        if not gone:
            return self
        kept = {
            part: tuple(name for name in getattr(self, part) if name not in gone)
            for part in ("retain", "validation")
        }
        if not kept["retain"]:
            raise SplitError(
                "all samples to learn from were struck by deletion requests; none is left"
            )
        excluded = tuple(sorted({*self.excluded, *gone}))
        return Split(kept["retain"], self.forget, kept["validation"], excluded, checked=True)

    def made_of(self, base: Split) -> bool:
        """Whether this is what `base.forgetting` made, so that it holds what the base does."""
        return self._base is base.retain

    def rows(self, samples: Samples, part: Part) -> Indices:
        """Rows of one part in the data, ascending: (n,), for the caller to do with as they like.

        Raises SplitError if ids of a part that must be readable are gone from the data.
        """
        name = {Part.FORGET_LABELS: "forget"}.get(part, part.names()[0])
        found = self._rows(samples, name)
        missing = int((found < 0).sum())
        if missing:
            names = getattr(self, name)
            first = names[int(np.argmin(samples.rows_of(names)))]
            raise SplitError(
                f"{missing} of the {len(names)} {part.names()[0]} samples are not in the data "
                f"(id {first!r}, for example); give the data that the model was trained on"
            )
        return found.copy()

    def _rows(self, samples: Samples, name: str) -> Indices:
        """Rows of a part, ascending, looked up once; -1 for each id that is gone from the data."""
        known = self._looked_up.setdefault(samples, {})
        if name not in known:
            known[name] = np.sort(samples.rows_of(getattr(self, name)))
        return known[name]

    @cached_property
    def _base(self) -> IdTuple | None:
        """What was retained where this split was made by `forgetting`."""
        return None

    @cached_property
    def _looked_up(self) -> WeakKeyDictionary[Samples, dict[str, Indices]]:
        return WeakKeyDictionary()

    def __getstate__(self) -> dict[str, IdTuple]:  # a copy finds its rows itself
        return {name: getattr(self, name) for name in SPLIT_PARTS}

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the ids of each part, 64 hexadecimal digits, whatever their order."""
        digest = hashlib.sha256()
        for name in SPLIT_PARTS:
            digest.update(f"{name}\x1e".encode())
            digest.update("\x1f".join(sorted(getattr(self, name))).encode())
        return digest.hexdigest()

    def only_whole_classes(self, data: Data) -> bool:
        """Whether something is forgotten, and no class of it stays in part."""
        asked = _classes(data.train.labels[self.rows(data.train, Part.FORGET)])
        return bool(asked) and asked <= set(self.forgotten_classes(data))

    def forgotten_classes(self, data: Data) -> tuple[int, ...]:
        """Classes of which nothing is retained: forgotten whole, now or by an earlier request.

        Where struck samples are gone from the data, so are their labels: then a class without any
        sample left to learn from counts too.
        """
        labels = data.train.labels
        struck = np.concatenate([self._rows(data.train, name) for name in ("forget", "excluded")])
        kept = self._rows(data.train, "retain")
        gone = _classes(labels[struck[struck >= 0]])
        if (struck < 0).any():
            gone |= set(range(len(data.classes))) - _classes(labels)
        return tuple(sorted(gone - _classes(labels[kept[kept >= 0]])))


def rows_of_classes(data: Data, classes: Iterable[str]) -> tuple[Indices, str]:
    """Rows of the training samples of some classes, ascending, and what to call these in a message."""
    wanted = sorted({resolve_class(text, data.classes) for text in classes})
    labels = listed([data.classes[c] for c in wanted])
    return np.flatnonzero(np.isin(data.train.labels, wanted)), f"class {labels}"


def rows_of_group(
    data: Data, column: str, value: str, *, redacted: bool = False
) -> tuple[Indices, list[str], str]:
    """Rows of the training samples whose column reads a value, ids of such test samples, and what to
    call them in a message. Letters are the same however they are composed, where the column has them in
    no other way. redacted: whether an error may name no value.

    Raises SplitError for a column that is not there, or never reads that.
    """
    column = clean_name(column)
    values = column_texts(data, column)
    theirs = _texts(data.test.columns.get(column, []))
    value = _as_written(clean_name(value), values, theirs)
    rows = np.flatnonzero(values == value)
    tested = np.flatnonzero(theirs == value)
    if not len(rows) and not len(tested) and redacted:
        raise SplitError(f"column {column!r} never reads the value asked for; write it as it is")
    if not len(rows) and not len(tested):
        known = sorted(set(values.tolist()))
        raise SplitError(
            f"column {column!r} never reads {value!r}{nearest(value, known)} "
            f"(it has {len(known)} values, such as {known[0]!r})"
        )
    return rows, data.test.ids[tested].tolist(), f"{column}={value}"


def _as_written(value: str, *columns: NDArray[Any]) -> str:
    """A value as columns have it: composed otherwise, where they lack it so, and in one way alone."""
    if value.isascii() or any((values == value).any() for values in columns):
        return value
    there = {one for values in columns for one in set(values.tolist())}
    meant = [one for one in there if composed(str(one)) == composed(value)]
    return meant[0] if len(meant) == 1 else value


def struck_ids(ids: Sequence[str], when: str, *, redacted: bool) -> SplitError:
    """The error for ids that were struck before. redacted: whether it may name none."""
    which = f"{len(ids):,} of the ids were" if redacted else f"id {ids[0]!r} was"
    return SplitError(
        f"{which} struck before {when}, and this model never reads it again; remove it from the list "
        f"({len(ids):,} such)"
    )


def unknown_ids(
    data: Data, unknown: Sequence[str], asked: int, *, redacted: bool = False
) -> SplitError:
    """The error for ids that are not in the training data. asked: how many were asked for. redacted:
    whether it may name none.
    """
    if redacted:
        return SplitError(f"{len(unknown)} of the {asked} ids are not in the training data")
    ids = data.train.ids
    span = (
        f"ids are row numbers of the file, {ids[0]} to {ids[-1]}"
        if data.train.positional
        else f"an id looks like {str(ids[0])!r}"
    )
    return SplitError(
        f"id {unknown[0]!r} is not in the training data{nearest(unknown[0], data.train.position)} "
        f"({len(unknown)} of {asked} unknown; {span})"
    )


def some_of(ids: Sequence[str], share: float, seed: int) -> list[str]:
    """A share in (0, 1] of some ids, drawn by `seed`; a larger share holds every smaller one.

    Raises SplitError for a share out of range, or of which nothing is left.
    """
    if not 0 < share <= 1:
        raise SplitError(f"a share of {share:g}: it must lie above 0, up to 1")
    count = round(share * len(ids))
    if count == 0:
        raise SplitError(
            f"a share of {share:g} of {len(ids)} samples is none; ask for a larger one"
        )
    order = numpy_generator("some of", seed).permutation(len(ids))
    return [ids[row] for row in order[:count]]


def column_texts(data: Data, column: str) -> NDArray[Any]:
    """What a column reads of each training sample (n,). Raises SplitError for one that is not there."""
    columns, column = data.train.columns, clean_name(column)
    if column not in columns:
        there = listed(columns) or "none (they come from parquet, metadata.csv and npz)"
        raise SplitError(f"no column {column!r}{nearest(column, columns)}; there are: {there}")
    return _texts(columns[column])


def _texts(values: Sequence[Any] | NDArray[Any]) -> NDArray[Any]:
    """A column as texts."""
    array = np.asarray(values)
    return array if array.dtype.kind == "O" else array.astype(np.str_)  # objects are texts already


def _classes(labels: NDArray[np.int64]) -> set[int]:
    """Those that occur."""
    return set(np.flatnonzero(np.bincount(labels)).tolist())


def _names(samples: Samples, rows: NDArray[np.int64]) -> IdTuple:
    return tuple(samples.ids[rows].tolist())


def _no_rows() -> Indices:
    return np.empty(0, dtype=np.int64)
