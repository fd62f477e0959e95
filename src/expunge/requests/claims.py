"""What may be said of a model that forgot, by kind of method, and what may not.

every kind            these records are excluded from all training through this ledger since T
none                  the model that serves had learned from none of them
                      not: deleted everywhere
retraining, SISA      made by training on a recorded set without them
                      not: proven that the data were never used
approximate           within a margin of retrained models on named scores, in this test
                      not: certified, guaranteed, anonymous, compliant
(epsilon, delta)      with its assumptions
                      not: an attack's epsilon as an upper bound
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from expunge.requests.facts import DuplicateLayer, ForgettingFacts

_NEVER = re.compile(
    r"\b(certif(y|ied|ies)|guarantee\w*|anonym\w*|complian(t|ce)|prove[nds]?|proof"
    r"|(deleted|erased|removed) everywhere)\b",
    re.IGNORECASE,
)


def may_be_said(facts: ForgettingFacts) -> tuple[str, ...]:
    """The sentences that a certificate of these facts says."""
    said = [_excluded(facts)]
    kind, privacy = facts.procedure.kind, facts.procedure.privacy
    if kind in ("retraining", "sisa"):
        shards = " in shards, of which those that held them were trained again" * (kind == "sisa")
        said.append(
            f"The model was made by training{shards} on a recorded set of "
            f"{facts.data.retained:,} samples without them."
        )
    if kind == "none":
        said.append("The model had learned from none of them, and stays as it is.")
    if privacy is not None:
        said.append(
            f"Deletion is ({privacy.epsilon:g}, {privacy.delta:g}) in the sense of (epsilon, delta), if "
            f"all of this holds: {'; '.join(privacy.assumptions)}."
        )
    elif kind == "approximate":
        margins = (f"{one.score}, {one.margin:g} {one.unit}" for one in facts.gate.margins)
        said.append(
            "In this test the model is within a margin of models retrained without the records, at "
            f"alpha = {facts.gate.alpha:g}: {'; '.join(margins)}."
        )
    return tuple(said)


def limits(facts: ForgettingFacts) -> tuple[str, ...]:
    """The sentences that say what it does not mean."""
    told = [
        "It does not say that the records are deleted everywhere: copies may be where `places` says, "
        "and where this ledger does not reach.",
        "It is a statement by its signer, and no judgement that a law was complied with.",
    ]
    match facts.procedure.kind:
        case "retraining" | "sisa":
            told.append(
                "It does not prove that the data were never used: it says which set was recorded, and "
                "that the training read it."
            )
        case "none":
            told.append(
                "Models were measured on records held for validation or for tests, and earlier models "
                "may have learned from some: `places` says where these are."
            )
        case "approximate":
            told.append(
                "The method is approximate: scores outside of this test, other attacks and other "
                "records were not looked at, and nothing is guaranteed or anonymous by it."
            )
        case "epsilon-delta":
            told.append(
                "Epsilon and delta hold under the assumptions alone; what an attack measures is a lower "
                "bound, and never stands in for them."
            )
    if any(one.requests is not None for one in facts.duplicates):
        told.append(_copies(facts))
    return tuple(told)


_LAYERS = {
    "exact": "equal content",
    "perceptual": "a hash of pictures (at most {:g} of 64 bits apart)",
    "embeddings": "what the model sees (cosine above {:.4f})",
}


def _copies(facts: ForgettingFacts) -> str:
    """How copies were looked for, and what became of them."""
    looked = [_layer(one, facts.data.requests) for one in facts.duplicates if one.requests]
    absent = [
        _LAYERS.get(one.name, one.name).partition(" (")[0]
        for one in facts.duplicates
        if not one.requests
    ]
    told = [f"looked for by {'; by '.join(looked)}"] if looked else []
    told += [f"not looked for by {' or by '.join(absent)}"] if absent else []
    return f"Copies of the records under other ids were {', and '.join(told)}."


def _layer(layer: DuplicateLayer, requests: int) -> str:
    counts = {
        "forgotten too": layer.added,
        "another's, which stay": layer.kept,
        "unclear, which stay": layer.unclear,
        "not decided, which stay": layer.undecided,
    }
    how = _LAYERS.get(layer.name, layer.name).format(layer.threshold)
    part = "" if layer.requests == requests else f" for {layer.requests} of {requests} requests"
    found = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    return f"{how}{part}: {layer.proposed:,} proposed{f' ({found})' if found else ''}"


def claimed_too_much(sentences: Iterable[str]) -> str | None:
    """The first word in what is said that may not be said of any kind, or None."""
    return next((match[0] for one in sentences if (match := _NEVER.search(one))), None)


def _excluded(facts: ForgettingFacts) -> str:
    size = facts.data.size
    if not size:
        return "None of the records asked for belongs to what is trained on through this ledger."
    records = "One record is" if size == 1 else f"{size:,} records are"
    since = facts.timeline.struck_at
    return f"{records} excluded from all training through this ledger since {since}."
