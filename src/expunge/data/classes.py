"""Class names: from what was given to indices, and from what a person types to one class."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from expunge.errors import DataError, SplitError, nearest

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def encode_labels(
    parts: Sequence[NDArray[Any]], names: Sequence[str] | None
) -> tuple[list[NDArray[np.int64]], tuple[str, ...]]:
    """Labels of several parts as class indices, and the class names.

    Integer labels count as indices into `names` (made up as "0", "1", ... if there are none);
    string labels are looked up in `names`, or sorted to make them.

    Raises DataError for labels that are neither, negative, or beyond the names.
    """
    import numpy as np

    arrays = [np.asarray(part) for part in parts]
    if any(array.ndim != 1 for array in arrays):
        shape = next(array.shape for array in arrays if array.ndim != 1)
        raise DataError(f"labels have shape {shape}; give one class index or name per sample")
    kinds = {array.dtype.kind for array in arrays if array.size}
    if kinds <= {"U", "S", "O"}:
        texts = [array.astype(np.str_) for array in arrays]
        found = sorted({name for text in texts for name in text.tolist()})
        classes = tuple(names) if names is not None else tuple(found)
        unknown = [name for name in found if name not in classes]
        if unknown:
            raise DataError(f"label {unknown[0]!r} is not among the class names {list(classes)}")
        index = {name: number for number, name in enumerate(classes)}
        return [np.array([index[n] for n in t.tolist()], dtype=np.int64) for t in texts], classes
    if not kinds <= {"i", "u", "b"}:
        raise DataError(
            f"labels of type {arrays[0].dtype} are not classes; give integers from 0 or names"
        )
    encoded = [array.astype(np.int64) for array in arrays]
    top = max((int(array.max()) for array in encoded if array.size), default=-1)
    low = min((int(array.min()) for array in encoded if array.size), default=0)
    if low < 0:
        raise DataError(f"label {low} is negative; class indices count from 0")
    classes = tuple(names) if names is not None else tuple(str(c) for c in range(top + 1))
    if top >= len(classes):
        raise DataError(f"label {top} is beyond the {len(classes)} class names given")
    return encoded, classes


def adopt_names(
    labels: Sequence[NDArray[Any]], own: Sequence[str] | None, wanted: Sequence[str] | None
) -> tuple[list[NDArray[Any]], Sequence[str] | None]:
    """Labels and class names, by the names wanted.

    Where integer labels are indices into names of the data's own, they become indices into the names
    wanted: a class that is gone from the data must not move the others up.
    Raises DataError if the data have a class that is not wanted.
    """
    import numpy as np

    arrays = [np.asarray(part) for part in labels]
    if wanted is None or own is None or tuple(own) == tuple(wanted):
        return arrays, wanted if wanted is not None else own
    unknown = [name for name in own if name not in wanted]
    if unknown:
        raise DataError(
            f"the data have a class {unknown[0]!r}, which is none of {list(wanted)}; give the data "
            "that the model was trained on"
        )
    if any(array.dtype.kind in "USO" for array in arrays):
        return arrays, wanted
    index = np.array([list(wanted).index(name) for name in own], dtype=np.int64)
    return [index[array] for array in arrays], wanted


def resolve_class(text: str, classes: Sequence[str]) -> int:
    """The index of the class that a person means: an exact name first, then an index; `#3` is always
    the index.

    Raises SplitError if there is no such class, or if a number is the name of one class and the
    index of another.
    """
    forced = text.startswith("#")
    number = text[1:] if forced else text
    index = int(number) if number.isdecimal() else None
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
    raise SplitError(f"no class {text!r}{nearest(text, classes)}; there are: {', '.join(classes)}")
