"""Of the states of a training, the one as wrong on the forget set as on samples never seen."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from expunge.data.view import PartSource
from expunge.methods.shared.unseen import Unseen, share_right
from expunge.training.run import Run


@dataclass
class EpochStates:
    """Keeps the state after each epoch, buffers too, on the processor, and its error on the forget set.

    unseen: what that error should be near to. size: samples a batch where errors are measured.
    """

    unseen: Unseen
    forget: PartSource
    run: Run
    size: int
    states: list[dict[str, Tensor]] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)

    def keep(self, model: nn.Module, epoch: int) -> None:
        """Keep the model as it is after an epoch."""
        state = {name: value.detach().cpu().clone() for name, value in model.state_dict().items()}
        self.states.append(state)
        self.errors.append(1 - share_right(model, self.forget, self.run, self.size))

    def load_best(self, model: nn.Module) -> None:
        """Load the state, the first of several, whose error is nearest to the last one's on `unseen`.

        The record has the errors in [0, 1] and the epoch, counted from 1.
        """
        wanted = 1 - self.unseen.right(model, self.run, self.size)
        best = min(range(len(self.states)), key=lambda epoch: abs(self.errors[epoch] - wanted))
        model.load_state_dict(self.states[best])
        self.run.log["forget_errors"] = self.errors
        self.run.log["validation_error"] = wanted
        self.run.log["rewound_to_epoch"] = best + 1
