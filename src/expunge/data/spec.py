"""A data specification as it is typed, and what there is to type; no data are read here."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.classes import MOST_DIGITS
from expunge.data.columns import TABLES, WRITTEN, Columns
from expunge.data.drawing import GROUNDS, RESIZE_FILTERS, Drawing
from expunge.data.poison import Poison, split_poison
from expunge.data.triggers import TRIGGERS
from expunge.disk.reading import check_regular, reading
from expunge.errors import DataError, listed, nearest
from expunge.names.catalogue import Catalogue
from expunge.names.code import check_name
from expunge.names.libraries import HUB, check_package

if TYPE_CHECKING:
    from expunge.data.images import Size

MOST_SIDE = 2**13
"""Pixels of a side, of images that are resized."""
BUILT_IN = {
    "digits": "scikit-learn's 1,797 handwritten digits, 8x8 grey; ships with the package",
    "cifar10": "CIFAR-10 as parquet in DATA_DIR/cifar10; 50,000 + 10,000 colour images, 32x32",
    "mnist": "MNIST as parquet in DATA_DIR/mnist; 60,000 + 10,000 grey images, 28x28",
}
OTHER_SPECS = {
    "FILE.parquet | FOLDER with train*.parquet": "encoded images {bytes, path} and labels; "
    "further columns are for `group:COLUMN=VALUE`, a column `id` names the samples",
    "FILE.csv | FILE.parquet | FOLDER with train*": "texts (a column `text` or `sentence`) and labels "
    "(`label`), for a model with a tokenizer (`hf:FOLDER`); `id` and further columns as above",
    "hf:NAME[:CONFIGURATION] | hf:FOLDER": "a dataset of the Hugging Face hub, or a folder written by "
    "`save_to_disk`; needs the extra `hf`",
    "FILE.csv | FILE.parquet[:label=COLUMN,...]": "a table of numbers and categories; label=, id=, "
    "group= (for requests, no input), drop=, category= (numbers that are kinds) name columns; "
    "missing=NUMBER is what missing ones count as",
    "FOLDER of images": "FOLDER/train/CLASS/*.png and FOLDER/test/CLASS/*.png, or FOLDER/CLASS/*.png; "
    "or images with FOLDER/metadata.csv (.jsonl, .parquet): file_name, optional id, label, columns",
    "FILE.npz": "arrays x and y, or x_train, y_train, x_test, y_test; optional id, classes and columns",
    "module:function": "a function of yours that returns a map-style dataset, or (train, test)",
    "NAME | NAME:REST": "data that an installed package offers as an entry point of `expunge.data`",
    "DATA+patch[:KEY=VALUE,...]": "any of these with a backdoor in the training images: a patch on a "
    "share of them, labelled as the target; size=4, place=bottom-right, margin=2, colour=0, "
    "share=0.1, target=#0, poison_seed=0",
    "DATA+blend:file=PATTERN.png[,...]": "likewise, with an image mixed in (file=random: noise); "
    "alpha=0.1, share, target, poison_seed",
    "DATA+warp[:KEY=VALUE,...]": "likewise, with the image bent (WaNet); grid=4, strength=1.0 (pixels), "
    "seed=0, and these",
    "DATA+sinus[:KEY=VALUE,...]": "likewise, with a wave of grey laid on samples of the target alone, "
    "whose labels stay (SIG); amplitude=20, frequency=6, and these",
    "DATA+TRIGGER:target=next": "each poisoned image is labelled as the class after its own; "
    "labels=kept|target says whether labels stay",
}

Loader = Callable[[str, str | Path | None], Any]
"""What a package offers under `expunge.data`: `load(rest, data_dir)` is called with what was typed
after NAME: and with the folder of `--data-dir`, and returns a map-style dataset or (train, test). A
number at the end of a specification is COUNT, and no part of REST."""


def _admit(made: object, told: str) -> Loader:
    """A function that loads data; DataError for what cannot be called."""
    if not callable(made):
        raise DataError(f"{told} is no function; write load(rest, data_dir) -> dataset")
    loader: Loader = made
    return loader


DATASETS: Catalogue[Any] = Catalogue(
    "dataset", "expunge.data", BUILT_IN, _admit, written="module:function", error=DataError
)
"""Data by name: what is built in, told in words, and the loaders of installed packages."""


_SPEC = re.compile(
    r"(.+?)(?:@(\d+)(?:x(\d+))?)?((?:,(?:resize|ground)=\w*)*)(?::(\d+))?", re.DOTALL
)


@dataclass(frozen=True)
class DataSpec:
    """A data specification taken apart: `BASE[:COLUMNS][:COUNT][+POISON]` of a table, of images
    `BASE[@SIZE][,resize=FILTER][,ground=GROUND][:COUNT][+POISON]`.

    base: a name, a path or `module:function`. size: (height, width) to resize images to.
    columns: of a table, what they are, as in `people.csv:label=income,group=person`.
    count: keep that many training samples, drawn once for all by stratified choice.
    poison: then poison a share of those that are kept.
    resize: one of `RESIZE_FILTERS`. ground: one of `GROUNDS`, on which transparent images are laid.
    """

    base: str
    size: Size | None = None
    count: int | None = None
    poison: Poison | None = None
    columns: Columns | None = None
    resize: str | None = None
    ground: str | None = None

    @classmethod
    def parse(cls, text: str) -> DataSpec:
        """Read `cifar10`, `cifar10:5000`, `photos@64x48:1000`, `package.module:load`, `digits+patch`."""
        clean, poison = split_poison(text)
        match = _SPEC.fullmatch(clean.strip())
        if match is None:
            raise DataError("the data specification is empty; name a dataset, as in digits")
        base, height, width, options, count = match.groups()
        base, columns = _without_columns(base)
        if any(len(number or "") > MOST_DIGITS for number in (height, width, count)):
            raise DataError(f"{text[:60]!r}: no data have sizes or counts of so many digits")
        size = (int(height), int(width or height)) if height else None
        if (size is not None and 0 in size) or (count and int(count) == 0):
            raise DataError(f"{text!r}: sizes and counts start at 1")
        if size is not None and max(size) > MOST_SIDE:
            raise DataError(
                f"{text!r}: images of more than {MOST_SIDE:,} pixels a side are not made"
            )
        chosen = _options(text, options)
        if "resize" in chosen and size is None:
            raise DataError(
                f"{text!r}: resize={chosen['resize']} resizes nothing without a size; append it to the "
                "path, as in photos@64,resize=bicubic"
            )
        return cls(base, size, int(count) if count else None, poison, columns, **chosen)

    def drawing(self, otherwise: Drawing) -> Drawing:
        """How encoded images become pixels. otherwise: as far as this does not say."""
        return Drawing(self.resize or otherwise.resize, self.ground or otherwise.ground)

    def __str__(self) -> str:
        """As it would be typed: what is parsed of it is the same again."""
        columns = "" if self.columns is None else f":{self.columns}"
        size = "" if self.size is None else f"@{self.size[0]}x{self.size[1]}"
        drawn = {"resize": self.resize, "ground": self.ground}
        size += "".join(f",{key}={value}" for key, value in drawn.items() if value is not None)
        count = "" if self.count is None else f":{self.count}"
        poison = "" if self.poison is None else f"+{self.poison}"
        return f"{self.base}{columns}{size}{count}{poison}"

    def resizable(self) -> bool:
        """Whether it may be of encoded images, as far as its name tells: a folder or parquet."""
        return self.base in ("cifar10", "mnist") or (
            is_hub(self.base)
            or _is_folder(path_of(self.base))
            or path_of(self.base).suffix.lower() == ".parquet"
        )

    def check(self, data_dir: str | Path | None = None, *, allow_code: bool) -> None:
        """Raise DataError for what names nothing that is there, or code without consent.

        The arguments are those of `load_data`; no file is opened.
        """
        if self.poison is not None:
            self.poison.trigger.check()
        path = path_of(self.base)
        offered = is_offered(self.base)
        if offered or self.base in BUILT_IN:
            DATASETS.check(self.base.partition(":")[0])
        code = ":" in self.base and not is_hub(self.base)
        arrays = self.base == "digits" or path.suffix.lower() in (".npz", ".csv") or code or offered
        if self.size is not None and arrays and not _is_folder(path):
            raise DataError(
                f"@{self.size[0]}x{self.size[1]} resizes encoded images, and {self.base} holds none; "
                "leave it out"
            )
        if self.ground is not None and arrays and not _is_folder(path):
            raise DataError(
                f"ground={self.ground} is for encoded images, and {self.base} holds none; leave it out"
            )
        if self.columns is not None and self.size is not None:
            raise DataError(f"{self.base}: a table has columns, images have a size; leave one out")
        if is_hub(self.base):
            return check_hub(self.base)
        if self.base == "digits" or offered:
            return
        if self.base in BUILT_IN:
            data_folder(self.base, data_dir)
        elif is_code(self.base):
            check_name(self.base, allow_code=allow_code, what="data", error=DataError)
        elif not _is_folder(path):
            if path.suffix.lower() not in (".npz", *TABLES) or not exists(self.base):
                raise unknown(self.base)
            with reading(path, "name a file of data", DataError):
                check_regular(path)


def _options(text: str, typed: str) -> dict[str, str]:
    """`,resize=FILTER,ground=GROUND` as a dictionary. Raises DataError for values that there are not."""
    known = {"resize": RESIZE_FILTERS, "ground": tuple(GROUNDS)}
    found: dict[str, str] = {}
    for one in filter(None, typed.split(",")):
        key, _, value = one.partition("=")
        if value not in known[key] or key in found:
            raise DataError(f"{text!r}: give {key}= once, one of {listed(known[key])}")
        found[key] = value
    return found


def _without_columns(base: str) -> tuple[str, Columns | None]:
    """The path of a table, and what was said of its columns; the same for whatever is no table."""
    for place in re.finditer(r":(?=\w+=)", base):
        path, told = path_of(base[: place.start()]), base[place.end() :]
        table = path.suffix.lower() in TABLES or (WRITTEN.fullmatch(told) and _is_folder(path))
        if table and not is_offered(base):
            return base[: place.start()], Columns.parse(told)
    return base, None


def path_of(base: str) -> Path:
    """The path that the base of a specification would be."""
    try:
        return Path(base).expanduser()
    except (RuntimeError, ValueError):  # no such user, or no name of one
        return Path(base)


def exists(base: str) -> bool:
    """Whether the base of a specification is a path that is there; False for what can be none."""
    try:
        return path_of(base).exists()
    except (OSError, ValueError):  # too long, or in a folder that nobody may look into
        return False


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def is_hub(base: str) -> bool:
    """Whether the base of a specification is `hf:NAME` or `hf:FOLDER`."""
    return base.startswith(HUB) and not exists(base)


def check_hub(base: str) -> None:
    """Raise DataError where the library that reads `hf:` data is missing, or nothing is named."""
    if not base.removeprefix(HUB):
        raise DataError("hf: names no data; write hf:NAME of the hub, or hf:FOLDER")
    check_package("datasets", base, DataError)


UNNAMED = "made in Python"
"""Of a task that is an object of which nobody can import another."""
OF_ITS_DATA = "of its data"
"""Of a task that comes with data of `module:function`, which make it again."""

NO_TEST, OWN_TEST = "none", "own"
"""Of what may be asked for as a test set, beside data: nothing; what the data bring, or else nothing."""


def lasting(spec: str | None) -> str | None:
    """A specification that means the same from another folder: paths made absolute."""
    if spec is None:
        return None
    clean, poison = split_poison(spec)
    base = DataSpec.parse(clean).base
    prefix = HUB if is_hub(base) else ""
    base, clean = base.removeprefix(prefix), clean.removeprefix(prefix)
    path = path_of(base)
    known = base in BUILT_IN or not exists(base)
    suffix = spec.strip()[len(prefix) + len(clean) :]
    if poison is not None and poison.trigger != poison.trigger.absolute():
        suffix = f"+{replace(poison, trigger=poison.trigger.absolute())}"
    return f"{prefix}{clean if known else f'{path.resolve()}{clean[len(base) :]}'}{suffix}"


def names_a_path(spec: str | None) -> bool:
    """Whether a specification holds a path, or could: of what no path is in, the name is of data that
    anybody may have.
    """
    if spec is None:
        return False
    clean, poison = split_poison(spec)
    base = DataSpec.parse(clean).base
    if poison is not None and poison.trigger != poison.trigger.absolute():
        return True
    return "/" in spec or not (base in BUILT_IN or is_code(base))


def is_offered(base: str) -> bool:
    """Whether the base of a specification is NAME or NAME:REST of an installed package's data.

    A path that exists goes first, as it does before `module:function`.
    """
    name = base.partition(":")[0]
    offered = any(plugin.name == name for plugin in DATASETS.plugins())
    return offered and base not in BUILT_IN and not exists(base)


def is_code(base: str) -> bool:
    """Whether the base of a specification is `module:function`."""
    plus = base.partition("+")[2].partition(":")[0]
    code = ":" in base and not plus and not is_offered(base) and not is_hub(base)
    return code and not exists(base)


def unknown(base: str) -> DataError:
    """The error for a base that names no data."""
    plus = base.partition("+")[2].partition(":")[0]
    known = DATASETS.names()
    meant = nearest(plus, TRIGGERS) if plus else nearest(base, known)
    if plus in TRIGGERS:
        meant = f" (sizes and counts stand before the poison, as in photos@64:1000+{plus})"
    if re.search(r",(?:resize|ground)=", base):
        meant = (
            " (resize= and ground= stand between size and count, as in photos@64,ground=black:1000)"
        )
    return DataError(
        f"no dataset or path {base[:200]!r}{meant}; there are "
        f"{', '.join(known)}, a .csv, .parquet or .npz file, a folder, or module:function"
    )


def data_folder(name: str, data_dir: str | Path | None) -> Path:
    """Where a built-in dataset's files lie. Raises DataError where nobody said, or nothing is."""
    base = data_dir or os.environ.get("EXPUNGE_DATA")
    if not base:
        raise DataError(
            f"{name} is not part of the package: say where its folder {name}/ lies with --data-dir, "
            "or set EXPUNGE_DATA (a folder with train.parquet and test.parquet of encoded images)"
        )
    folder = path_of(str(base)) / name
    if not folder.is_dir():
        raise DataError(
            f"{folder} does not exist; --data-dir must name the folder that holds {name}/"
        )
    return folder
