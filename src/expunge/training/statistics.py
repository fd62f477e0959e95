"""Statistics of a model over all that it learned from: taken once, kept beside it, used for it alone.

A file of them holds what it was taken of: a digest of weights, mask, samples, data and settings. What
another digest stands in, or what is not as it was written, is never used.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from expunge.disk.reading import MIB, parse_json, read_bytes, reason
from expunge.disk.whole import sweep, write_file
from expunge.models.mask import Mask

VERSION = 1
"""Of how the library takes statistics: another is never used."""
OVERHEAD, BYTES_PER_NUMBER = 16 * MIB, 8

Statistic = Mapping[str, Tensor]
"""Parameter name -> a tensor of its shape and type."""


@dataclass
class Statistics:
    """What is kept of one model.

    about: says what the samples are, as plain data: their ids, classes, normalisation; asked only where
    a statistic is, for it looks at every id. mask: of a sparse
    model. folder: of the model; None: they are kept in memory alone. called: a file's path in it, by the
    statistic's name in place of {}. known: those in memory. hide: what stands for a digest in
    a folder that may tell of no id. keeps: False where what is taken now is kept nowhere, as in a
    rehearsal, which takes but a part of it.
    """

    about: Callable[[], Mapping[str, Any]]
    mask: Mask | None = None
    folder: Path | None = None
    called: str = "statistic-{}.safetensors"
    known: MutableMapping[str, Statistic] = field(default_factory=dict)
    hide: Callable[[str], str] = str
    keeps: bool = True

    def get(
        self,
        name: str,
        model: nn.Module,
        take: Callable[[], Statistic],
        settings: Mapping[str, str],
        *,
        everywhere: Callable[[bool], bool],
        writes: bool,
    ) -> tuple[Statistic, str]:
        """The statistic that is kept, or taken now and kept; and which of these, in words.

        everywhere: whether something holds in all processes. writes: whether this one is to.
        """
        parameters = {n: p.detach() for n, p in model.named_parameters() if p.requires_grad}
        key = self._key(name, model, sorted(parameters), settings)
        found = self.known.get(key) or self._read(name, key, parameters)
        if everywhere(found is not None) and found is not None:
            where = "in memory" if key in self.known else "beside the original"
            return _like(found, parameters), f"used as kept {where}"
        made = take()
        if not self.keeps:
            return made, "taken, and kept nowhere"
        why = self._write(name, key, made) if writes else None
        if self.folder is not None and everywhere(why is None):
            return made, "taken over all samples, and kept beside the original"
        self.known[key] = {n: value.detach().cpu().clone() for n, value in made.items()}
        failed = f"; it cannot be kept beside the original ({why})" if why is not None else ""
        return made, f"taken over all samples, and kept in memory{failed}"

    def _key(
        self, name: str, model: nn.Module, trained: list[str], settings: Mapping[str, str]
    ) -> str:
        """What a statistic is of."""
        facts = {
            **{"version": VERSION, "name": name, "settings": dict(settings)},
            **{"about": self.about(), "model": repr(model), "trained": trained},
            "weights": _digest(model.state_dict()),
            "mask": _digest(self.mask or {}),
        }
        text = json.dumps(facts, sort_keys=True, default=str)
        return self.hide(hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest())

    def _read(self, name: str, key: str, parameters: Statistic) -> Statistic | None:
        """What lies in the folder, if it is this very statistic."""
        if self.folder is None:
            return None
        most = OVERHEAD + BYTES_PER_NUMBER * sum(p.numel() for p in parameters.values())
        try:
            content = read_bytes(
                self.folder / self.called.format(name), most=most, within=self.folder
            )
            size = int.from_bytes(content[:8], "little")
            told = parse_json(content[8 : 8 + size])["__metadata__"]
            found: Statistic = load(content) if told["key"] == key else {}
        except Exception:  # whatever a file can do to its reader
            return None
        same = found and told["digest"] == _digest(found) and _form(found) == _form(parameters)
        return found if same else None

    def _write(self, name: str, key: str, made: Statistic) -> str | None:
        """Write it whole or not at all; why it could not be, in words."""
        if self.folder is None:
            return None
        file = self.folder / self.called.format(name)
        plain = {n: value.detach().cpu().contiguous() for n, value in made.items()}
        try:
            file.parent.mkdir(exist_ok=True)
            if file.parent.is_symlink():
                return f"{file.parent.name} is a link"
            sweep(file.parent)
            write_file(file, save(plain, {"key": key, "digest": _digest(plain)}))
        except OSError as error:
            return reason(error)
        except (RuntimeError, ValueError, SafetensorError) as error:  # a type that no file takes
            return str(error).partition("\n")[0]
        return None


def _form(tensors: Statistic) -> dict[str, object]:
    return {name: (value.shape, value.dtype) for name, value in tensors.items()}


def _like(found: Statistic, parameters: Statistic) -> Statistic:
    return {name: value.to(parameters[name].device) for name, value in found.items()}


def _digest(tensors: Mapping[str, Any]) -> str:
    """SHA-256 of tensors with their names, types and shapes; 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        if isinstance(value, Tensor):
            digest.update(f"{name}\x1f{value.dtype}\x1f{tuple(value.shape)}\x1f".encode())
            plain = value.detach().cpu().contiguous().reshape(-1)
            digest.update(plain.view(torch.uint8).numpy().data)
        else:  # an extra state of a module
            digest.update(f"{name}\x1f{value!r}\x1f".encode())
    return digest.hexdigest()
