"""The K source classes that harm the study's target task most, by its scorer: `harmful:K`."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.study.scenarios.base import AsTyped, Given

if TYPE_CHECKING:
    from expunge.data.split import Split


class HarmfulClasses(AsTyped):
    """Scored with the original model, on the samples that it learned from."""

    def check(self, text: str) -> None:
        """Raise ConfigError unless K is a whole number."""
        number = text.partition(":")[2]
        if not number.isdigit() or not int(number):
            raise ConfigError(f"scenario {text!r}: write how many classes, as in harmful:2")

    def split(self, request: str, given: Given) -> Split:
        """The most harmful classes."""
        from expunge.data.parts import Part
        from expunge.data.split import Split
        from expunge.transfer.harm import class_harm, most_harmful

        if given.transfer is None:
            raise ConfigError(
                f"scenario {request!r} needs a target task; give the study `transfer`"
            )
        original, data = given.original, given.original.data
        learned = data.train.subset(original.split.rows(data.train, Part.RETAIN))
        target = given.target(given.transfer.data)
        harm = class_harm(
            original.model, learned, data, target, given.run, scorer=given.transfer.scorer
        )
        worst = most_harmful(harm, int(request.partition(":")[2]))
        named = [f"#{label}" for label in worst]
        return Split.classes(data, named, base=original.split)

    def whole_classes(self, text: str) -> bool:
        """Always."""
        return True

    def told(self, text: str) -> str:
        """How many."""
        number = text.partition(":")[2]
        return "the most harmful class" if number == "1" else f"the {number} most harmful classes"
