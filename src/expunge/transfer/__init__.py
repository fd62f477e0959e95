"""From a source model to a target task: which source classes harm it, and how well it adapts.

After section 5 of "Model Sparsity Can Simplify Machine Unlearning" (Jia et al., NeurIPS 2023): forget
the source classes that harm the target task, then adapt.
"""

from expunge.transfer.adapt import Adapted, full_finetune, linear_probe
from expunge.transfer.harm import SCORERS, class_harm, most_harmful
from expunge.transfer.head import without_head
from expunge.transfer.target import Target, as_target

__all__ = [
    "SCORERS",
    "Adapted",
    "Target",
    "as_target",
    "class_harm",
    "full_finetune",
    "linear_probe",
    "most_harmful",
    "without_head",
]
