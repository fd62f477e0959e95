"""The seeds of a study that goes on until its claims are decided."""

from __future__ import annotations

import itertools

from expunge.errors import ConfigError
from expunge.study.schema import Study, UntilDecided


def until_decided(study: Study, max_seeds: int | None = None) -> Study:
    """The study, to go on until it is decided. max_seeds: None: as its file says, or 20.

    Raises ConfigError for a study without claims, or with more seeds than that.
    """
    plan = study.until_decided or UntilDecided()
    if max_seeds is not None:
        plan = UntilDecided(max_seeds=max_seeds)
    if not study.claims:
        raise ConfigError(
            f"study {study.name} has no claims, so there is nothing to decide; give it some, or run "
            "it without --until-decided"
        )
    if len(study.seeds) > plan.max_seeds:
        raise ConfigError(
            f"study {study.name} lists {len(study.seeds)} seeds, more than the last look has "
            f"({plan.max_seeds}); raise --max-seeds"
        )
    return study.model_copy(update={"until_decided": plan})


def with_seeds(study: Study, number: int) -> Study:
    """The study with so many seeds: its own, then the next whole numbers that tuning does not use."""
    taken = {*study.seeds, *(() if study.tuning is None else (study.tuning.seed,))}
    further = (seed for seed in itertools.count(max(study.seeds) + 1) if seed not in taken)
    more = itertools.islice(further, max(0, number - len(study.seeds)))
    return study.model_copy(update={"seeds": (*study.seeds, *more)})


def as_held(study: Study, held: Study) -> Study:
    """What a folder's study has become: the seeds that were added, and the plan that it goes by.

    Raises ConfigError for another plan than the one that was fixed before the first look.
    """
    if held.until_decided is None:
        return study
    if study.until_decided not in (None, held.until_decided):
        raise ConfigError(
            f"the folder's study is looked at up to {held.until_decided.max_seeds} seeds, which was "
            "fixed before its first look; leave --max-seeds out, or choose another folder with --out"
        )
    seeds = tuple(dict.fromkeys((*held.seeds, *study.seeds)))
    return study.model_copy(update={"until_decided": held.until_decided, "seeds": seeds})
