"""What a study file names that is not ours: made with consent, or known from what a run recorded.

A study is looked at far more often than it is run, and whoever looks need not have its code, or trust
it. So a run writes beside each foreign name what its cells record of it, and looking believes that.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from expunge import methods, pruning
from expunge.disk.reading import read_yaml, reading
from expunge.errors import ConfigError
from expunge.methods import find_method
from expunge.pruning import make_pruner
from expunge.study.entries import (
    Entry,
    Space,
    check_space,
    combinations,
    first_of,
    make_trial,
    method_record,
    variants,
)
from expunge.study.schema import Density, pruner_record


class Answers(Protocol):
    """Says what cells record of foreign names. Both calls give back what they get, with `recorded`."""

    def entry(self, label: str, entry: Entry, space: Space | None) -> tuple[Entry, Space | None]:
        """A method; space: of its tuned fields, given back as records have these values."""
        ...

    def density(self, density: Density) -> Density:
        """A density whose pruner is not ours."""
        ...


@dataclass(frozen=True)
class FromCode:
    """For a study that is to be run: methods and pruners are made.

    allow_code: consent to import `module:Class`; what an installed package offers by name needs none.
    """

    allow_code: bool

    def entry(self, label: str, entry: Entry, space: Space | None) -> tuple[Entry, Space | None]:
        """See `Answers`. Raises ConfigError for code without consent, and what cannot be made."""
        entry = entry.model_copy(update={"recorded": None})
        if space is None or len(combinations(label, entry.settings)) > 1:
            made = variants(label, entry, allow_code=self.allow_code)
            return entry.model_copy(update={"recorded": made}), space
        find_method(entry.method, allow_code=self.allow_code)
        check_space(label, entry, space, allow_code=self.allow_code)
        start = first_of(space)
        made = {label: self._trial(label, entry, start)}
        told: dict[str, list[Any] | dict[str, Any]] = {}
        for name, values in space.items():
            each = values if isinstance(values, list) else [values["low"], values["high"]]
            trials = [self._trial(label, entry, {**start, name: value}) for value in each]
            seen = [trial["settings"][name] for trial in trials]
            ends = dict(zip(("low", "high"), seen, strict=False))
            told[name] = seen if isinstance(values, list) else {**values, **ends}
        return entry.model_copy(update={"recorded": made}), told

    def density(self, density: Density) -> Density:
        """See `Answers`. Raises ConfigError for code without consent, and what cannot be made."""
        settings = {**density.settings, "sparsity": density.sparsity}
        made = make_pruner(density.pruner or "", settings, allow_code=self.allow_code)
        return density.model_copy(update={"recorded": pruner_record(made)})

    def _trial(self, label: str, entry: Entry, fields: Mapping[str, Any]) -> dict[str, Any]:
        return method_record(make_trial(label, entry, fields, allow_code=self.allow_code))


@dataclass(frozen=True)
class FromRecord:
    """For a study that is only looked at: nobody's code is imported.

    written: the study file of an earlier run, as plain data. Of what it does not know, the settings that
    the file gives are taken for all of them; where there are more, such cells count as not made yet.
    """

    written: Mapping[str, Any]

    @classmethod
    def read(cls, file: Path) -> FromRecord:
        """From the study file in a study's folder; nothing is known where there is none."""
        if not os.path.lexists(file):
            return cls({})
        with reading(file, "delete it, and run the study again", ConfigError):
            content, _ = read_yaml(file, within=file.parent)
        return cls(content if isinstance(content, Mapping) else {})

    def entry(self, label: str, entry: Entry, space: Space | None) -> tuple[Entry, Space | None]:
        """See `Answers`. Raises ConfigError for a name that there is not."""
        was = _part(self.written, "methods", label)
        same = (was.get("method"), was.get("settings")) == (entry.method, entry.settings)
        recorded = was["recorded"] if same and was.get("recorded") else entry.recorded
        if recorded is None:
            if ":" not in entry.method:
                methods.ALL_METHODS.check(entry.method)
            recorded = {
                row: {"method": entry.method, "settings": one}
                for row, one in combinations(label, entry.settings).items()
            }
        before = _part(self.written, "tuning", "methods", label)
        return Entry(**{**entry.model_dump(), "recorded": recorded}), (
            before if space is not None and before == space else space
        )

    def density(self, density: Density) -> Density:
        """See `Answers`. Raises ConfigError for a name that there is not."""
        plain = density.model_dump(mode="json", exclude={"recorded"})
        listed = self.written.get("densities")
        for was in listed if isinstance(listed, list) else ():
            known = was.get("recorded") if isinstance(was, Mapping) else None
            if known and {k: v for k, v in was.items() if k != "recorded"} == plain:
                return Density(**{**plain, "recorded": known})
        if density.recorded:
            return density
        name = density.pruner or ""
        if ":" not in name:
            pruning.ALL_PRUNERS.check(name)
        recorded = {"pruner": name, **density.settings, "sparsity": density.sparsity}
        return density.model_copy(update={"recorded": recorded})


def _part(content: Any, *keys: str) -> Mapping[str, Any]:
    """A mapping within mappings; empty where it is not there."""
    for key in keys:
        content = content.get(key) if isinstance(content, Mapping) else None
    return content if isinstance(content, Mapping) else {}
