"""The order in which methods are proposed, and why; the only place where one goes before another.

It rests on what is known before anything is forgotten: what a method is made for, what it reads and what
it proves. No score is in it, for how well a method does on a model only a trial shows.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from expunge.methods.base import Method

RequestKind = Literal["classes", "samples", "tiny"]
"""Whole classes; samples of classes that stay; and of these so few that no verdict is given."""
Guarantee = Literal["none", "certified", "exact"]
"""What must be proved of the result, from the weakest on."""
GUARANTEES: tuple[Guarantee, ...] = ("none", "certified", "exact")
LAST = "retrain"
"""Stands below all others: what they are a shorter way to."""

EXACT = {
    "sisa": "exact: trains again only the shards that held the samples",
}
CERTIFIED = {
    "noisy_finetune": "proves how little of the samples can be left, by noise and clipping",
    "certified_head": "proves it of the last layer, in one step",
}
BY_KIND: Mapping[RequestKind, Mapping[str, str]] = MappingProxyType(
    {
        "classes": {
            "delete": "reads the class alone, and keeps what the model says of the others",
            "boundary_shrink": "reads the class alone, and gives its samples to the class nearest by",
            "unsir": "reads no sample of the class, only its label",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the class",
            "salun": "relabels the class, and changes only the weights that it rests on",
            "scrub": "keeps the model's answers on what stays, and leaves those on the class",
            "bad_teacher": "one pass: answers on the class become those of an untrained model",
            "random_label": "plain: learns wrong labels for the class beside what stays",
            "euk": "trains the last layers anew without the class",
            "boundary_expand": "reads the class alone, and sends it to an output that is then cut off",
            "finetune": "the plainest: goes on training on what stays",
        },
        "samples": {
            "scrub": "keeps the model's answers on what stays, and leaves those on the samples",
            "salun": "relabels the samples, and changes only the weights that they rest on",
            "amun": "trains on near copies of the samples that the model gets wrong: small steps",
            "msg": "draws the weights anew that tell the samples from others, then fine-tunes",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the samples",
            "finetune": "the plainest: goes on training on what stays, and cannot harm it much",
            "l1_sparse": "fine-tuning that also makes weights small, so that less can hide in them",
            "fcs": "pushes the samples towards no class, then repairs what stays",
            "sfron": "unlearns by the weights that matter to the samples more than to others",
            "random_label": "plain: learns other labels for the samples beside what stays",
            "euk": "trains the last layers anew without the samples",
            "cfk": "goes on training the last layers without the samples",
        },
        "tiny": {
            "ssd": "trains nothing: damps the weights that matter to these samples alone",
            "amun": "trains on near copies of the samples that the model gets wrong: small steps",
            "influence": "trains nothing: one computed step to what stays",
            "scrub": "keeps the model's answers on what stays, and leaves those on the samples",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the samples",
            "finetune": "the plainest: goes on training on what stays, and cannot harm it much",
        },
    }
)


def preferred(kind: RequestKind, guarantee: Guarantee) -> dict[str, str]:
    """Methods to look at for a request, the first one first, and why each.

    guarantee: what must be proved; a stronger one will do. An exact method goes first wherever the
    model allows one.
    """
    if guarantee == "exact":
        return dict(EXACT)
    return {**EXACT, **(CERTIFIED if guarantee == "certified" else BY_KIND[kind])}


def of_its_own(trained_by: Method, guarantee: Guarantee) -> dict[str, str]:
    """The same for a model that a method trained: no other one may forget from it, but retraining.

    Nothing where that method proves less than is wanted.
    """
    proves = trained_by.guarantee.partition("(")[0]
    order = [str(one) for one in GUARANTEES]
    if proves in order and order.index(proves) < order.index(guarantee):
        return {}
    why = {**EXACT, **CERTIFIED}.get(
        trained_by.name, "trained this model, to forget from what it kept"
    )
    return {trained_by.name: why}
