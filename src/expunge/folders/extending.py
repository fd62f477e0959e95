"""A list of poisoned samples made longer: by suspects that are like the known ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.poison import Poisoning
from expunge.disk.whole import write_file
from expunge.errors import ConfigError
from expunge.place import Place
from expunge.trained.papers import Papers

if TYPE_CHECKING:
    from expunge.data.split import Split
    from expunge.trained.trained import Trained


def check_list(file: Path, papers: Papers, place: Place) -> None:
    """Raise ConfigError for a list that cannot be written."""
    if papers.redacted:
        raise ConfigError(
            f"{papers.path} is redacted: no ids of its samples are written; leave --extend-poison out"
        )
    if file.exists() and not place.overwrite:
        raise ConfigError(f"{file} exists; name another file, or pass --overwrite")
    if not file.absolute().parent.is_dir():
        raise ConfigError(f"there is no folder {file.absolute().parent} to write {file.name} into")


def extended(
    original: Trained, asked: Split, file: Path, place: Place
) -> tuple[Split, Poisoning, list[str]]:
    """The split that forgets suspects too, what is known of the poison then, and what to say.

    The known samples and the suspects are written to the file, one id a line, as `--poison ids:FILE`
    reads them.

    Raises ConfigError where too few are known.
    """
    from expunge.backdoor.suspects import find_suspects
    from expunge.training.run import Run, accelerator_on

    run = Run(
        names=("suspects", 0),
        label="suspects",
        task=original.data.task,
        progress=place.progress,
        accelerator=accelerator_on(place.device),
    )
    found = find_suspects(original.model, original.data, asked, asked.forget, run)
    suspects = [name for one in found for name in one.ids]
    told = [one.told(original.data.classes) for one in found]
    write_file(file, "".join(f"{name}\n" for name in (*asked.forget, *suspects)))
    told.append(f"{len(asked.forget):,} known samples and {len(suspects):,} suspects: {file}")
    poison = original.data.poison or Poisoning(frozenset())
    if poison.poison is None:  # the data do not say which are poisoned
        poison = Poisoning(poison.ids.union(suspects), poison.trigger, poison.target, poison.own)
    longer = original.split.settled().forgetting([*asked.forget, *suspects])
    return longer, poison, told
