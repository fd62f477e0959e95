"""Objects of the user's own, named `module:object`."""

from __future__ import annotations

import functools
import importlib
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from expunge.errors import UserError

TYPED = True
"""Of `allow_code`: the name was typed, at a prompt or in Python, and who types a name means it."""


def check_name(name: str, *, allow_code: bool, what: str, error: type[UserError]) -> None:
    """Raise for a name that nobody consented to import, or that is no `module:object`.

    allow_code: False for a name that stands in a file from elsewhere and was not typed.
    what: what the name stands for, for messages. error: the type to raise.
    """
    if not allow_code:
        raise error(
            f"the {what} {name!r} names code to run, and the name comes from a file: look at that "
            "code, then pass --allow-code"
        )
    module_name, _, attribute = name.partition(":")
    if not attribute or not all(part.isidentifier() for part in module_name.split(".")):
        raise error(
            f"{what} {name!r} is no module:function; write the module as Python imports it, such as "
            "package.module:function, not as a path"
        )


def import_object(name: str, *, allow_code: bool, what: str, error: type[UserError]) -> Any:
    """Import `module:object`, with the current folder importable as `python -m` has it.

    An object within another is written with dots, `module:Outer.Inner`. The arguments are those of
    `check_name`.
    """
    check_name(name, allow_code=allow_code, what=what, error=error)
    module_name, _, attribute = name.partition(":")
    importlib.invalidate_caches()
    try:
        with _here_first():
            module = importlib.import_module(module_name)
    except (Exception, SystemExit) as cause:  # whatever the user's own code raises meanwhile
        raise error(
            f"cannot import {module_name!r} for {what} {name!r} ({in_a_line(cause)}); run "
            "from the folder that holds it, or set PYTHONPATH"
        ) from cause
    try:
        return functools.reduce(getattr, attribute.split("."), module)
    except AttributeError as cause:
        raise error(f"module {module_name!r} has no {attribute!r} for {what} {name!r}") from cause


@contextmanager
def _here_first() -> Iterator[None]:
    """The current folder goes first among the places of modules, and last afterwards: what the user's
    module imports later is still found there, and no library of ours is.
    """
    here = os.getcwd()
    if sys.path[:1] in ([""], [here]):  # as somebody has it
        yield
        return
    sys.path.insert(0, here)
    try:
        yield
    finally:
        if here in sys.path:
            sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)


def in_a_line(cause: BaseException) -> str:
    """The kind of an error and what it says, in one line."""
    return " ".join(f"{type(cause).__name__}: {cause}".split())


def module_file(module: str) -> Path | None:
    """The file that a module is written in, found without running it or the packages around it.

    None for what is not found, and for modules that have no file of source.
    """
    places: list[str] | None = None
    file = None
    for level in range(1, module.count(".") + 2):
        spec = _spec(".".join(module.split(".")[:level]), places)
        if spec is None:
            return None
        file, places = spec.origin, list(spec.submodule_search_locations or ())
    return Path(file) if file is not None and Path(file).is_file() else None


def _spec(name: str, places: list[str] | None) -> Any:
    """What the finders say of a module. places: of its package; None: those of every import."""
    here = os.getcwd()
    if places is None and "" not in sys.path:
        places = [here, *(place for place in sys.path if place != here)]
    for finder in sys.meta_path:
        spec = finder.find_spec(name, places)
        if spec is not None:
            return spec
    return None
