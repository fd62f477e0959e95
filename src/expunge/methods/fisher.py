"""Fisher forgetting: noise where the retain set does not pin the weights down."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ModelError
from expunge.methods.base import Method, check_weights

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.view import DataView
    from expunge.training.run import Run

SMALLEST = 1e-8
"""Added to F in the released variant."""
LARGEST, LARGEST_LAST = 1e3, 1e2
"""Ceilings of 1 / F in the released variant; the second for the last layer."""
CLASS_ROW_VARIANCE = 1e-4
NOISE = 64
"""Inputs of noise on which it is looked at whether a layer gives the logits."""
ZEROES = "sets a class's row of the last layer to 0"
"""What is done to rows of the last layer, for errors."""
MORE_NOISE = 10.0
"""Factor of the variance in the last layer and in parameters of one dimension."""


class Fisher(Method):
    """FF: Gaussian noise on every weight, larger where the retain set's Fisher information is small.

    F is the per-sample diagonal over the model's own predictions,
    E_x sum_y p(y|x) (d loss_y)^2, exact over all classes or with one sampled label.

    variant "theory": standard deviation sigma F^(-1/4), F at least `floor`. variant "released" is the
    authors' program: variance alpha min(1 / (F + 1e-8), 1000; 100 in the last layer), averaged over
    the second axis; where whole classes are forgotten, their row and bias of the last layer get mean
    0 and variance 1e-4; then ten times the variance in the last layer and in parameters of one
    dimension. Published alpha: 1e-9 to 1e-6, tuned.

    Deviations: pruned weights get no noise and do not count in that average.

    Equation: theta + N(0, alpha / F), F the retain set's Fisher information by weight.

    Cost: one pass over the retain set with per-sample gradients of every class; dear with many
    classes.

    Use it when forgetting by noise is what is asked for, as a yardstick of the literature.

    Avoid it when accuracy counts: noise strong enough to forget random samples ruins the model.
    """

    name: ClassVar[str] = "fisher"
    paper: ClassVar[str] = "Golatkar et al., CVPR 2020; settings of Jia et al., NeurIPS 2023"
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET_LABELS
    needs_classes: ClassVar[bool] = True
    trains: ClassVar[bool] = False
    diverges: ClassVar[Mapping[str, object]] = {"alpha": 1e12}

    variant: Literal["released", "theory"] = Field(
        default="released", description="the authors' program, or the paper's equation"
    )
    alpha: float = Field(default=3e-8, gt=0, description="scale of the released variance; tune it")
    sigma: float = Field(default=1e-3, gt=0, description="scale of the theory's deviation; tune it")
    floor: float = Field(default=1e-8, gt=0, description="smallest F of the theory")
    labels: Literal["all", "sampled"] = Field(
        default="all", description="all classes exactly, or one label drawn from each prediction"
    )
    batch_size: int = Field(default=256, ge=1, description="samples a pass")

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch

        from expunge.names.seeds import torch_generator
        from expunge.per_sample import fisher_diagonal

        source = data.source(Part.RETAIN)
        batches = source.batches(self.batch_size, shuffle=False, augment=False)
        with run.progress.work(run.label):
            fisher = fisher_diagonal(model, batches, run, labels=self.labels, mask=run.mask)
        struck = torch.unique(data.forget_labels())
        gone = struck[~torch.isin(struck, source.labels)]
        last = last_layer(model, len(data.classes))
        if self.variant == "released" and len(gone):
            check_gives_logits(model, last, gone, data, run, "use variant 'theory'")
        generator = torch_generator(*run.names, "noise")
        with torch.no_grad(), check_weights(model, run, "lower alpha or sigma"):
            for name, parameter in model.named_parameters():
                if name not in fisher:
                    continue
                mask = (run.mask or {}).get(name)
                if self.variant == "theory":
                    variance = theory_variance(fisher[name], self.sigma, self.floor)
                else:
                    variance = released_variance(
                        fisher[name], self.alpha, mask=mask, last=name in last
                    )
                    if name in last:
                        parameter[gone] = 0.0
                        variance[gone] = MORE_NOISE * CLASS_ROW_VARIANCE
                noise = torch.randn(parameter.shape, generator=generator).to(parameter)
                parameter.add_(
                    variance.sqrt() * noise * (1 if mask is None else mask.to(noise.device))
                )
        return model


def theory_variance(fisher: Tensor, sigma: float, floor: float) -> Tensor:
    """sigma^2 F^(-1/2): the square of Golatkar et al.'s standard deviation, F at least `floor`."""
    return sigma**2 * fisher.clamp(min=floor).rsqrt()


def released_variance(
    fisher: Tensor, alpha: float, *, mask: Tensor | None = None, last: bool = False
) -> Tensor:
    """The released program's variance of each weight, without its rule for class rows.

    fisher: diagonal of one parameter, >= 0. mask: its kept weights. last: of the last layer.
    """
    import torch

    variance = alpha * (1 / (fisher + SMALLEST)).clamp(max=LARGEST_LAST if last else LARGEST)
    if fisher.ndim > 1:
        kept = torch.ones_like(variance) if mask is None else mask.to(variance)
        mean = (variance * kept).sum(dim=1, keepdim=True) / kept.sum(dim=1, keepdim=True).clamp(
            min=1
        )
        variance = mean.expand_as(variance).clone()
    return variance * MORE_NOISE if last or fisher.ndim == 1 else variance


def last_layer(model: nn.Module, classes: int) -> set[str]:
    """Names of weight and bias of the last linear or convolutional layer with one row per class."""
    from torch import nn

    found: set[str] = set()
    for name, module in model.named_modules():
        rows = isinstance(module, nn.Linear | nn.modules.conv._ConvNd) and len(module.weight)
        if rows == classes:
            prefix = f"{name}." if name else ""
            found = {prefix + each for each, _ in module.named_parameters(recurse=False)}
    return found


def logit_rows(
    model: nn.Module, gone: Tensor, data: DataView, run: Run, does: str, remedy: str
) -> set[str]:
    """Names of the weight and bias that give the logits, for a method that changes their rows.

    gone: classes. does: what is done to the rows, and remedy: what to do instead, for errors. Raises
    ModelError where no layer has a row for each class, it is frozen or shared, or does not give the
    logits.
    """
    parameters = dict(model.named_parameters(remove_duplicate=False))
    names = last_layer(model, len(data.classes))
    places = Counter(id(p) for one in model.modules() for p in one.parameters(recurse=False))
    shared = [name for name in sorted(names) if places[id(parameters[name])] > 1]
    if shared:
        raise ModelError(
            f"{run.label} {does}, and {shared[0]!r} is also the weight of another layer, which would "
            f"change with it; {remedy}"
        )
    if not any(parameters[name].ndim > 1 for name in names):
        raise ModelError(
            f"{run.label} {does}, and no linear or convolutional layer of the model has a row for each "
            f"of the {len(data.classes)} classes; {remedy}"
        )
    frozen = [name for name in sorted(names) if not parameters[name].requires_grad]
    if frozen:
        raise ModelError(f"{run.label} {does}, and {frozen[0]!r} is frozen; thaw it, or {remedy}")
    check_gives_logits(model, names, gone, data, run, remedy, does)
    return names


def check_gives_logits(
    model: nn.Module,
    names: set[str],
    gone: Tensor,
    data: DataView,
    run: Run,
    remedy: str,
    does: str = ZEROES,
) -> None:
    """Raise ModelError where rows of the layer that `last_layer` found are not those of the logits.

    names: of its parameters. gone: classes. On noise as input, with these rows of a copy set to 0, what
    the model says of the other classes beside each other must stay as it was, be it logits or logarithms
    of probabilities. Inputs whose shape is known only by reading one are taken on trust.
    """
    import torch

    from expunge.data.task import logits_of_task
    from expunge.models.copying import copied
    from expunge.training.loop import evaluating
    from expunge.training.session import blank_batch

    kept = torch.ones(len(data.classes), dtype=torch.bool, device=gone.device)
    kept[gone] = False
    batch = blank_batch(data, NOISE, noise=True)
    if batch is None or not names or not kept.any():
        return

    def beside_each_other(one: nn.Module) -> Tensor:
        own = logits_of_task(run.task.observe(one, batch))
        return own - own[:, kept][:, :1]

    twin = copied(model)
    with run.only_reported(), evaluating(twin), torch.no_grad():
        before = beside_each_other(twin)
        rows = [parameter for name, parameter in twin.named_parameters() if name in names]
        blank = not any(bool(parameter[gone].any()) for parameter in rows)
        for parameter in rows:
            parameter[gone] = 0.0
        after = beside_each_other(twin)
    # a hidden row that nothing passes through changes nothing at all
    moved = blank or not torch.equal(after[:, gone], before[:, gone])
    if not moved or not torch.allclose(after[:, kept], before[:, kept], rtol=1e-4, atol=1e-4):
        raise ModelError(
            f"{run.label} {does}, and {min(names)!r}, the last one with a row for each class, does not "
            f"give the logits; {remedy}"
        )
