"""Centred kernel alignment: how like a retrained model's each layer's answers to the forget set are.

Kornblith et al. (ICML 2019); debiased by the estimator of Song et al. (JMLR 2012), in batches as
Nguyen, Raghu & Kornblith (ICLR 2021) take it. It is a diagnosis: a few samples moved far in the features
change it at will (Davari et al., ICLR 2023), so nothing is concluded from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.audits.base import Audit, Family, Need, without_verdict
from expunge.audits.references import some_ids, too_few, unknown
from expunge.scores.finding import NOT_MEASURABLE, Finding
from expunge.scores.info import ScoreInfo
from expunge.scores.score import Score
from expunge.scores.table import NEAR_EMPTY, SCORES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from expunge.audits.panel import Panel
    from expunge.trained.trained import Trained
    from expunge.training.run import Run

DIAGNOSIS = "a diagnosis: likeness of features is easily forged, so nothing is concluded from it"
AT_ONCE = 128
"""Samples a batch, whose features are held at once, of every layer and model."""


class Cka(Audit):
    """Likeness of the features, layer by layer, to those of the retrained models: 1 but for rotation.

    Linear CKA, debiased, on forget samples, of the outputs of linear and convolutional layers. The value
    is the mean over layers and over retrained models; the floor that of these with each other.
    """

    name: ClassVar[str] = "cka"
    info: ClassVar[tuple[ScoreInfo, ...]] = (SCORES["cka"],)
    needs: ClassVar[frozenset[Need]] = frozenset({"model", "retrained"})
    family: ClassVar[Family] = "representation"

    samples: int = Field(default=1024, ge=NEAR_EMPTY, description="forget samples, at most")
    layers: int = Field(default=12, ge=1, description="layers, at most, evenly spaced")

    def scores(self, panel: Panel) -> Iterator[Score]:
        """One score; the detail has the `layers`, and of these the `floor`."""
        import numpy as np

        (info,) = self.info
        theirs = panel.references
        if not panel.split.forget:
            return
        ids = some_ids(np.asarray(panel.split.forget), self.samples, self.name, panel.seed)
        if len(ids) < NEAR_EMPTY:
            yield unknown(info, too_few(len(ids)).why)
            return
        extra = [] if panel.original is None else [panel.original]
        models = [panel.subject, *extra, *theirs]
        names = _layers([one.model for one in models], self.layers)
        if not names:
            yield unknown(info, "the models have no layers of the same names to compare")
            return
        found = alignment(models, names, ids, panel.run)
        alive = np.isfinite(found).all(axis=(1, 2))
        if not alive.any():
            yield unknown(info, "no layer says different things of different samples")
            return
        found, names = found[alive], [names[place] for place in np.flatnonzero(alive)]
        first = 1 + len(extra)
        own = found[:, 0, first:].mean(axis=1)
        places = [(a, b) for a in range(first, len(models)) for b in range(first, a)]
        floor = [float(found[:, a, b].mean()) for a, b in places]
        detail = {"seed": panel.seed, "layers": dict(zip(names, own.tolist(), strict=True))}
        if extra:
            detail["original"] = float(found[:, 1, first:].mean())
        if floor:
            each = np.mean([found[:, a, b] for a, b in places], axis=0)
            detail["floor"] = dict(zip(names, each.tolist(), strict=True))
        yield without_verdict(
            Score(
                *(info.name, float(own.mean()), len(ids), None, None, info.unit, info.target),
                detail,
                reference=sum(floor) / len(floor) if floor else None,
                finding=Finding(NOT_MEASURABLE, DIAGNOSIS),
            )
        )


def _layers(models: Sequence[nn.Module], most: int) -> list[str]:
    """Names of linear and convolutional layers that all models have, at most so many, evenly spaced."""
    import numpy as np
    from torch import nn

    kinds = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    each = [
        [name for name, layer in model.named_modules() if isinstance(layer, kinds)]
        for model in models
    ]
    names = [name for name in each[0] if all(name in own for own in each)]
    places = np.unique(np.linspace(0, len(names) - 1, min(most, len(names))).astype(int))
    return [names[place] for place in places]


def alignment(
    models: Sequence[Trained], names: Sequence[str], ids: Sequence[str], run: Run
) -> NDArray[np.float64]:
    """Debiased linear CKA of each layer, of each two of m models: (layers, m, m), at most 1.

    names: of layers. ids: of 4 training samples or more. nan of a layer that says the same of all
    samples. The models come back as they were.
    """
    import numpy as np
    import torch

    total = torch.zeros(len(names), len(models), len(models), dtype=torch.float64)
    for piece in np.array_split(np.asarray(ids), math.ceil(len(ids) / AT_ONCE)):
        total += independence(
            torch.stack([_grams(one, names, piece.tolist(), run) for one in models], dim=1)
        )
    own = total.diagonal(dim1=1, dim2=2).clamp_min(0).sqrt()
    found: NDArray[np.float64] = (total / (own[:, :, None] * own[:, None, :])).numpy()
    return found


def independence(grams: Tensor) -> Tensor:
    """Unbiased Hilbert-Schmidt independence criterion of each two of m Gram matrices, (..., m, n, n),
    float64, symmetric, n of 4 or more: (..., m, m).
    """
    import torch

    n = grams.shape[-1]
    hollow = grams - torch.diag_embed(grams.diagonal(dim1=-2, dim2=-1))
    rows, flat = hollow.sum(dim=-1), hollow.flatten(-2)
    sums = rows.sum(dim=-1)
    products = flat @ flat.mT
    products = products + sums[..., :, None] * sums[..., None, :] / ((n - 1) * (n - 2))
    products = products - 2 / (n - 2) * (rows @ rows.mT)
    return products / (n * (n - 3))


def _grams(one: Trained, names: Sequence[str], ids: Sequence[str], run: Run) -> Tensor:
    """Inner products of what each layer says of n samples, centred: (layers, n, n), float64."""
    import torch

    from expunge.data.batch import Batch
    from expunge.data.transform import Transform
    from expunge.training.loop import evaluating

    train = one.data.train
    rows = train.rows_of(ids)
    found = torch.zeros(len(names), len(ids), len(ids), dtype=torch.float64)

    def keep(place: int, output: Tensor) -> None:
        wide = output.detach().flatten(1).double()
        wide = wide - wide.mean(dim=0)
        found[place] = (wide @ wide.mT).cpu()

    def keeping(place: int) -> Callable[[nn.Module, object, Tensor], None]:
        return lambda _, __, output: keep(place, output)

    hooks = [
        one.model.get_submodule(name).register_forward_hook(keeping(place))
        for place, name in enumerate(names)
    ]
    device = next((p.device for p in one.model.parameters()), run.device)
    one.model.to(run.device)
    try:
        with evaluating(one.model), torch.no_grad():
            inputs = Transform(one.data.normalisation)(train.store.fetch(rows, run.device))
            labels = torch.from_numpy(train.labels[rows]).to(run.device)
            run.task.observe(one.model, Batch(train.ids[rows], inputs, labels, None))
    finally:
        for hook in hooks:
            hook.remove()
        one.model.to(device)
    return found
