"""What each request of a chain struck: told later of whoever asks for it again."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from expunge.errors import SplitError

AGAIN = "copy the whole folder again"


@dataclass(frozen=True)
class Struck:
    """What one request struck.

    request: what it is called. forgotten: ids that the model had learned from and forgot.
    aside: ids that it had not learned from, which nothing reads since.
    """

    request: str
    forgotten: tuple[str, ...]
    aside: tuple[str, ...] = ()

    def named(self, name: Callable[[str], str]) -> Struck:
        """The same, with other names for its samples."""
        return Struck(self.request, tuple(map(name, self.forgotten)), tuple(map(name, self.aside)))


def struck_to_plain(
    struck: Sequence[Struck], forget: Sequence[str]
) -> list[dict[str, str | list[str]]]:
    """As split.json has it. forget: of the split beside it; the last request is not told twice."""
    plain: list[dict[str, str | list[str]]] = []
    for one in struck:
        told = () if one.forgotten == tuple(forget) else one.forgotten
        plain.append({"request": one.request, "forgotten": list(told), "aside": list(one.aside)})
    return plain


def struck_from_plain(plain: Mapping[str, Any], name: Callable[[str], str]) -> tuple[Struck, ...]:
    """Of a split as plain data. name: what an id in it is called. Empty for folders of earlier versions.

    Raises SplitError for content that is none, or that speaks of what the split did not strike.
    """
    found = []
    for one in plain.get("struck", ()):
        try:
            forgotten = one["forgotten"] or (plain["forget"] if one is plain["struck"][-1] else ())
            made = Struck(one["request"], tuple(forgotten), tuple(one["aside"]))
        except (KeyError, TypeError) as error:
            raise SplitError(f"split.json: 'struck' lacks {error}; {AGAIN}") from error
        found.append(made)
    known = {*plain["forget"], *plain["excluded"]} if found else set()
    for made in found:
        if not isinstance(made.request, str) or not known.issuperset(
            (*made.forgotten, *made.aside)
        ):
            raise SplitError(f"split.json: 'struck' names what the split did not strike; {AGAIN}")
    return tuple(made.named(name) for made in found)
