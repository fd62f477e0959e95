"""What an audit of folders takes besides: a strength, a bank, models from other seeds, margins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.audits import Audit, make_audit
from expunge.audits.base import Need
from expunge.audits.strength import STRENGTHS, check_strength
from expunge.errors import ConfigError
from expunge.names.code import TYPED
from expunge.scores.margins import STATED, Margins, read_margins
from expunge.trained.learned import Learned, check_learned
from expunge.trained.opening import open_papers
from expunge.trained.papers import Papers, read_papers

if TYPE_CHECKING:
    from expunge.audits.beside import FurtherModels
    from expunge.audits.shadows import Shadows
    from expunge.place import Place
    from expunge.trained.trained import Trained

BESIDE = "-bank"
"""What the name of a bank's folder adds to that of its original."""


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
        if self.bank is not None or original is None or not self._needs_bank(also):
            return self.bank
        near = Path(original)
        near = near.with_name(f"{near.absolute().name}{BESIDE}")
        return near if near.is_dir() else None

    def _needs_bank(self, also: Sequence[str | Audit]) -> bool:
        """Whether an audit that was asked for looks at models of a bank."""
        further = (
            make_audit(one, allow_code=TYPED) if isinstance(one, str) else one for one in also
        )
        return self.strength in STRENGTHS or any("shadows" in one.needs for one in further)

    def needs(self, bank: Path | None) -> frozenset[Need]:
        """What there will be beside the model."""
        found: set[Need] = {"shadows"} if bank is not None else set()
        return frozenset(found | ({"siblings"} if self.siblings else set()))

    def open(
        self, model: Trained, own: Learned | None, bank: Path | None, place: Place
    ) -> FurtherModels:
        """The bank's models and those from other seeds.

        own: what the model learned from, so far as its ids are open. Raises ConfigError for a bank that
        is damaged or another model's, SplitError for a sibling that forgot something else.
        """
        from expunge.audits.beside import FurtherModels

        shadows = None if bank is None else _shadows(model, bank, place)
        siblings = tuple(self._sibling(path, model, own, place) for path in self.siblings)
        return FurtherModels(shadows=shadows, siblings=siblings)

    def _sibling(self, path: Path, model: Trained, own: Learned | None, place: Place) -> Trained:
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


def _shadows(model: Trained, folder: Path, place: Place) -> Shadows:
    """What a bank's models say. Raises ConfigError for a redacted model, whose ids no bank has."""
    from expunge.shadows.bank import open_bank

    if model.redacted:
        raise ConfigError(
            f"{model.name} is redacted, and a bank knows samples by their ids; audit the folder before "
            "it was, or leave the bank out"
        )
    bank = open_bank(folder)
    place.tell(f"bank: {folder}, {len(bank.finished)} models")
    return bank.shadows


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
