"""Folders that appear whole or not at all, whatever ends the process that writes them.

A folder is written under a temporary name beside its own, `.NAME.expunge-XXXXXXXX`, and takes its name
in one step at the end; one that is replaced changes places with it, where the system can do that
(renameat2 of Linux, renamex_np of macOS). The temporary folder is locked (flock) for as long as its
process lives, so the next start knows what was left behind, and removes it.

Elsewhere two renames are needed: the old folder is moved aside, the new one takes its name. What a kill
between the two leaves is put right by `recover` at the next start. So is a kill between the names of
several folders that appear together: a journal says what was still to be done.
"""

from __future__ import annotations

import errno
import fcntl
import functools
import json
import os
import re
import secrets
import shutil
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import astuple, dataclass
from pathlib import Path

from expunge.disk.exchange import REFUSED, exchanged
from expunge.disk.reading import read_bytes
from expunge.errors import UserError

_MADE = re.compile(r"\.(?P<name>.+)\.expunge-(?P<what>new|old|plan)-[0-9a-f]{8}", re.DOTALL)
"""Temporary names: a folder that is being written (or the old one, once they have changed places), an
old one that was moved aside, a journal."""
_TAKEN = (errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR)

PRIVATE = "private-"
"""Begins the names of files that their owner alone may read."""
TRIAL_BYTES = 4096
"""What there must be room for, whatever is written."""


def unwritable(target: Path) -> str | None:
    """Why a new folder could not be made, in words; None if it could. A folder with a small file in it
    is made and renamed to know it, and removed.
    """
    target = Path(os.path.abspath(target))
    if not target.name:
        return "it is no name for a folder"
    above = next(folder for folder in target.parents if os.path.lexists(folder))
    for link in (target, above):
        if os.path.islink(link) and not os.path.exists(link):
            return f"{link} is a link to {os.readlink(link)}, which is not there"
    if not above.is_dir():
        return f"{above} is no folder"
    first = target.relative_to(above).parts[0]
    try:
        held = _begin(above / first)
        try:
            (held.path / "trial").write_bytes(bytes(TRIAL_BYTES))
            (held.path / "trial").unlink()
            moved = above / _temporary(first, "new")
            os.rename(held.path, moved)
            moved.rmdir()
        finally:
            shutil.rmtree(held.path, ignore_errors=True)
            held.release()
    except OSError as error:
        return f"{above}: {error.strerror or error}"
    if os.path.ismount(target):
        return "it is the root of a file system, which keeps its name"
    return None


def short_of(target: Path, needed: int) -> str | None:
    """Why so many bytes would not fit where a folder is to be made, in words; None if they would, or
    its file system does not say.
    """
    target = Path(os.path.abspath(target))
    usage = shutil.disk_usage(next(folder for folder in target.parents if os.path.exists(folder)))
    if not usage.total or usage.free >= needed:
        return None
    return f"{usage.free / 2**20:,.1f} MiB are free, and {needed / 2**20:,.1f} MiB are needed"


@contextmanager
def written_whole(target: Path, *, overwrite: bool) -> Iterator[Path]:
    """A temporary folder beside `target` that takes its name at the end, or disappears.

    Files are on the disk before that. With `overwrite`, a folder in the way is replaced.
    Raises UserError, with the name of the temporary folder, where all was written and it cannot take
    its name: then it stays.
    """
    with written_together([target], overwrite=overwrite) as folders:
        yield folders[0]


@contextmanager
def written_together(targets: Sequence[Path], *, overwrite: bool) -> Iterator[list[Path]]:
    """As `written_whole`, for folders of one parent that appear together: after a kill between their
    names the next start gives them those that are left.
    """
    parent = targets[0].parent
    parent.mkdir(parents=True, exist_ok=True)
    sweep(parent)
    making: list[_Held] = []
    kept: list[Path] = []
    try:
        for target in targets:
            making.append(_begin(target))
        folders = [held.path for held in making]
        yield folders
        try:
            for folder in folders:
                _settle(folder)
            with _undisturbed():
                _name_all(list(zip(folders, targets, strict=True)), overwrite=overwrite)
        except OSError as error:
            kept = _kept(folders, targets)
            raise UserError(
                f"{targets[0]} could not be written ({error.strerror or error}); all of it lies in "
                f"{' and '.join(map(str, kept))}: move it to where it belongs"
            ) from error
    finally:
        for held in making:
            if held.path not in kept:
                shutil.rmtree(held.path, ignore_errors=True)
            held.release()


@contextmanager
def scratch_beside(target: Path) -> Iterator[Path]:
    """A folder for temporary files on the file system of `target`, gone at the end; after a kill the
    next start removes it.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    sweep(target.parent)
    held = _begin(target)
    try:
        yield held.path
    finally:
        shutil.rmtree(held.path, ignore_errors=True)
        held.release()


def sweep(folder: Path) -> int:
    """Put right what killed processes left in a folder; the number of things removed or finished.

    Names such as `.NAME.expunge-new-0123abcd` are ours alone.
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError:
        return 0
    found = [(folder / name, match) for name in names if (match := _MADE.fullmatch(name))]
    order = ("old", "plan", "new")  # what was moved aside first, and leftovers last
    done = 0
    for path, match in sorted(found, key=lambda one: order.index(one[1]["what"])):
        held = _lock(path)
        if held is None:  # somebody is at work on it, or nobody can tell
            continue
        try:
            if match["what"] == "old" and not (folder / match["name"]).exists():
                os.rename(path, folder / match["name"])
            elif match["what"] == "plan":
                _finish(path)
            elif _is_planned(path):  # another process finishes what a journal says
                continue
            else:
                remove(path)
            done += 1
        except OSError:  # a folder that may only be read
            continue
        finally:
            held.release()
    return done


def recover(target: Path) -> None:
    """Put right what a kill left of a folder that has no longer its name; nothing where it has."""
    if not os.path.exists(target) and target.parent.is_dir():
        sweep(target.parent)


def write_file(file: Path, content: str | bytes, *, mode: int = 0o666) -> None:
    """Write a file whole or not at all; it replaces one of its name. What UTF-8 has no signs for is
    escaped. mode: its rights, less those that new files are not to have.
    """
    data = content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    while True:
        part = file.with_name(_temporary(file.name, "new"))
        handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        held = _Held(part, handle)
        if _is_ours(part, handle):
            break
        held.release()
    try:
        with os.fdopen(os.dup(handle), "wb") as stream:
            stream.write(data)
        _sync(handle)
        os.replace(part, file)
        flush(file.parent)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    finally:
        held.release()


def flush(path: Path) -> None:
    """Make sure that a file or a folder's entries are on the disk, as far as its mount can do that."""
    handle = os.open(path, os.O_RDONLY)
    try:
        _sync(handle)
    finally:
        os.close(handle)


@dataclass(frozen=True)
class _Held:
    """A temporary file or folder, and the lock that says that its process lives."""

    path: Path
    handle: int

    def release(self) -> None:
        with suppress(OSError):
            os.close(self.handle)


def _temporary(name: str, what: str) -> str:
    return f".{name}.expunge-{what}-{secrets.token_hex(4)}"


def _begin(target: Path) -> _Held:
    """A new temporary folder for a target, locked."""
    while True:
        path = target.with_name(_temporary(target.name, "new"))
        path.mkdir(mode=0o700)
        with suppress(FileNotFoundError):
            handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if _is_ours(path, handle):
                return _Held(path, handle)
            os.close(handle)


def _is_ours(path: Path, handle: int) -> bool:
    """Whether something new could be locked, as far as its file system knows locks: else a sweep was
    quicker, and removes it.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        pass
    return path.exists()


def _locked(path: Path) -> _Held:
    """A folder held by this process, as far as its file system knows locks."""
    held = _Held(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC))
    with suppress(OSError):
        fcntl.flock(held.handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    return held


def _lock(path: Path) -> _Held | None:
    """Something left behind, held by this process; None if another has it, or nobody can tell."""
    try:
        flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        handle = os.open(path, flags)  # nobody waits for a pipe of that name
    except OSError:
        return None
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(handle)
        return None
    return _Held(path, handle)


def _settle(folder: Path) -> None:
    """Give files the rights that new ones have, and make sure that they are on the disk."""
    umask = os.umask(0o022)
    os.umask(umask)
    for path in (*folder.rglob("*"), folder):
        whole = 0o777 if path.is_dir() else 0o600 if path.name.startswith(PRIVATE) else 0o666
        rights = whole & ~umask
        _tolerated(functools.partial(path.chmod, rights))
        flush(path)


@dataclass(frozen=True)
class _Step:
    """What a journal says of one folder: its temporary name, the name that it is to get, and which
    folders bear them (their inode numbers; 0: nothing bore that name).
    """

    new: str
    target: str
    inode: int
    old_inode: int


def _name_all(pairs: Sequence[tuple[Path, Path]], *, overwrite: bool) -> None:
    """Give temporary folders their names; what several are to get is noted before."""
    if len(pairs) == 1:
        _name(*pairs[0], overwrite=overwrite)
        return
    steps = [
        _Step(new.name, target.name, _inode(new), _inode(target) if overwrite else 0)
        for new, target in pairs
    ]
    plan = pairs[0][1].with_name(_temporary(pairs[0][1].name, "plan"))
    handle = os.open(plan, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    held = _Held(plan, handle)
    try:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.write(handle, json.dumps([astuple(step) for step in steps]).encode())
        _sync(handle)
        flush(plan.parent)
        for new, target in pairs:
            _name(new, target, overwrite=overwrite)
    finally:
        plan.unlink(missing_ok=True)
        held.release()


def _steps(plan: Path) -> list[_Step]:
    """What a journal says; nothing of one that was not written whole, for that began nothing."""
    try:
        content = json.loads(read_bytes(plan, most=65536))
        steps = [_Step(str(new), str(to), int(one), int(two)) for new, to, one, two in content]
    except (OSError, ValueError, TypeError, RecursionError):
        return []
    return [
        step
        for step in steps
        if (match := _MADE.fullmatch(step.new)) and match["what"] == "new"
        if step.target == Path(step.target).name
    ]


def _is_planned(folder: Path) -> bool:
    """Whether a journal that is still there speaks of a temporary folder, which is locked."""
    plans = [one for one in os.listdir(folder.parent) if ".expunge-plan-" in one]
    steps = [step for one in plans for step in _steps(folder.parent / one)]
    return any((step.new, step.inode) == (folder.name, _inode(folder)) for step in steps)


def _finish(plan: Path) -> None:
    """Do what is left of a journal, and remove it. What somebody has put in a folder's place since
    stays, and the folder gets a name beside it.
    """
    for step in _steps(plan):
        new, target = plan.parent / step.new, plan.parent / step.target
        held = _lock(new)
        if held is None:
            if _inode(new) == step.inode:  # somebody looks at it: the next start goes on
                return
            continue
        try:
            if not new.is_dir() or _inode(new) != step.inode:
                continue
            if _inode(target) == step.old_inode:
                _name(new, target, overwrite=True)
            else:
                _kept([new], [target])
        finally:
            held.release()
    plan.unlink(missing_ok=True)


def _inode(path: Path) -> int:
    """Which file or folder bears a name; 0 for none."""
    try:
        return os.lstat(path).st_ino
    except OSError:
        return 0


@contextmanager
def _undisturbed() -> Iterator[None]:
    """Let Ctrl-C and the signals that end as it does wait for as long as names change."""
    waiting: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM, getattr(signal, "SIGHUP", signal.SIGINT))
    handled = {number: signal.getsignal(number) for number in numbers}
    if threading.current_thread() is not threading.main_thread():
        handled = {}
    handled = {number: known for number, known in handled.items() if callable(known)}
    for number in handled:
        signal.signal(number, lambda number, _: waiting.append(number))
    try:
        yield
    finally:
        for number, known in handled.items():
            signal.signal(number, known)
        if waiting:
            signal.raise_signal(waiting[0])


def _name(new: Path, target: Path, *, overwrite: bool) -> None:
    """Give a temporary folder its name; an old folder of that name is gone then.

    Another process may do the same meanwhile: then it is tried again.
    """
    while True:
        if not os.path.lexists(target):
            try:
                os.rename(new, target)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                continue
            flush(target.parent)
            return
        if not overwrite:
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
        if exchanged(new, target):
            flush(target.parent)
            shutil.rmtree(new, ignore_errors=True)  # which is the old one now
            return
        if _moved_aside(new, target):
            return


def _moved_aside(new: Path, target: Path) -> bool:
    """Whether a folder has taken another's name by two renames; False if a third one was quicker."""
    old = target.with_name(_temporary(target.name, "old"))
    try:
        held = _locked(target)
    except FileNotFoundError:
        return False
    try:
        os.rename(target, old)
        try:
            os.rename(new, target)
        except OSError as error:
            if error.errno not in _TAKEN:
                os.rename(old, target)
                raise
            shutil.rmtree(old, ignore_errors=True)
            return False
        flush(target.parent)
        shutil.rmtree(old, ignore_errors=True)
        return True
    except FileNotFoundError:
        if not new.exists():
            raise
        return False
    finally:
        held.release()


def _kept(folders: Sequence[Path], targets: Sequence[Path]) -> list[Path]:
    """Where written folders are that could not take their names: under names that no sweep removes."""
    kept = []
    for folder, target in zip(folders, targets, strict=True):
        if not folder.exists():  # it has its name already
            kept.append(target)
            continue
        aside = target.with_name(f"{target.name}.unnamed-{secrets.token_hex(4)}")
        try:
            os.rename(folder, aside)
        except OSError:
            aside = folder
        kept.append(aside)
    return kept


def remove(path: Path) -> None:
    """Remove a file, a link or a folder, as far as that can be done."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _sync(handle: int) -> None:
    _tolerated(lambda: os.fsync(handle))


def _tolerated(call: Callable[[], object]) -> None:
    """Do what a mount may refuse without harm to what is written."""
    try:
        call()
    except OSError as error:
        if error.errno not in REFUSED:
            raise
