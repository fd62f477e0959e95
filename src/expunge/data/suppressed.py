"""What ledgers of deletion requests have struck, which nothing that learns reads again.

A ledger is found by EXPUNGE_LEDGER, and by pointers: in a model folder, beside the data, in the working
folder or above it. Where a pointer's ledger, or its key, is gone, nobody can say who was struck, and
nothing is loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.pseudonyms import KEY_BYTES, keys_folder
from expunge.disk.reading import read_bytes, read_json, reading
from expunge.disk.whole import sweep, write_file
from expunge.errors import RequestError, SplitError

if TYPE_CHECKING:
    from expunge.data.samples import Samples

VARIABLE = "EXPUNGE_LEDGER"
LEDGER = "ledger.json"
"""In a ledger's folder: what it is; in a model folder: where its ledger lies."""
BESIDE = ".expunge-ledger.json"
"""Ends the name of the pointer beside data."""
FORMAT = 1
SMALL = 2**16
"""Bytes of these files, at most."""
BUSY_SECONDS = 60
DRIVER = "postgresql+psycopg://"
OPEN = ("open", "keep", "disclose")
"""Decisions on a copy of a struck sample under another id that leave it where it is."""


@dataclass(frozen=True)
class LedgerKey:
    """Stands between ids and what a ledger keeps of them. secret: 32 random bytes."""

    secret: bytes = field(repr=False)

    @property
    def name(self) -> str:
        """Says which key it is, and nothing of it: 16 hexadecimal digits."""
        return self.hmac("name")[:16]

    @property
    def file(self) -> Path:
        """Where it lies."""
        return ledger_key_file(self.name)

    def hmac(self, text: str) -> str:
        """64 hexadecimal digits that stand for an id."""
        message = text.encode("utf-8", "surrogatepass")
        return hmac.digest(self.secret, message, hashlib.sha256).hex()

    def keep(self) -> None:
        """Write its file, for its owner alone. Raises OSError."""
        keys_folder().mkdir(mode=0o700, parents=True, exist_ok=True)
        sweep(keys_folder())
        write_file(self.file, self.secret.hex() + "\n", mode=0o600)


def ledger_key_file(name: str) -> Path:
    """Where the key of a ledger lies, by the key's name."""
    return keys_folder() / f"ledger-{name}.key"


def open_ledger_key(name: str, ledger: Path) -> LedgerKey:
    """The key of a ledger. Raises RequestError where it is not there, or not for its owner alone."""
    file = ledger_key_file(name)
    remedy = (
        "bring it back from where it was kept, or name its folder with EXPUNGE_KEYS: without it "
        "nobody can tell who was struck"
    )
    if not os.path.lexists(file):
        raise RequestError(f"the key of the ledger {ledger}, {file}, is not there; {remedy}")
    with reading(file, remedy, RequestError):
        key = LedgerKey(bytes.fromhex(read_bytes(file, most=SMALL).decode().strip()))
        readable = file.stat().st_mode & 0o077
    if key.name != name or len(key.secret) != KEY_BYTES:
        raise RequestError(f"{file} is not the key of that name; {remedy}")
    if readable:
        raise RequestError(f"{file} may be read by others; do: chmod 600 {file}")
    return key


@dataclass(frozen=True)
class LedgerFile:
    """What `ledger.json` of a ledger's folder says. url: of its database; sqlite's is in the folder."""

    folder: Path
    name: str
    url: str
    key: str
    data_sets: tuple[str, ...] = ()

    def write(self) -> None:
        """Write it. Raises OSError."""
        told = {"format": FORMAT, "ledger": self.name, "url": self.url, "key": self.key}
        told["data_sets"] = list(self.data_sets)
        sweep(self.folder)
        write_file(self.folder / LEDGER, json.dumps(told, indent=1) + "\n")

    @property
    def database(self) -> str:
        """The URL to connect with."""
        if self.url != "sqlite":
            return DRIVER + self.url.partition("://")[2]
        return f"sqlite:///{(self.folder / 'ledger.db').absolute()}"

    @property
    def waits(self) -> dict[str, int]:
        """How many seconds a connection waits, as its driver calls it: for another writer, for a server
        that does not answer.
        """
        return {"timeout": BUSY_SECONDS} if self.url == "sqlite" else {"connect_timeout": 10}


def read_ledger_file(folder: Path) -> LedgerFile:
    """Of a ledger's folder. Raises RequestError for a folder that is none."""
    file = folder / LEDGER
    remedy = "name a ledger's folder, or begin one with `expunge ledger init MODEL_DIR`"
    with reading(file, remedy, RequestError):
        said = read_json(file, most=SMALL)
        name, url, key = texts = [said[one] for one in ("ledger", "url", "key")]
        sets = tuple(said["data_sets"])
        if said["format"] != FORMAT or not all(isinstance(one, str) for one in (*texts, *sets)):
            raise RequestError(f"{file} is no ledger of a format that this version reads; {remedy}")
    return LedgerFile(folder, name, url, key, sets)


def write_pointer(file: Path, ledgers: Iterable[LedgerFile]) -> None:
    """Say in a file which ledgers are to be asked, and where they lay; those that it names already stay.
    Raises OSError, and RequestError for a file that is no pointer.
    """
    known = dict(_named(file)) if file.exists() else {}
    known |= {one.name: one.folder.absolute() for one in ledgers}
    told = {"points_to": {name: str(folder) for name, folder in known.items()}}
    sweep(file.parent)
    write_file(file, json.dumps(told, indent=1) + "\n")


def pointers_beside(spec: str, data_dir: str | Path | None = None) -> tuple[Path, ...]:
    """Where pointers beside data lie: by the path that was given, and by the one that it leads to.

    Empty for data that are no file or folder. Raises DataError for built-in data that are not there.
    """
    from expunge.data.spec import BUILT_IN, DataSpec, data_folder, is_code, is_hub, path_of

    base = DataSpec.parse(spec).base
    if base == "digits" or (base not in BUILT_IN and (is_hub(base) or is_code(base))):
        return ()
    path = data_folder(base, data_dir) if base in BUILT_IN else path_of(base)
    both = dict.fromkeys((path.absolute(), path.resolve())) if path.exists() else ()
    return tuple(one.parent / f".{one.name}{BESIDE}" for one in both if one.name)


def data_set_name(spec: str | None) -> str:
    """What a ledger calls data: their name or full path, whatever is asked of them besides."""
    from expunge.data.spec import BUILT_IN, DataSpec, path_of

    if spec is None:
        return "of your own"
    base = DataSpec.parse(spec).base
    path = path_of(base)
    return base if base in BUILT_IN or not path.exists() else str(path.resolve())


def pointer_here() -> Path | None:
    """The pointer in the working folder, or the nearest one above it."""
    here = Path.cwd()
    return next((one for up in (here, *here.parents) if (one := up / BESIDE).is_file()), None)


def ledgers_for(
    spec: str | None, given: Iterable[Path] = (), data_dir: str | Path | None = None
) -> list[LedgerFile]:
    """The ledgers that speak of some data: those given, that of the environment, and those that the
    working folder and the folder of the data point to.

    given: pointers in files, or folders of ledgers. Raises RequestError where one is not there.
    """
    places = list(given)
    if own := os.environ.get(VARIABLE):
        places.append(Path(own).expanduser())
    if (here := pointer_here()) is not None:
        places.append(here)
    with suppress(Exception):  # what is wrong with a specification is told where it is read
        if spec is not None:
            places += [one for one in pointers_beside(spec, data_dir) if one.exists()]
    found = {}
    for place in places:
        for one in pointed(place) if place.is_file() else [read_ledger_file(place)]:
            found[one.name] = one
    return list(found.values())


def pointed(pointer: Path) -> list[LedgerFile]:
    """The ledgers that a file points to; EXPUNGE_LEDGER says where one lies that was moved.

    Raises RequestError where one is not there.
    """
    return [_there(pointer, folder, name) for name, folder in _named(pointer)]


def _named(pointer: Path) -> list[tuple[str, Path]]:
    """Name and folder of the ledgers that a pointer names."""
    with reading(pointer, "remove it only if its ledger is no longer used", RequestError):
        said = read_json(pointer, most=SMALL)["points_to"]
        if not said:
            raise ValueError("it names no ledger")
        return [(str(name), Path(folder)) for name, folder in said.items()]


def _there(pointer: Path, folder: Path, name: str) -> LedgerFile:
    """The ledger of that name, in that folder or where the environment says."""
    own = os.environ.get(VARIABLE)
    for place in (folder, *([Path(own).expanduser()] if own else [])):
        if (place / LEDGER).is_file() and (found := read_ledger_file(place)).name == name:
            return found
    if (folder / LEDGER).is_file():
        raise RequestError(
            f"{pointer} names another ledger than the one in {folder}; bring back the right one"
        )
    raise RequestError(
        f"{pointer} says that the ledger {folder} tells who was struck, and it is not there; bring "
        f"it back, or name where it lies now with {VARIABLE}"
    )


@dataclass(frozen=True)
class StruckData:
    """Of some data: ids that are struck, and the ledgers that say so."""

    ids: frozenset[str] = frozenset()
    ledgers: tuple[LedgerFile, ...] = ()

    def left_of(self, samples: Samples) -> Samples:
        """Samples without those that are struck."""
        if not self.ids:
            return samples
        import numpy as np

        return samples.subset(np.flatnonzero(~np.isin(samples.ids, [*self.ids])))

    def check_forgotten(self, kept: Collection[str]) -> None:
        """Raise SplitError where a model would go on knowing what was struck. kept: ids that it learned
        from and is not asked to forget.
        """
        known = self.ids.intersection(kept) if self.ids else ()
        if known:
            raise SplitError(
                f"this model learned {len(known):,} samples that deletion requests have struck since, "
                "and would go on knowing them; use the live model (`expunge release list`), ask it to "
                "forget them too, or retrain"
            )


NOTHING_STRUCK = StruckData()


def struck_of(
    samples: Samples,
    spec: str | None,
    pointers: Iterable[Path] = (),
    data_dir: str | Path | None = None,
) -> StruckData:
    """What all ledgers that speak of some data have struck; see `ledgers_for` and `withheld`."""
    ledgers = ledgers_for(spec, pointers, data_dir)
    if not ledgers:
        return NOTHING_STRUCK
    return StruckData(withheld(samples, spec, ledgers), tuple(ledgers))


def withheld(samples: Samples, spec: str | None, ledgers: Sequence[LedgerFile]) -> frozenset[str]:
    """Ids of the samples that some ledgers have struck, by data set and id, or by their content.

    Raises RequestError where a ledger or its key cannot be read, and where samples could only be told by
    their content and are read in another way than when they were struck.
    """
    from expunge.data.contents import content_hashes

    found: set[str] = set()
    hashes: list[str] | None = None
    for ledger in ledgers:
        rows, left = _struck(ledger)
        if not rows:
            continue
        key = open_ledger_key(ledger.key, ledger.folder)
        name = data_set_name(spec)
        by_id = {one for data_set, one, _ in rows if one is not None and data_set == name}
        if samples.positional:
            own = {content for data_set, _, content in rows if data_set == name and content}
            _check_reading(samples, name, own)
        by_content = {content.rpartition(";")[2] for _, _, content in rows if content is not None}
        if not hashes:
            hashes = content_hashes(samples) if by_content else []
        foreign = samples.positional or any(one[0] != name for one in rows)
        if foreign and by_content and "" in hashes:
            raise RequestError(
                f"the ledger {ledger.folder} tells struck samples by their content, and these are read "
                "one by one by code, which may give another each time; read them from files, or hold "
                "them in one tensor"
            )
        ids = samples.ids.tolist()
        named = [key.hmac(one) for one in ids] if by_id or left else [""] * len(ids)
        if not samples.positional:
            found |= {one for one, known in zip(ids, named, strict=True) if known in by_id}
        found |= {
            one
            for one, known, content in zip(ids, named, hashes or [""] * len(ids), strict=True)
            if content in by_content and known not in left
        }
    return frozenset(found)


def _check_reading(samples: Samples, name: str, contents: set[str]) -> None:
    """Raise RequestError where row numbers are read in another way than those that were struck."""
    from expunge.data.contents import reading_of

    if not contents:
        return
    here = reading_of(samples)
    for there in sorted({one[: one.rindex(";") + 1] if ";" in one else "" for one in contents}):
        # less is known of what was read already, and @SIZE may ask for the size that they have
        if here.startswith(there) or there.startswith(here):
            continue
        raise RequestError(
            f"the samples of {name} have row numbers for ids, so those that were struck are told by "
            f"their content, as {there.rstrip(';')}; here they are read as {here.rstrip(';')}: read "
            "them as then (the same @SIZE, resize= and ground=)"
        )


def _struck(ledger: LedgerFile) -> tuple[list[tuple[str, Any, Any]], set[str]]:
    """Rows (data set, HMAC, content hash), and the HMACs of copies that were not struck themselves."""
    from sqlalchemy import create_engine, text
    from sqlalchemy.exc import SQLAlchemyError

    if ledger.url == "sqlite" and not (ledger.folder / "ledger.db").is_file():
        raise RequestError(f"{ledger.folder} has no ledger.db; bring it back from a backup")
    engine = create_engine(ledger.database, connect_args=ledger.waits)
    try:
        with engine.connect() as connection:
            rows = connection.execute(text("SELECT data_set, id_hmac, content_hash FROM struck"))
            struck = [(row[0], row[1], row[2]) for row in rows]
            left = connection.execute(
                text("SELECT other_hmac, decision FROM duplicates WHERE layer = 'exact'")
            )
            copies = {row[0] for row in left if row[1] in OPEN}
            return struck, copies.difference(row[1] for row in struck)
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise RequestError(
            f"the ledger {ledger.folder} cannot be read ({reason}), and nobody else can say who was "
            "struck; see that its database runs"
        ) from error
    finally:
        engine.dispose()
