"""Labels as people write them, as whole numbers or texts; what cannot be a class is refused."""

from __future__ import annotations

import numbers
import re
import warnings
from collections.abc import Collection, Mapping, Sequence, Set
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from expunge.data.classes import adopt_names, encode_labels
from expunge.errors import DataError, DataWarning, listed
from expunge.names.text import as_name

FAR = 10
"""How much further than all others together one label must lie to be taken for a mark, not a class."""
LARGEST = 2**53
"""Up to here doubles hold every whole number."""


_DECIMAL = re.compile(r"-?[0-9]+(\.[0-9]*|\.[0-9]*e\+?[0-9]+|e\+?[0-9]+)")
MISSING = {"nan", "na", "n/a", "<na>", "#n/a", "null"}
"""What tools write where a label is missing, in any case."""


class ClassIndices(NamedTuple):
    """Labels of some parts as class indices.

    notes: what a person should know of how they were read, a sentence each.
    """

    labels: list[NDArray[np.int64]]
    classes: tuple[str, ...]
    notes: tuple[str, ...]


def class_indices(
    parts: Sequence[Any], own: Sequence[str] | None, wanted: Sequence[str] | None
) -> ClassIndices:
    """Labels of some parts, in whatever form, as class indices.

    own: class names of the data, by index. wanted: names that the indices are to be of. Raises
    DataError for labels that are no classes, or none of those.
    """
    plain = [plain_labels(part, known=wanted or own or ()) for part in parts]
    arrays, names = adopt_names(plain, own, wanted)
    if names is None and all(one.dtype.kind in "iu" for one in arrays if one.size):
        check_far(arrays)
    labels, classes = encode_labels(arrays, names)
    return ClassIndices(labels, classes, tuple(label_notes(parts, plain, named=names is not None)))


def plain_labels(labels: Any, known: Collection[str] = ()) -> NDArray[Any]:
    """Labels (n,) as integers or booleans, or as texts (also bytes and objects).

    Whole numbers that are written as floats become integers, objects that are all numbers too; a
    column (n, 1) is taken as (n,), and rows (n, k) that are exactly one-hot as the place of their one.

    known: names of classes, which may be such as stand for a missing label else.

    Raises DataError for labels that are missing (None, null, nan, an empty text, "NA"), fractions,
    numbers among texts, collections, and rows that are not one-hot.
    """
    if isinstance(labels, np.ma.MaskedArray):
        _check_present(np.ma.getmaskarray(labels).reshape(len(labels), -1).any(axis=1))
    array = np.asarray(labels)
    if array.dtype.kind == "O" and array.ndim == 1:
        array = _of_objects(array)
    if array.dtype.kind == "f":
        array = _whole(array)
    if array.ndim == 2 and array.dtype.kind in "iub":
        array = array[:, 0] if array.shape[1] == 1 else _places(array)
    if array.dtype.kind in "USO" and array.ndim == 1:
        found = set(array.tolist())
        odd = [one for one in found if is_missing_text(one) and one not in known]
        if odd:
            _check_present(np.array([one in odd for one in array.tolist()]), odd[0])
    return array


def counted_as(
    labels: Any, own: Sequence[str] | None, names: Sequence[str] | None, where: str
) -> Any:
    """Labels that count in class names of their own, as such that count in `names`, matched by name.

    where: what they are of, in words. The same where either has no names, or the labels are texts.
    Raises DataError for a class that is none of `names`.
    """
    if own is None or names is None or list(own) == list(names):
        return labels
    place = {as_name(name): number for number, name in enumerate(names)}
    unknown = [name for name in map(as_name, own) if name not in place]
    if unknown:
        raise DataError(
            f"{where} has a class {unknown[0]!r}, which is none of those before it, "
            f"{listed([as_name(one) for one in names])}; give all parts the same class names"
        )
    plain = plain_labels(labels)
    known = plain.dtype.kind in "iu" and plain.size and 0 <= plain.min() <= plain.max() < len(own)
    if not known:  # texts are looked up by name, and what is out of range is refused later
        return labels
    return np.array([place[as_name(name)] for name in own], dtype=np.int64)[plain]


def label_notes(given: Sequence[Any], plain: Sequence[NDArray[Any]], *, named: bool) -> list[str]:
    """What a person should know of how labels were read, a sentence each.

    given: labels of each part as they came. plain: as `plain_labels` gave them. named: whether class
    names came with the data.
    """
    notes = []
    if any((np.ndim(one) == 2 and np.shape(one)[1] > 1) or _lists(one) for one in given):
        notes.append("the labels are one-hot; each is taken as the place of its one")
    filled = [one for one in plain if one.size]
    if not named and filled and all(one.dtype.kind in "iu" for one in filled):
        low = min(int(one.min()) for one in filled)
        if low > 0:
            empty = "class '0' has" if low == 1 else f"classes '0' to '{low - 1}' have"
            notes.append(
                f"the labels count from {low}, and are taken as class indices, which count from 0: "
                f"{empty} no sample; if the model knows no such class, number the labels from 0"
            )
    return notes


def check_far(arrays: Sequence[NDArray[Any]]) -> None:
    """Raise DataError where one integer label lies far beyond all others, which leave few gaps: such as
    255 or -1 for "unknown". The arrays are of whole numbers.
    """
    counts = [np.unique(array, return_counts=True) for array in arrays if array.size]
    found = sorted({int(value) for values, _ in counts for value in values})
    if len(found) < 2:
        return
    top, second = found[-1], found[-2]
    if second >= 2 * (len(found) - 1) or top - second <= second + 1 + FAR:
        return
    times = sum(int(number[values == top].sum()) for values, number in counts)
    rows = next(np.flatnonzero(array == top) for array in arrays if (array == top).any())
    raise DataError(
        f"label {top} ({times:,} samples, the first in row {rows[0]:,}) lies far beyond all others, "
        f"{found[0]} to {second}; leave these samples out if it means that nobody knows, else number "
        "the classes without gaps or give their names"
    )


def check_mark(found: Sequence[int], arrays: Sequence[NDArray[Any]]) -> None:
    """Raise DataError for a label -1 beside classes that count from 0, and tell of one beside 0 and 1,
    which may be their opposite. found: which labels (ascending) the arrays hold.
    """
    if len(found) < 2 or found[0] != -1 or found[1] != 0:
        return
    times = sum(int((array == -1).sum()) for array in arrays)
    if len(found) > 3:
        rows = next(np.flatnonzero(array == -1) for array in arrays if (array == -1).any())
        raise DataError(
            f"label -1 ({times:,} samples, the first in row {rows[0]:,}) stands beside 0 to "
            f"{found[-1]}; leave these samples out if it means that nobody knows, else give "
            "the class another name"
        )
    warnings.warn(
        f"label -1 ({times:,} samples) is taken as a class; leave these samples out if it means that "
        "nobody knows",
        DataWarning,
        stacklevel=2,
    )


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, nan, and what pandas has for them."""
    if isinstance(value, float):
        return value != value
    return value is None or type(value).__name__ in ("NAType", "NaTType")


def is_missing_text(value: Any) -> bool:
    """Whether a text is empty, or one of `MISSING`."""
    text = value.decode("utf-8", "replace") if isinstance(value, bytes) else value
    return isinstance(text, str) and (not text.strip() or text.strip().casefold() in MISSING)


def whole_text(text: str) -> str:
    """A decimal number that is whole, as one without a point (`1.0` and `1e+16`); other texts as they
    are. A column of whole numbers is one of decimals as soon as one of them is missing.
    """
    if _DECIMAL.fullmatch(text) is None or not float(text).is_integer():
        return text
    return str(int(Decimal(text)))


def _of_objects(array: NDArray[Any]) -> NDArray[Any]:
    """Objects (n,) as numbers (n,) or (n, k) where they are that, else as they are."""
    values = array.tolist()
    _check_present(np.array([is_missing(one) for one in values]))
    several = next((one for one in values if isinstance(one, Mapping | Set)), None)
    if several is not None:
        raise DataError(
            f"label {several!r} is a {type(several).__name__}, and no class; give one class index or "
            "name per sample"
        )
    if values and all(isinstance(one, list | tuple | np.ndarray) for one in values):
        lengths = {np.shape(one) for one in values}
        if len(lengths) > 1:
            raise DataError(
                "some samples have more labels than others; give one class index or name per sample"
            )
        return np.array([np.asarray(one) for one in values])
    number = np.array([isinstance(one, numbers.Number | np.bool_) for one in values], dtype=bool)
    if number.all():
        if any(abs(one) > LARGEST for one in values):
            raise DataError(f"label {max(values, key=abs)} is no class index; number them from 0")
        whole = all(isinstance(one, numbers.Integral | np.bool_) for one in values)
        return np.array(values if whole else [float(one) for one in values])
    if number.any():
        odd = int(np.argmax(number != number[0]))
        raise DataError(
            f"label {values[0]!r} (row 0) and label {values[odd]!r} (row {odd:,}) are a number and a "
            "text; write all labels as one or the other"
        )
    return array


def _whole(array: NDArray[Any]) -> NDArray[np.int64]:
    """Floats as the whole numbers that they are."""
    if not array.size:
        return array.astype(np.int64)
    array = array.astype(np.float64)  # half precision knows no number as large as `LARGEST`
    _check_present(np.isnan(array).reshape(len(array), -1).any(axis=1))
    odd = (array != np.trunc(array)) | (np.abs(array) > LARGEST)
    if odd.any():
        row = int(np.argwhere(odd)[0][0])
        raise DataError(
            f"label {array[odd].flat[0]:g} in row {row:,} is no whole number, so it is no class; give "
            "class indices or names, not values or shares"
        )
    return array.astype(np.int64)


def _places(array: NDArray[Any]) -> NDArray[np.int64]:
    """Rows (n, k) of a single 1 and zeros: where it stands."""
    odd = ((array != 0) & (array != 1)).any(axis=1) | (array.astype(np.int64).sum(axis=1) != 1)
    if odd.any():
        raise DataError(
            f"labels have shape {array.shape}, and row {int(np.argmax(odd)):,} is not one-hot; give one "
            "class index or name per sample"
        )
    places: NDArray[np.int64] = array.argmax(axis=1)
    return places


def _check_present(missing: Any, written: str | bytes = "") -> None:
    """Raise DataError where any of (n,) booleans is true. written: what stands there, of a text."""
    rows = np.flatnonzero(missing)
    if rows.size:
        text = as_name(written).strip()
        raise DataError(
            f"{rows.size:,} of {missing.size:,} labels are missing "
            f"({f'written {text!r}' if text else 'null, None, nan or empty'}), the first in row "
            f"{rows[0]:,}; leave these samples out, or give them a class of their own"
            + (f", called otherwise than {text!r}" if text else "")
        )


def _lists(labels: Any) -> bool:
    """Whether these are objects, each of which holds several."""
    array = np.asarray(labels)
    return bool(
        array.dtype.kind == "O"
        and array.size
        and isinstance(array.flat[0], list | tuple | np.ndarray)
    )
