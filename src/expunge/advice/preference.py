"""The order in which methods are proposed, and why; the only place where one goes before another.

It rests on what is known before anything is forgotten: what a method is made for, what it reads and what
it proves. Where that leaves a choice, it follows a study of all methods (digits, tuned on validation
samples, three seeds). Of whole classes, what draws weights anew goes first: it took nearly as many steps
to learn the class again as a retrained model; then what ended near retraining. What only moves the
boundary goes last: it learns the class again at once. Of single samples, first what came nearer to
retraining than doing nothing, then what hardly moves the model; what did harm is not here (random_label,
bad_teacher, perturb, regun). It is an order and no promise: how well a method does on a model only a
trial shows.
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
            "euk": "trains the last layers anew without the class: these hold nothing of it",
            "delete": "reads the class alone, and keeps what the model says of the others",
            "fisher": "trains nothing: noise on the weights that matter least to what stays",
            "unsir": "reads no sample of the class, only its label",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the class",
            "ssd": "trains nothing: damps the weights that matter to the class alone",
            "salun": "relabels the class, and changes only the weights that it rests on",
            "random_label": "plain: learns wrong labels for the class beside what stays",
            "scrub": "keeps the model's answers on what stays, and leaves those on the class",
            "boundary_shrink": "reads the class alone, and gives its samples to the class nearest by",
            "boundary_expand": "reads the class alone, and sends it to an output that is then cut off",
            "finetune": "the plainest: goes on training on what stays",
        },
        "samples": {
            "msg": "draws the weights anew that tell the samples from others, then fine-tunes",
            "lotus": "makes answers on the samples as unsure as those on unseen ones, no more",
            "euk": "trains the last layers anew without the samples: these hold nothing of them",
            "fcs": "pushes the samples towards no class, then repairs what stays",
            "finetune": "the plainest: goes on training on what stays, and cannot harm it much",
            "l1_sparse": "fine-tuning that also makes weights small, so that less can hide in them",
            "amun": "trains on near copies of the samples that the model gets wrong: small steps",
            "scrub": "keeps the model's answers on what stays, and leaves those on the samples",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the samples",
            "salun": "relabels the samples, and changes only the weights that they rest on",
            "sfron": "unlearns by the weights that matter to the samples more than to others",
            "cfk": "goes on training the last layers without the samples",
        },
        "tiny": {
            "ssd": "trains nothing: damps the weights that matter to these samples alone",
            "influence": "trains nothing: one computed step to what stays",
            "amun": "trains on near copies of the samples that the model gets wrong: small steps",
            "msg": "draws the weights anew that tell the samples from others, then fine-tunes",
            "finetune": "the plainest: goes on training on what stays, and cannot harm it much",
            "neggrad_plus": "plain and strong: learns what stays while it unlearns the samples",
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
