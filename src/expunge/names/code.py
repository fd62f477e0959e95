"""Objects of the user's own, named `module:function`."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from expunge.errors import UserError


def check_name(name: str, *, allow_code: bool, what: str, error: type[UserError]) -> None:
    """Raise for a name that nobody consented to import, or that is no `module:attribute`.

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
    """Import `module:attribute`, with the current folder importable as `python -m` has it.

    The arguments are those of `check_name`.
    """
    check_name(name, allow_code=allow_code, what=what, error=error)
    module_name, _, attribute = name.partition(":")
    if os.getcwd() not in sys.path and "" not in sys.path:
        sys.path.insert(0, os.getcwd())
    importlib.invalidate_caches()
    try:
        module = importlib.import_module(module_name)
    except Exception as cause:  # whatever the user's own code raises while it is imported
        raise error(
            f"cannot import {module_name!r} for {what} {name!r} ({type(cause).__name__}: {cause}); run "
            "from the folder that holds it, or set PYTHONPATH"
        ) from cause
    try:
        return getattr(module, attribute)
    except AttributeError as cause:
        raise error(f"module {module_name!r} has no {attribute!r} for {what} {name!r}") from cause
