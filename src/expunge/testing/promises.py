"""A promise, how it is found broken, and how many are told at once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from expunge.errors import ExpungeError

Case = TypeVar("Case")


class PromiseError(ExpungeError, AssertionError):
    """A method or a pruner does not do what all of them promise; the message says which promise."""


def require(kept: bool, otherwise: str) -> None:
    """Raise PromiseError with the text unless the promise is kept."""
    if not kept:
        raise PromiseError(otherwise)


def by_promise(*checks: Callable[[Case], None]) -> Mapping[str, Callable[[Case], None]]:
    """Checks by their names, in the order given."""
    return {check.__name__: check for check in checks}


def run_suite(
    name: str,
    once: Mapping[str, Callable[[Case], None]],
    per_model: Mapping[str, Callable[[Case], None]],
    cases: Mapping[str, Case],
) -> None:
    """Run the checks of `once` on the first case, and those of `per_model` on each.

    cases: architecture -> case. Raises one PromiseError that lists all broken promises. Whatever
    else the object under test raises is a mistake of its own and keeps its traceback.
    """
    first = next(iter(cases.values()))
    planned = [(label, check, first) for label, check in once.items()]
    planned += [
        (f"{label} [{architecture}]", check, case)
        for architecture, case in cases.items()
        for label, check in per_model.items()
    ]
    broken = []
    for label, check, case in planned:
        try:
            check(case)
        except PromiseError as error:
            broken.append(f"- {label}: {error}")
        except ExpungeError as error:
            broken.append(f"- {label}: {type(error).__name__}: {error}")
        except Exception as error:
            error.add_note(f"while {name} was checked: {label}")
            raise
    if broken:
        lines = "\n".join(broken)
        raise PromiseError(f"{name} breaks {len(broken)} of {len(planned)} promises:\n{lines}")


def introduces_itself(kind: Any, declares: str) -> None:
    """A class of ours or of others has name, docstring and source. declares: what it says besides."""
    missing = [key for key in ("name", "paper", declares) if not hasattr(kind, key)]
    require(not missing, f"it lacks {', '.join(missing)}")
    require(
        re.fullmatch(r"[a-z][a-z0-9_]*", kind.name) is not None,
        f"its name {kind.name!r} is not in lower case, digits and underscores",
    )
    require(bool((vars(kind).get("__doc__") or "").strip()), "it has no docstring of its own")
    require(bool(kind.paper.strip()), "`paper` is empty; name the source")
