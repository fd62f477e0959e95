"""What a method that takes part in training keeps beside its model: named groups of tensors."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.disk.reading import UnreadableError, check_regular, reading
from expunge.disk.whole import PRIVATE, short_of
from expunge.errors import ConfigError, ModelError

if TYPE_CHECKING:
    from torch import Tensor

GROUP = r"^[a-z0-9][a-z0-9_-]{0,99}$"
"""What a group may be called."""
OF_IDS = "of-ids"
"""The group from which a guess of who was learned can be tested: no redacted folder has it."""
LOST = "copy the whole folder again, with all that lies in artifacts/, or train anew"
OWNER_ONLY = 0o600


@dataclass(frozen=True)
class KeptFile:
    """A group on the disk. digest: SHA-256 of its bytes, empty where nobody knows it. most: bytes that
    it may have. within: the folder that no link may lead out of; None: the one it lies in.
    """

    path: Path
    digest: str = ""
    private: bool = False
    most: int | None = None
    within: Path | None = None

    def check(self) -> None:
        """Raise ModelError for a file that is not there, or is not the one described."""
        with reading(self.path, LOST, ModelError):
            size = check_regular(self.path, within=self.within or self.path.parent).st_size
            if self.most is not None and size > self.most:
                raise UnreadableError(f"of {size:,} bytes, where {self.most:,} would be many")
            if self.digest and file_digest(self.path) != self.digest:
                raise UnreadableError("its digest differs from that in model.json")


@dataclass(frozen=True)
class _Held:
    """A group in memory."""

    tensors: Mapping[str, Tensor]
    private: bool = False


@dataclass
class Kept:
    """Named groups of tensors that a method which takes part in training keeps beside its model.

    What comes of a folder is read when it is asked for, and never changed: what is written goes to
    `room`, a folder for temporary files, or stays in memory where there is none. Several processes
    do all of this alike.
    """

    room: Path | None = None
    groups: dict[str, KeptFile | _Held] = field(default_factory=dict)

    def names(self) -> tuple[str, ...]:
        """Of all groups, in the order in which they were written."""
        return tuple(self.groups)

    def read(self, name: str) -> dict[str, Tensor]:
        """The tensors of a group, on the processor and nobody else's.

        Raises ConfigError for a group that there is not, ModelError for a file that is damaged.
        """
        found = self._found(name)
        if isinstance(found, _Held):
            return {key: one.clone() for key, one in found.tensors.items()}
        from safetensors.torch import load_file

        found.check()
        with reading(found.path, LOST, ModelError):
            return load_file(found.path)

    def write(self, name: str, tensors: Mapping[str, Tensor], *, private: bool = False) -> None:
        """Keep a group, in place of one of that name; the tensors are copied.

        private: for the folder's owner alone, as a file of mode 600.
        """
        if not re.fullmatch(GROUP, name):
            raise ConfigError(
                f"a group cannot be called {name[:100]!r}: write small letters, digits, - and _"
            )
        from torch import Tensor

        odd = [key for key, one in tensors.items() if not isinstance(one, Tensor)]
        if odd:
            raise ConfigError(f"the group {name!r} holds {odd[0]!r}, which is no tensor")
        copied = {key: one.detach().cpu().clone().contiguous() for key, one in tensors.items()}
        self.groups.pop(name, None)
        if self.room is None:
            self.groups[name] = _Held(copied, private)
            return
        file = self.room / file_of(f"{name}-{secrets.token_hex(4)}", private)
        self.groups[name] = KeptFile(file, _write(copied, file, private), private)

    def drop(self, name: str) -> None:
        """Keep a group no longer. Raises ConfigError for one that there is not."""
        self._found(name)
        del self.groups[name]

    def is_private(self, name: str) -> bool:
        """Whether a group is its folder's owner's alone."""
        return self._found(name).private

    def lost(self) -> list[Path]:
        """Files of groups that are not there."""
        files = (one.path for one in self.groups.values() if isinstance(one, KeptFile))
        return [path for path in files if not os.path.exists(path)]

    def check(self, method: str, where: str) -> None:
        """Raise ModelError where nothing is kept of what a method needs, or files are not there, or are
        others than those described: all of them are read once, before the work.

        where: what to call the model.
        """
        if not self.groups:
            raise ModelError(f"{where} has nothing of what {method} kept while it trained; {LOST}")
        if lost := self.lost():
            raise ModelError(
                f"{lost[0]} is not there, and {method} forgets from it ({len(lost)} of "
                f"{len(self.groups)} files are missing); {LOST}, or retrain"
            )
        for one in self.groups.values():
            if isinstance(one, KeptFile):
                one.check()

    def expect(self, size: int) -> None:
        """Raise ConfigError early where so many bytes would not fit into the room."""
        if self.room is not None and (why := short_of(self.room / "kept", size)) is not None:
            raise ConfigError(
                f"what is kept beside the model has no room ({why}); make some, or choose another folder"
            )

    def redacted(self) -> Kept:
        """The same groups but for the one that tells of ids."""
        return Kept(self.room, {k: one for k, one in self.groups.items() if k != OF_IDS})

    def copied(self, room: Path | None) -> Kept:
        """The same groups, for a further step that may change them: nothing here changes with it."""
        return Kept(room, dict(self.groups))

    def save(self, name: str, folder: Path) -> str:
        """Write a group as a file of a model folder; its digest.

        What another folder keeps is copied, not linked: a link would change with that folder.
        """
        found, file = self._found(name), folder / file_of(name, self.is_private(name))
        if isinstance(found, _Held):
            return _write(found.tensors, file, found.private)
        if found.path.parent == self.room:  # nobody else's, and gone soon
            with suppress(OSError):
                os.link(found.path, file)
                return found.digest
        found.check()
        with reading(found.path, LOST, ModelError):
            shutil.copyfile(found.path, file)
        digest = file_digest(file)
        if found.digest and digest != found.digest:
            raise ModelError(f"{found.path} changed while it was copied; {LOST}")
        if found.private:
            file.chmod(OWNER_ONLY)
        return digest

    def saved(self, folder: Path, digests: Mapping[str, str]) -> Kept:
        """The same groups, as they lie in a folder of a model folder now; digests: of those known."""
        return Kept(
            None,
            {
                name: KeptFile(
                    folder / file_of(name, one.private),
                    digests.get(name, ""),
                    one.private,
                    within=folder.parent,
                )
                for name, one in self.groups.items()
            },
        )

    def _found(self, name: str) -> KeptFile | _Held:
        if name not in self.groups:
            raise ConfigError(
                f"nothing called {name[:100]!r} is kept; there is: {', '.join(self.groups) or 'nothing'}"
            )
        return self.groups[name]


def file_of(name: str, private: bool) -> str:
    """What the file of a group is called."""
    return f"{PRIVATE if private else 'kept-'}{name}.safetensors"


def file_digest(path: Path) -> str:
    """SHA-256 of a file's bytes, 64 hexadecimal digits."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _write(tensors: Mapping[str, Tensor], file: Path, private: bool) -> str:
    """Write a file of tensors, one that is private for nobody else at any moment; its digest."""
    from safetensors.torch import save_file

    if private:
        os.close(os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, OWNER_ONLY))
    save_file(dict(tensors), file)
    if private:
        file.chmod(OWNER_ONLY)
    return file_digest(file)
