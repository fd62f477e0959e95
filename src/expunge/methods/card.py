"""What a method tells of itself: the paragraphs of its docstring, sorted."""

from __future__ import annotations

from dataclasses import dataclass

from expunge.methods.base import Method

HEADS = {"Equation:": "equation", "Cost:": "cost", "Use it ": "use", "Avoid it ": "avoid"}
"""How the paragraphs of a docstring begin that have a place of their own."""


@dataclass(frozen=True)
class MethodCard:
    """A method in a user's words; a paragraph that its docstring lacks is empty.

    summary: its first paragraph, in one line. about: what has no place of its own. equation: what it
    minimises or sets. cost: in passes over a set, its first sentence a short one. use, avoid: when it
    is the right choice, and when not.
    """

    summary: str
    about: tuple[str, ...]
    equation: str = ""
    cost: str = ""
    use: str = ""
    avoid: str = ""

    @property
    def short_cost(self) -> str:
        """The cost in a few words: its first sentence."""
        return self.cost.removeprefix("Cost: ").partition(";")[0].partition(". ")[0].rstrip(".")


def method_card(method: type[Method]) -> MethodCard:
    """The card of a method, read off its docstring."""
    first, *rest = [" ".join(part.split()) for part in (method.__doc__ or "").split("\n\n")]
    placed: dict[str, str] = {}
    about = []
    for text in rest:
        name = next((one for head, one in HEADS.items() if text.startswith(head)), None)
        if name is None or name in placed:
            about.append(text)
        else:
            placed[name] = text
    return MethodCard(first, tuple(about), **placed)
