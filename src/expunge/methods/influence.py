"""Influence unlearning: one Newton step from all the data to the data that stay."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from expunge.data.parts import Part
from expunge.methods.base import Method, check_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView, Source, Stream
    from expunge.per_sample.curvature import Solved
    from expunge.training.run import Run

LOOSE = 1e-2
"""A relative residual above this is worth a warning."""


class Influence(Method):
    """IU: theta + alpha (C + damping I)⁻¹ v, with v the change of the gradient that forgetting makes.

    v = (1/N) sum_forget grad - N_f / (N N_r) sum_retain grad, the sums over all of both sets
    (Jia et al., proposition 1): it climbs on the forget set, and it descends on the retain set. C is
    the empirical Fisher matrix of `samples` retain samples, solved exactly in sample space (an n x n
    matrix) or by conjugate gradients, or their Hessian. Evaluation mode, no augmentation; pruned
    weights stay out of every product.

    The published alpha of 1 to 100 was tuned for a recursion that never recomputes its inverse
    product, and does not carry over: tune alpha and damping on a seed that is not reported. The
    record has the largest eigenvalue of C, whose computing is no cost: far below the damping, the step
    is alpha / damping times v, one step of gradient, and nothing more.

    With alpha 1 and C the Hessian H of the retain set this is Newton's step to the retrained model
    where damping equals the weight decay w of the training. For with decay the original is stationary
    in its loss plus w |theta|² / 2, so that the mean gradient over all samples is -w theta there. The
    retrained model's objective has the gradient g_r + w theta = g_r - g = -v at the original, and the
    Hessian H + w I: the step is (H + w I)⁻¹ v. On ridge regression it is exact; without that damping
    it overshoots.

    Equation: theta + alpha (C + damping I)⁻¹ v, v = (1/N) sum_f grad - N_f / (N N_r) sum_r grad.

    Cost: one pass over both sets and a solve; no training.

    Use it when the forget set is small and the model near a minimum; linear models and last layers
    most of all.

    Avoid it when a whole class must go: a first-order step does not reach so far.
    """

    name: ClassVar[str] = "influence"
    paper: ClassVar[str] = "Izzo et al., AISTATS 2021; Jia et al., NeurIPS 2023, proposition 1"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    trains: ClassVar[bool] = False
    diverges: ClassVar[Mapping[str, object]] = {"alpha": 1e12}

    alpha: float = Field(default=1.0, gt=0, description="length of the step; 1 is the Newton step")
    damping: float = Field(default=1.0, ge=0, description="added to the curvature; tune it")
    samples: int = Field(default=1000, ge=1, description="retain samples of the curvature")
    curvature: Literal["fisher", "hessian"] = Field(
        default="fisher", description="empirical Fisher matrix, or the Hessian of the loss"
    )
    solver: Literal["auto", "gram", "cg"] = Field(
        default="auto",
        description="gram: exact, in sample space; cg: conjugate gradients; auto: gram where it can",
    )
    iterations: int = Field(default=200, ge=1, description="of conjugate gradients, at most")
    tolerance: float = Field(default=1e-6, gt=0, description="of their residual, relative")
    batch_size: int = Field(default=256, ge=1, description="samples a pass")

    @model_validator(mode="after")
    def _consistent(self) -> Influence:
        if self.solver == "gram" and self.curvature == "hessian":
            raise ValueError("solver 'gram' is for curvature 'fisher'; use solver 'cg' or 'auto'")
        if self.solver == "gram" and self.damping == 0:
            raise ValueError("solver 'gram' divides by the damping; set it above 0")
        return self

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import numpy as np
        import torch

        from expunge.per_sample import weighted_gradient

        struck, retain = data.source(Part.FORGET), data.source(Part.RETAIN)
        part = data.take(Part.RETAIN, self.samples)
        direct = self._direct(run)
        # solved directly, these samples' share of the sum comes out of their Gram matrix
        summed = replace(retain, rows=np.setdiff1d(retain.rows, part.rows)) if direct else retain
        with run.progress.work(f"{run.label}, gradients"):
            forget = weighted_gradient(model, self._all(struck), run)
            kept = weighted_gradient(model, self._all(summed), run)
        total = len(struck) + len(retain)
        share = len(struck) / (total * len(retain))
        v = {name: forget[name] / total - kept[name] * share for name in forget}
        with run.progress.work(f"{run.label}, solving"):
            solved = self._solve(model, self._all(part), run, v, own=-share if direct else None)
        run.log["top_eigenvalue"] = solved.top_eigenvalue
        if solved.residual is not None:
            run.log["residual"], run.log["products"] = solved.residual, solved.iterations
            _check_residual(solved, run)
        with torch.no_grad(), check_weights(model, run, "raise damping or lower alpha"):
            for name, parameter in model.named_parameters():
                if name in solved.x:
                    parameter.add_(solved.x[name], alpha=self.alpha)
        return model

    def _direct(self, run: Run) -> bool:
        """Whether the solve is exact, in sample space."""
        can = self.solver != "cg" and self.damping > 0 and run.world == 1
        return self.curvature == "fisher" and (can or self.solver == "gram")

    def _solve(
        self,
        model: nn.Module,
        batches: Stream,
        run: Run,
        v: Mapping[str, Tensor],
        own: float | None,
    ) -> Solved:
        """(C + damping I)⁻¹ v on a seeded part of the retain set.

        own: for the direct solve, what v still lacks: so many times the sum of that part's gradients.
        """
        from expunge.per_sample import curvature

        if own is not None:
            return curvature.solve_in_sample_space(
                model, batches, run, v, damping=self.damping, own=own, mask=run.mask
            )
        fisher = self.curvature == "fisher"
        product = curvature.fisher_product if fisher else curvature.hessian_product
        return curvature.solve_by_conjugate_gradients(
            lambda p: product(model, batches, run, p),
            v,
            run,
            damping=self.damping,
            mask=run.mask,
            tolerance=self.tolerance,
            iterations=self.iterations,
        )

    def _all(self, source: Source) -> Stream:
        return source.batches(self.batch_size, shuffle=False, augment=False)


def _check_residual(solved: Solved, run: Run) -> None:
    """Warn of a loose solution: it is not the Newton step."""
    residual = solved.residual or 0.0
    if not residual <= LOOSE:
        run.log.setdefault("warnings", []).append(
            f"{run.label}: conjugate gradients left a residual of {residual:.2g} of the right side "
            f"after {solved.iterations} products, so this is not the Newton step; raise iterations, "
            "or damping, which must outweigh negative eigenvalues"
        )
