"""What an audit of folders takes besides: a strength, a bank, models from other seeds, margins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from expunge.audits import AUDITS, Audit, make_audit
from expunge.audits.base import Need
from expunge.audits.strength import STRENGTHS, check_strength
from expunge.errors import ConfigError
from expunge.names.code import TYPED
from expunge.scores.margins import STATED, Margins, read_margins
from expunge.shadows.places import bank_beside, is_bank
from expunge.trained.learned import Learned, check_learned
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers

if TYPE_CHECKING:
    from expunge.audits.beside import FurtherModels
    from expunge.audits.shadows import Shadows, Swapped
    from expunge.place import Place
    from expunge.shadows.bank import Bank
    from expunge.trained.trained import Trained

T = TypeVar("T")


@dataclass(frozen=True)
class Deeper:
    """How deep an audit goes, as typed.

    Attributes:
        strength: a word for a set of audits; None: none.
        bank: a folder; None: the one beside the original, where it is there and some audit needs it.
        siblings: folders of what the method made from other seeds.
        margins: a file; None: those of the table.
    """

    strength: str | None = None
    bank: Path | None = None
    siblings: tuple[Path, ...] = ()
    margins: Path | None = None

    def check(self) -> Margins:
        """The margins. Raises ConfigError for a word, a file or a bank that there is not."""
        if self.strength is not None:
            check_strength(self.strength)
        if self.bank is not None and not self.bank.is_dir():
            raise ConfigError(f"{self.bank} does not exist; make a bank with `expunge bank build`")
        return STATED if self.margins is None else read_margins(self.margins)

    def bank_of(self, original: str | Path | None, also: Sequence[str | Audit]) -> Path | None:
        """The folder of the bank that is to be opened, if one is there and some audit asks for it."""
        wanted = self.asked(also) | self.of_strength()
        if self.bank is not None or original is None or "shadows" not in wanted:
            return self.bank
        near = bank_beside(original)
        return near if is_bank(near) else None

    def asked(self, also: Sequence[str | Audit]) -> frozenset[Need]:
        """What audits need that were asked for by name."""
        made = (make_audit(one, allow_code=TYPED) if isinstance(one, str) else one for one in also)
        return frozenset(need for one in made for need in one.needs)

    def of_strength(self) -> frozenset[Need]:
        """What the audits of the strength need, those that will be left out among them."""
        names = STRENGTHS.get(self.strength or "", ())
        return frozenset(need for name in names for need in AUDITS[name].needs)

    def needs(self, bank: Path | None, original: str | Path | None) -> frozenset[Need]:
        """What there may be beside the model."""
        there: dict[Need, bool] = {
            "shadows": bank is not None,
            "method": bank is not None and original is not None,
            "swapped": original is not None,
            "siblings": bool(self.siblings),
        }
        return frozenset(need for need, known in there.items() if known)

    def open(self, audited: Audited, bank: Path | None, place: Place) -> FurtherModels:
        """The bank's models, those from other seeds, and what makes others where an audit needs them.

        What a strength alone asks for and cannot be made is left out, and `place` told. Raises
        ConfigError for a bank that is damaged or another model's, and for what an audit needs that was
        asked for by name, SplitError for a sibling that forgot something else.
        """
        from expunge.audits.beside import FurtherModels

        siblings = tuple(self._sibling(path, audited, place) for path in self.siblings)
        model, original = audited.model, audited.original

        def made(need: Need, make: Callable[[], T], *, asked: bool = False) -> T | None:
            asked = asked or need in self.asked(audited.also)
            if not asked and need not in self.of_strength():
                return None
            try:
                return make()
            except ConfigError as error:
                if asked:
                    raise
                place.tell(f"left out: {error}")
                return None

        opened = unlearned = swapped = None
        if bank is not None:
            opening = partial(_opened, model, bank, place)
            opened = made("shadows", opening, asked=self.bank is not None)
        if original is not None and opened is not None:
            unlearned = made("method", partial(_unlearned, opened, original, model, place))
        if original is not None:
            swapped = made("swapped", partial(_swapped, original, model, place))
        shadows = None if opened is None else opened.shadows  # which were read when it was opened
        return FurtherModels(shadows, unlearned, siblings, swapped)

    def _sibling(self, path: Path, audited: Audited, place: Place) -> Trained:
        model, own = audited.model, audited.learned
        papers = read_papers(path, data=model.data, place=place)
        theirs = learned_of(papers)
        if own is not None and theirs is not None:
            check_learned(own, None, replace(theirs, steps=()))
        made, wanted = papers.card.lineage[-1].step, model.record.step
        if made != wanted:
            raise ConfigError(
                f"--sibling {path} was made by {made}, and the audited model by {wanted}; give what the "
                "same method made from another seed"
            )
        return open_papers(papers, progress=place.progress)


NO_MORE = Deeper()
"""No strength, no bank, no siblings, and the margins of the table."""


@dataclass(frozen=True)
class Audited:
    """A model that is audited, on the split that it is judged on.

    learned: what it learned from, so far as its ids are open. also: audits that were asked for by name.
    """

    model: Trained
    original: Trained | None
    learned: Learned | None
    also: Sequence[str | Audit] = ()


def _opened(model: Trained, folder: Path, place: Place) -> Bank:
    """A bank that was read. Raises ConfigError for one that does not fit, is damaged or has no pair of
    models, and for a redacted model.
    """
    from expunge.shadows.bank import open_bank
    from expunge.shadows.fits import check_bank

    if model.redacted:
        raise ConfigError(
            f"{model.name} is redacted, and a bank knows samples by their ids; audit the folder before "
            "it was, or leave the bank out"
        )
    bank = open_bank(folder)
    check_bank(bank, model)
    place.tell(f"bank: {folder}, {len(bank.shadows)} models")
    return bank


def _unlearned(
    bank: Bank, original: Trained, model: Trained, place: Place
) -> Callable[[], Shadows]:
    from expunge.shadows.forget import unlearned

    return unlearned(bank, original, model, place=place)


def _swapped(original: Trained, model: Trained, place: Place) -> Callable[[], Swapped]:
    from expunge.shadows.swap import swapped

    return swapped(original, model, place=place)


def learned_of(papers: Papers | None) -> Learned | None:
    """What a folder's model learned from, so far as its papers say; None of no folder."""
    if papers is None:
        return None
    card = papers.card
    return Learned(
        str(papers.path),
        papers.split["retain"],
        papers.split["forget"],
        tuple(record.step for record in card.lineage),
        card.recipe,
        card.architecture,
    )
