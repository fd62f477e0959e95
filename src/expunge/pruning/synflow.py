"""SynFlow: pruning before training, without data, that conserves the flow through the layers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.errors import ConfigError
from expunge.pruning.base import Pruner

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView
    from expunge.models.mask import Mask
    from expunge.training.run import Run


class SynFlow(Pruner):
    """Cut what carries least of R = 1ᵀ ∏|θ| 1, the sum of outputs on an input of ones.

    Score |∂R/∂θ ⊙ θ| under the current mask; keep-ratio (1 - s)^(k/n) after step k of n = 100.
    Taken in evaluation mode and float64, with normalisation layers as the identity and biases 0.
    """

    name: ClassVar[str] = "synflow"
    paper: ClassVar[str] = "Tanaka et al., NeurIPS 2020"
    trained: ClassVar[bool] = False

    steps: int = Field(default=100, ge=1, description="cuts of growing sparsity, each scored anew")

    def mask(
        self,
        model: nn.Module,
        data: DataView,
        run: Run,
        *,
        sparsity: float,
        within: Mask | None = None,
    ) -> Mask:
        """Weights whose synaptic flow is largest, found in `steps` cuts."""
        import torch

        from expunge.models.mask import keep_largest, prunable

        flow = linearised(model)
        start = prunable(flow)
        mask = within or {name: torch.ones_like(p, dtype=torch.bool) for name, p in start.items()}
        kept = kept_share(mask)
        if 1 - sparsity > kept:
            return keep_largest(start, sparsity, mask)  # raises: less sparsity than there is
        where = next(iter(start.values())).device
        ones = torch.ones(1, *data.shape, dtype=torch.float64, device=where)
        room = {name: torch.empty_like(weight.detach()) for name, weight in start.items()}
        for step in range(1, self.steps + 1):
            cut = 1 - (1 - sparsity) ** (step / self.steps)
            if 1 - cut <= kept:
                mask = keep_largest(synaptic_flow(flow, ones, mask, room), cut, mask)
        return mask


def kept_share(mask: Mask) -> float:
    """Share of the weights that a mask keeps."""
    return sum(int(k.count_nonzero()) for k in mask.values()) / sum(
        k.numel() for k in mask.values()
    )


def linearised(model: nn.Module) -> nn.Module:
    """A float64 copy with |θ| for weights, 0 for biases, and normalisation left out."""
    import torch
    from torch import nn

    from expunge.models.copying import copied

    norms = (
        nn.modules.batchnorm._NormBase,
        nn.LayerNorm,
        nn.GroupNorm,
        nn.RMSNorm,
        nn.LocalResponseNorm,
    )
    flow = copied(model).eval().double().requires_grad_(True)
    for module in flow.modules():
        if isinstance(module, norms):
            module.forward = lambda inputs: inputs  # type: ignore[method-assign]
            for parameter in module.parameters(recurse=False):
                parameter.requires_grad_(False)
    with torch.no_grad():
        for name, parameter in flow.named_parameters():
            if name.rpartition(".")[2] == "bias":
                parameter.zero_()
            parameter.abs_()
    return flow


def synaptic_flow(
    flow: nn.Module, ones: Tensor, mask: Mask, out: Mapping[str, Tensor] | None = None
) -> Mapping[str, Tensor]:
    """|∂R/∂θ ⊙ θ| of each prunable weight (Tanaka et al., equation 3 and algorithm 1).

    flow: as `linearised` makes it; its weights outside the mask become 0.
    ones: (1, ...) float64. out: tensors to write the scores into. Raises ConfigError if the flow
    overflows or the model wants other inputs.
    """
    import torch

    from expunge.data.task import read_logits
    from expunge.models.mask import apply_mask, prunable

    apply_mask(flow, mask)
    weights = prunable(flow)
    try:
        outputs = flow(ones)
    except (TypeError, RuntimeError) as error:
        raise ConfigError(
            f"synflow feeds the model one tensor of ones, and it does not take that "
            f"({str(error).splitlines()[0]}); use omp or imp"
        ) from error
    total = read_logits(outputs).sum()
    if not torch.isfinite(total):
        raise ConfigError("synflow: the flow of ones overflows in this model; use omp or imp")
    gradients = torch.autograd.grad(total, list(weights.values()))
    # a gradient may be another weight's too, or expanded: the product goes elsewhere, where there is
    # room from the step before, for new memory costs more than the product
    room = out or {name: torch.empty_like(weight.detach()) for name, weight in weights.items()}
    return {
        name: torch.mul(gradient, weight.detach(), out=room[name]).abs_()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True)
    }
