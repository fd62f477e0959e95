"""Class names: from what was given to indices, and from what a person types to one class."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.errors import DataError, SplitError, listed, nearest
from expunge.names.text import as_name, clean_name, clean_names, composed, shared_names

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MOST_DIGITS = 18
"""Of a number that is typed: what fits into 64 bits."""
MOST_NAMES = 50_000
"""Classes that data may name where they have fewer samples: a part of a large dataset names them all."""


def encode_labels(
    parts: Sequence[NDArray[Any]], names: Sequence[str] | None
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Labels of several parts as class indices, and the class names.

    Integer labels count as indices into `names` (made up as "0", "1", ... if there are none);
    string labels are looked up in `names`, or sorted to make them. Names are cleaned.

    Raises DataError for labels that are neither, negative, beyond the names, or beyond the number of
    samples where there are no names.
    """
    import numpy as np

    arrays = [np.asarray(part) for part in parts]
    if names is not None:
        names = tuple(as_name(name) for name in names)
        _check_different(names)
    if any(array.ndim != 1 for array in arrays):
        shape = next(array.shape for array in arrays if array.ndim != 1)
        raise DataError(f"labels have shape {shape}; give one class index or name per sample")
    kinds = {array.dtype.kind for array in arrays if array.size}
    if kinds <= {"U", "S", "O"}:
        texts = [_texts(array) for array in arrays]
        found = sorted({name for text in texts for name in text})
        classes = tuple(names) if names is not None else tuple(found)
        index = {name: number for number, name in enumerate(classes)}
        unknown = [name for name in found if name not in index]
        if unknown:
            raise DataError(f"label {unknown[0]!r} is not among the class names {listed(classes)}")
        return [np.array([index[n] for n in text], dtype=np.int64) for text in texts], classes
    if not kinds <= {"i", "u", "b"}:
        raise DataError(
            f"labels of type {arrays[0].dtype} are not classes; give integers from 0 or names"
        )
    top = max((int(array.max()) for array in arrays if array.size), default=-1)
    low = min((int(array.min()) for array in arrays if array.size), default=0)
    if low < 0:
        times = sum(int((array < 0).sum()) for array in arrays)
        raise DataError(
            f"label {low} is negative ({times:,} such samples); class indices count from 0: leave the "
            "samples out if it means that nobody knows"
        )
    if names is not None and top >= len(names):
        raise DataError(f"label {top} is beyond the {len(names)} class names given")
    samples = sum(array.size for array in arrays)
    if names is None and top >= samples:
        raise DataError(
            f"label {top} of {samples} samples: class indices count from 0, and there are never more "
            "classes than samples; number them anew, or give the classes' names"
        )
    classes = tuple(names) if names is not None else _numbers(top + 1)
    return [array.astype(np.int64) for array in arrays], classes


def _check_different(names: tuple[str, ...]) -> None:
    """Raise DataError for two classes of one name, of which a request could mean either."""
    if len(set(names)) != len(names):
        twice = next(name for name, times in Counter(names).items() if times > 1)
        raise DataError(f"two classes are called {twice!r}; give each a name of its own")


def check_named(names: int, samples: int) -> None:
    """Raise DataError for data that name more classes than they may; look before names are read."""
    if names > max(samples, MOST_NAMES):
        raise DataError(
            f"{names:,} class names for {samples:,} samples; data name as many classes as they have "
            f"samples, or {MOST_NAMES:,}: leave out those without samples"
        )


def _texts(labels: NDArray[Any]) -> list[str]:
    """Labels as cleaned texts."""
    if labels.dtype.kind == "O":
        return shared_names(labels.tolist())
    texts: list[str] = clean_names(labels).tolist()
    return texts


def rows_by_class(labels: NDArray[np.int64]) -> dict[int, NDArray[np.int64]]:
    """Class index -> its rows, ascending, of the classes that there are, in their order.

    One sort, however many classes there are.
    """
    import numpy as np

    order = np.argsort(labels, kind="stable")
    found, starts = np.unique(labels[order], return_index=True)
    return dict(zip(found.tolist(), np.split(order, starts[1:]), strict=False))


def adopt_names(
    labels: Sequence[NDArray[Any]], own: Sequence[str] | None, wanted: Sequence[str] | None
) -> tuple[list[NDArray[Any]], Sequence[str] | None]:
    """Labels and class names, by the names wanted.

    Where integer labels are indices into names of the data's own, they become indices into the names
    wanted: a class that is gone from the data must not move the others up.
    Raises DataError if the data have a class that is not wanted, or far more classes than samples.
    """
    import numpy as np

    arrays = [np.asarray(part) for part in labels]
    if own is not None:
        check_named(len(own), sum(array.size for array in arrays))
        own = tuple(as_name(name) for name in own)
        _check_different(own)
    if own is None and wanted is not None and tuple(wanted) != (count := _numbers(len(wanted))):
        own = count if set(wanted) == set(count) else None  # integers, in an order of their own
    if wanted is None or own is None or tuple(own) == tuple(wanted):
        return arrays, wanted if wanted is not None else own
    place: dict[str, int] = {}
    for number, name in enumerate(wanted):
        place.setdefault(as_name(name), number)
    unknown = [name for name in own if name not in place]
    if unknown:
        raise DataError(
            f"the data have a class {unknown[0]!r}, which is none of {listed(wanted)}; give the data "
            "that the model was trained on"
        )
    if any(array.dtype.kind not in "iub" for array in arrays):
        return arrays, wanted
    if any(array.size and not 0 <= array.min() <= array.max() < len(own) for array in arrays):
        return arrays, own  # which `encode_labels` refuses
    index = np.array([place[name] for name in own], dtype=np.int64)
    return [index[array.astype(np.int64)] for array in arrays], wanted


def _numbers(count: int) -> tuple[str, ...]:
    """The names of classes that have none: "0", "1", ..."""
    return tuple(str(number) for number in range(count))


def resolve_class(text: str, classes: Sequence[str]) -> int:
    """The index of the class that a person means: an exact name first, then an index, then the one name
    whose letters are only composed otherwise; `#3` is always the index.

    Raises SplitError if there is no such class, or if a number is the name of one class and the
    index of another.
    """
    text = clean_name(text)
    forced = text.startswith("#")
    number = text[1:] if forced else text
    index = int(number) if number.isdecimal() and len(number) <= MOST_DIGITS else None
    if forced:
        if index is None or index >= len(classes):
            raise SplitError(f"class {text!r}: give an index from #0 to #{len(classes) - 1}")
        return index
    if text in classes:
        named = list(classes).index(text)
        if index is not None and index < len(classes) and index != named:
            raise SplitError(
                f"class {text!r} is the name of class #{named} and the index of "
                f"{classes[index]!r}: write #{named} or #{index}"
            )
        return named
    if index is not None and index < len(classes):
        return index
    alike = [n for n, name in enumerate(classes) if composed(name) == composed(text)]
    if len(alike) == 1:
        return alike[0]
    raise SplitError(f"no class {text!r}{nearest(text, classes)}; there are: {listed(classes)}")
