"""`recommend` for a model folder: what can be wrong is looked for before anything is loaded."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.advice.checks import check_budget, check_can_judge, check_enough, known_guarantee
from expunge.data.request import check_names, private_words
from expunge.loading import loading
from expunge.place import HERE, Place
from expunge.trained.card import check_room, check_target
from expunge.trained.opening import open_papers
from expunge.trained.papers import read_papers
from expunge.trained.telling import check_silent

if TYPE_CHECKING:
    from expunge.advice.recommend import Recommendation
    from expunge.advice.trials import Tried


@dataclass(frozen=True)
class Advice:
    """What `recommend_folder` found. tried: None where nothing was to be tried."""

    recommendation: Recommendation
    tried: Tried | None = None


def recommend_folder(
    path: str | Path,
    forget: str,
    *,
    budget: float | None = None,
    guarantee: str = "none",
    out: Path | None = None,
    seed: int = 0,
    forget_seed: int = 0,
    data: str | None = None,
    tell: Callable[[str], object] | None = None,
    place: Place = HERE,
) -> Advice:
    """Name methods for a request to the model of a folder, and try them where a result is wanted.

    out: where a folder of the best is going to be written; None: nothing is tried. tell: called before
    the work with each line of what the request names. The other arguments are those of `recommend`.
    """
    proof = known_guarantee(guarantee)
    check_budget(budget)
    source = Path(path).absolute()
    if out is not None:
        apart = {} if out.absolute() == source else {"the model folder": source}
        check_target(out.absolute(), overwrite=place.overwrite, apart=apart)
        check_room(out.absolute(), source)
    papers = read_papers(path, data=data, place=place)
    check_names(forget, papers.card.classes)
    words = private_words(forget)
    if out is not None:
        check_can_judge(len(papers.split["validation"]), str(path))
        check_silent([("folder", out.name)] if papers.redacted else [], (), words)
    with loading():
        from expunge.advice.recommend import recommend
        from expunge.advice.trials import try_candidates
    original = open_papers(papers, progress=place.progress)
    if papers.redacted:
        closed = original.redacting()
        original = replace(closed, private=(*closed.private, *words))
    asked = original.answered(forget, seed=forget_seed)
    if out is not None:
        check_enough(len(asked.split.forget))
    for line in asked.lines(redacted=original.redacted):
        (tell or str)(line)
    found = recommend(original, asked, budget=budget, guarantee=proof, seed=seed, place=place)
    if out is None:
        return Advice(found)
    return Advice(found, try_candidates(found, budget=budget, seed=seed, place=place))
