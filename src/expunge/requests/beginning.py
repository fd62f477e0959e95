"""The beginning of a ledger: a model is live, and what learns from its data asks the ledger first."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from expunge.data.suppressed import BESIDE, LEDGER, data_set_name, pointers_beside
from expunge.errors import RequestError
from expunge.place import HERE, Place
from expunge.requests.ledger import Ledger, check_url
from expunge.requests.policy import policy_of, read_policies
from expunge.requests.release import enter, has_live, promote
from expunge.requests.statement import performer_of


@dataclass(frozen=True)
class Begun:
    """A ledger that stands. pointers: files that lead to it."""

    ledger: Ledger
    model_dir: Path
    pointers: tuple[Path, ...]
    fresh: bool

    def lines(self) -> list[str]:
        """What a person is told of it."""
        folder = self.ledger.folder
        if not self.fresh:
            return [f"{folder} is a ledger already; its tables are up to date"]
        return [
            f"written: {folder}; live: {self.model_dir}",
            f"the key that stands between ids and the ledger: {self.ledger.key.file}; keep a copy "
            "elsewhere, for without it nobody can tell who was struck",
            *(f"pointer: {file}" for file in self.pointers),
            "next: expunge request add --ids FILE",
        ]


def begin(
    model_dir: Path,
    out: Path | None = None,
    *,
    told: Mapping[str, str],
    database: str = "sqlite",
    place: Place = HERE,
    tell: Callable[[str], object] = str,
) -> Begun:
    """Begin a ledger for a model folder, or bring the tables of one that is there up to date.

    told: settings, "organisation", "role" and "law". Leaves pointers in the model folder, beside its
    data where these are a file or a folder, and in the working folder.

    Raises ConfigError for a law that no policy knows, CertificateError for a performer that no
    certificate can name, and RequestError for data whose samples nobody could tell
    again: row numbers of a dataset that holds no content to compare.
    """
    import numpy as np

    from expunge.data.contents import content_hashes
    from expunge.trained.opening import load

    folder = out if out is not None else model_dir.parent / f"{model_dir.name}-ledger"
    if (folder / LEDGER).exists():
        ledger = Ledger.create(folder, {}, data_set="")
        with ledger.read() as connection:
            if has_live(connection):
                return Begun(ledger, model_dir, (), False)
    check_url(database)
    policy_of(told["law"], read_policies())
    performer_of(told["organisation"], told["role"])
    model = load(model_dir, place=place)
    if model.redacted:
        raise RequestError(
            f"{model_dir} keeps pseudonyms of ids, and a ledger stands on ids; begin with the original"
        )
    samples = model.data.train
    if samples.positional and not any(content_hashes(samples.subset(np.zeros(1, dtype=np.int64)))):
        raise RequestError(
            f"the samples of {model.data.spec} have row numbers for ids, and are read one by one by "
            "code: in other data nobody could tell them again; give them ids of their own"
        )
    settings = {**told, "positional": "yes" if samples.positional else "no"}
    settings["data"] = model.data.spec or ""
    name = data_set_name(model.data.spec)
    ledger = Ledger.create(folder, settings, data_set=name, url=database)
    beside = (
        () if model.data.spec is None else pointers_beside(model.data.spec, model.data.data_dir)
    )
    pointers = _point(ledger, model_dir, beside, tell)
    with ledger.write() as writing:  # at last: what was killed before this begins again
        if not has_live(writing.connection):
            digest = enter(writing, model_dir, None)
            promote(writing, digest, batch=None, reason="the ledger begins with it")
    return Begun(ledger, model_dir, pointers, True)


def _point(
    ledger: Ledger, model_dir: Path, beside: Sequence[Path], tell: Callable[[str], object]
) -> tuple[Path, ...]:
    """Leave pointers; where one cannot be written, or none lies beside the data, a person is told."""
    written: list[Path] = []
    for file in dict.fromkeys((model_dir / LEDGER, Path.cwd() / BESIDE, *beside)):
        try:
            ledger.point_from(file)
        except OSError as error:
            tell(
                f"{file} could not be written ({error.strerror}); name the ledger with EXPUNGE_LEDGER"
            )
        else:
            written.append(file)
    if not {*written} & {*beside}:
        tell(
            f"no pointer lies beside the data, so the ledger is found in {Path.cwd()} and below alone; "
            f"elsewhere name it: EXPUNGE_LEDGER={ledger.folder.absolute()}"
        )
    return tuple(written)
