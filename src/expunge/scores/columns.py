"""What every column of a table means, for someone who has not read the papers."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from expunge.scores.table import SCORES

MEAN_GAP, EXCESS_GAP, INTERVAL = "avg gap", "excess gap", "95 % interval"
SECONDS, RATIO = "RTE s", "RTE / retrain"
"""Headers of what is computed from scores."""

_BESIDE_SCORES = {
    "method": (
        "How the model was made to forget. original, retrain and floor are no methods but "
        "yardsticks: nothing done; a new model trained without the forgotten samples, which is "
        "the target; and a second such model from another random start. head_zeroed and last_epoch "
        "are controls: the forgotten classes' rows of the last layer set to 0, and the last epoch of "
        "training made again. They take next to no work, so whatever they score is no merit."
    ),
    "seeds": (
        "How many times all was repeated, each time from other random numbers. Runs that broke "
        "off are counted as failed."
    ),
    MEAN_GAP: (
        "The mean, over UA, MIA, RA and TA, of the distance to retrain's value, in percentage "
        "points. Lower is better. The one number to look at first."
    ),
    EXCESS_GAP: (
        "Two retrainings differ too, for training is random. The excess gap is the average gap "
        "beyond what floor has, seed by seed. Near 0: as near as a second retraining."
    ),
    INTERVAL: (
        "Where the true excess gap plausibly lies, given how much it varies over seeds. If the "
        "interval holds 0, the seeds cannot tell the method from a second retraining: undecided, "
        "which is not the same as equal."
    ),
    SECONDS: SCORES["RTE"].reads,
    RATIO: (
        "The same as a share of what retraining took on the same machine. 0.05 is a twentieth of "
        "the cost; from 1 on, retraining is the better choice."
    ),
}
MEANINGS: Mapping[str, str] = MappingProxyType(
    {**{info.name: info.reads for info in SCORES.values()}, **_BESIDE_SCORES}
)
"""By header: what it says, and which values are good."""
