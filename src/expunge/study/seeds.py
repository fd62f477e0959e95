"""The seeds of a study that goes on until its claims are decided, and what may not change meanwhile."""

from __future__ import annotations

import itertools
from typing import Any

from expunge.errors import ConfigError
from expunge.study.claims import parse_claim
from expunge.study.entries import variants
from expunge.study.schema import Study, UntilDecided

FREE = (
    *("scale", "seeds", "until_decided", "published", "keep_weights", "also", "class_also"),
    *("claims", "margins", "methods", "densities"),
)
"""Parts of a study that decide no claim; and, below, those that are compared with defaults filled in."""


def until_decided(study: Study, max_seeds: int | None = None) -> Study:
    """The study, to go on until it is decided.

    max_seeds: of its last look; None: as its file or its folder says, or 20.
    """
    asked = study.until_decided or UntilDecided()
    plan = asked if max_seeds is None else UntilDecided(max_seeds=max_seeds)
    return study.model_copy(update={"until_decided": plan})


def with_seeds(study: Study, number: int) -> Study:
    """The study with so many seeds: its own, then the next whole numbers that tuning does not use."""
    taken = {*study.seeds, *(() if study.tuning is None else study.tuning.seeds)}
    further = (seed for seed in itertools.count(max(study.seeds) + 1) if seed not in taken)
    more = itertools.islice(further, max(0, number - len(study.seeds)))
    return study.model_copy(update={"seeds": (*study.seeds, *more)})


def as_held(study: Study, held: Study) -> Study:
    """What a folder's study has become: the seeds that were added, and the plan that it goes by.

    Raises ConfigError for another plan than the one that was fixed before the first look, and for
    seeds that do not fit it.
    """
    asked, plan = study.until_decided, held.until_decided
    seeds = study.seeds
    if plan is not None:
        if asked is not None and asked.max_seeds not in (None, plan.max_seeds):
            raise ConfigError(
                f"the folder's study is looked at up to {plan.max_seeds} seeds, which was fixed before "
                "its first look; leave --max-seeds out, or choose another folder with --out"
            )
        for name, ours in _decides(study).items():
            if ours != _decides(held)[name]:
                raise ConfigError(
                    f"the folder's study goes on until its claims are decided, and its {name} were "
                    "fixed before the first look; leave them as they were, or choose another folder "
                    "with --out"
                )
        seeds = tuple(dict.fromkeys((*held.seeds, *study.seeds)))
    plan = plan or asked
    if plan is not None:  # the folder keeps the number
        plan = UntilDecided(max_seeds=plan.plan.max_seeds)
    made = study.model_copy(update={"until_decided": plan, "seeds": seeds})
    if plan is not None:
        check_seeds(made)
    return made


def check_seeds(study: Study) -> None:
    """Raise ConfigError where seeds, claims and the plan of looks do not fit each other."""
    if study.until_decided is None:
        return
    most = study.until_decided.plan.max_seeds
    if not study.claims:
        raise ConfigError(
            f"study {study.name} has no claims, so there is nothing to decide; give it some, or run "
            "it without --until-decided"
        )
    if len(study.seeds) > most:
        raise ConfigError(
            f"study {study.name} has {len(study.seeds)} seeds, more than its last look ({most}); list "
            "fewer, or raise --max-seeds in a new folder"
        )
    tuned_on = () if study.tuning is None else study.tuning.seeds
    if shared := set(tuned_on).intersection(study.seeds):
        raise ConfigError(
            f"tuning: seed {min(shared)} is among the seeds that are reported; choose another"
        )


def _decides(study: Study) -> dict[str, Any]:
    """By the name of a part: what decides a study's claims, every default filled in."""
    whole = study.model_dump(mode="json")
    return {
        "claims": study.claims,
        "margins": [study.margin_of(parse_claim(text).less.score) for text in study.claims],
        "methods": {
            label: variants(label, entry, allow_code=False)
            for label, entry in study.methods.items()
        },
        "densities": [density.resolved() for density in study.densities],
        **{name: value for name, value in whole.items() if name not in FREE},
    }
