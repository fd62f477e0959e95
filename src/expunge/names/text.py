"""Texts from elsewhere, made fit to be shown: on a terminal, in a page, in a file of UTF-8."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_CONTROLS = (*range(0x20), *range(0x7F, 0xA0), *range(0xD800, 0xE000), 0x2028, 0x2029)
"""Control characters, lone surrogates, and line ends of which few know."""
_TURNING = (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A), 0xFEFF)
"""Signs that turn the direction of the text after them, so that it reads as another."""
LONGEST, MOST_LETTERS = 1000, 2**26
"""Of an array of names, each of which takes the room of the longest: letters of one, if it is to have
more letters in all than that."""


def _escape(sign: int) -> str:
    if 0xDC80 <= sign <= 0xDCFF:  # one byte of a name that is no UTF-8
        return f"\\x{sign - 0xDC00:02x}"
    return chr(sign).encode("unicode_escape").decode("ascii")


_ONE_LINE = {sign: _escape(sign) for sign in (*_CONTROLS, *_TURNING)}
_LINES = {sign: text for sign, text in _ONE_LINE.items() if chr(sign) not in "\n\t"}


def clean(text: str) -> str:
    r"""The same, what is no letter of any script written as an escape: `\x1b`, `\udcff` as `\xff`.

    These are control characters but line ends and tabs, lone surrogates (bytes of a file's name that
    are no UTF-8), and signs that change the direction of text. The same text always gives the same.
    """
    return text if text.isprintable() else text.translate(_LINES)


def clean_name(text: str) -> str:
    """As `clean`, in one line: for ids, names of classes, titles."""
    return text if text.isprintable() else text.translate(_ONE_LINE)


def composed(text: str) -> str:
    """The same letters in one form (NFC), as keyboards give them and some file systems do not."""
    return text if text.isascii() else normalize("NFC", text)


def clean_all(value: Any) -> Any:
    """Plain data with every text in it cleaned, keys too."""
    if isinstance(value, str):
        return clean(value)
    if isinstance(value, Mapping):
        return {clean_all(key): clean_all(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        if value and isinstance(value[0], str) and _printable(value):
            return value
        return type(value)([clean_all(one) for one in value])
    return value


def _printable(values: Sequence[Any]) -> bool:
    """Whether these are texts alone that need no cleaning: one look at all of them."""
    try:
        return "".join(values).isprintable()
    except TypeError:
        return False


def clean_names(values: NDArray[Any]) -> NDArray[np.str_]:
    """The texts of an array, of whatever its values are, each as by `clean_name`.

    Raises ValueError where texts of such lengths would not fit into memory as an array.
    """
    import numpy as np

    if values.dtype.kind in "iu" and values.size:  # no wider than the longest: many are held
        width = max(len(str(values.min())), len(str(values.max())))
        return values.astype(f"U{width}")
    if values.dtype.kind not in "USO":
        values = values.astype(np.str_)
    if values.dtype.kind == "U" and _plain(values):
        return values
    texts = [as_name(value) for value in values.ravel().tolist()]
    longest = max(map(len, texts), default=0)
    if longest > LONGEST and longest * len(texts) > MOST_LETTERS:
        raise ValueError(f"one of {len(texts):,} texts is {longest:,} letters long")
    return np.array(texts, dtype=np.str_).reshape(values.shape)


def _plain(texts: NDArray[Any]) -> bool:
    """Whether texts are of printable ASCII alone, which needs no look at each."""
    import numpy as np

    width = texts.dtype.itemsize // 4
    if not texts.size or not width or not texts.dtype.isnative:
        return not texts.size
    all_codes = np.ascontiguousarray(texts).view(np.uint32).reshape(-1, width)
    for codes in np.array_split(all_codes, max(1, all_codes.nbytes // 2**20)):  # as caches hold
        ends = codes == 0  # what follows the end of a text is filled with these
        seen = (codes >= 0x20) & (codes < 0x7F)
        if not (seen | ends).all() or (ends[:, :-1] & seen[:, 1:]).any():
            return False
    return True


def shared_names(values: Iterable[Any]) -> list[str]:
    """Each as by `as_name`; a text that comes often is cleaned once, and there once."""
    known: dict[str, str] = {}
    names = []
    for value in values:
        name = known.get(value) if isinstance(value, str) else None
        if name is None:
            made = as_name(value)
            name = known.setdefault(made, made)
            if isinstance(value, str):
                known.setdefault(value, name)
        names.append(name)
    return names


def as_name(value: Any) -> str:
    """As `clean_name`, of any value; bytes are read as UTF-8, as far as they are."""
    if isinstance(value, bytes):
        value = value.decode("utf-8", "surrogateescape")
    return clean_name(str(value))
