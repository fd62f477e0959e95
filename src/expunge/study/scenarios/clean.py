"""A backdoor of which nothing is known: there are clean samples, and nothing else: `clean:SHARE`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.study.scenarios.base import AsTyped, Given

if TYPE_CHECKING:
    from expunge.data.split import Split


class CleanAlone(AsTyped):
    """A share of the clean samples that the model learned from, drawn with the seed, is all there is.

    The poison counts as what is to be forgotten, so that it can be measured, and methods that would read
    it have no row. `retrain` is what can be done without the model: training on those samples alone.
    """

    def check(self, text: str) -> None:
        """Raise ConfigError unless SHARE lies above 0, up to 1."""
        _share(text)

    def split(self, request: str, given: Given) -> Split:
        """Forget the poison; retain those samples; of the others nothing is known."""
        from expunge.data.split import some_of

        asked = given.original.asked("poison", seed=given.seed)
        here = frozenset(some_of(asked.retain, _share(request), given.seed))
        away = tuple(one for one in asked.retain if one not in here)
        kept = tuple(one for one in asked.retain if one in here)
        return replace(asked, retain=kept, excluded=(*asked.excluded, *away))

    def told(self, text: str) -> str:
        """How many."""
        return f"{100 * _share(text):g}% of clean data alone"


def _share(text: str) -> float:
    try:
        share = float(text.partition(":")[2])
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ConfigError(f"scenario {text!r}: write a share above 0, up to 1, as in clean:0.1")
    return share
