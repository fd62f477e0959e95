"""How good a method's settings are, judged without a retrained model, which nobody has to tune by.

All that it takes is what somebody with a deletion request has: the original, validation samples that
neither model learned from, and the forget set.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.errors import ConfigError
from expunge.loading import loading
from expunge.scores.score import Score

if TYPE_CHECKING:
    from expunge.audits.outputs import Outputs, PartOutputs

CRITERION = "criterion"


def criterion(model: Outputs, original: Outputs, *, all_gone: bool) -> Score:
    """`criterion`, in points: lower is better, 0 at best.

    all_gone: whether nothing of what the forget set teaches may stay, as of whole classes and of
    poisoned samples, whose label is the attacker's and wrong. Then it is accuracy on the forget set +
    what accuracy on the validation samples (of the other classes) lost against the original. Of any
    other request it is |accuracy on the forget set - accuracy on the validation samples| + what that
    lost against the original + 100 |AUC - 1/2|, where the AUC says how well the loss alone tells the
    forget set from the validation samples.

    model, original: outputs with the validation samples in place of the test set. The detail has the
    terms. Raises ConfigError where the forget set or those samples are missing.
    """
    forget = _required(model.forget, "no forget sample")
    kept = _required(model.test_kept, "no validation sample")
    before = _required(original.test_kept, "no validation sample")
    lost = max(0.0, _accuracy(before) - _accuracy(kept))
    if all_gone:
        terms = {"accuracy_forget": _accuracy(forget), "accuracy_lost": lost}
    else:
        terms = {
            "accuracy_apart": abs(_accuracy(forget) - _accuracy(kept)),
            "accuracy_lost": lost,
            "told_apart": 100 * abs(loss_auc(forget, kept) - 0.5),
        }
    return Score(CRITERION, sum(terms.values()), forget.n, None, None, "points", "low", terms)


def loss_auc(forget: PartOutputs, others: PartOutputs) -> float:
    """The chance that a forget sample has a larger loss than one of the others, ties half: [0, 1]."""
    import numpy as np

    with loading():
        from sklearn.metrics import roc_auc_score

    losses = np.concatenate([forget.losses.numpy(), others.losses.numpy()])
    of_forget = np.repeat([1, 0], [forget.n, others.n])
    # where a class is closed to the model its loss is infinite: it ranks above all
    largest = np.finfo(np.float64).max
    return float(roc_auc_score(of_forget, np.minimum(losses, largest)))


def _accuracy(part: PartOutputs) -> float:
    return 100 * float(part.correct.double().mean())


def _required(part: PartOutputs | None, lacking: str) -> PartOutputs:
    if part is None or not part.n:
        raise ConfigError(f"settings cannot be judged: {lacking}")
    return part
