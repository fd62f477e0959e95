"""`prune` on model folders: a sparse original from scratch, or from what lies on the disk."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.request import check_names, check_share
from expunge.data.spec import DataSpec
from expunge.errors import ConfigError
from expunge.folders.store import open_papers, read_papers, save_model
from expunge.loading import loading
from expunge.models.card import check_target, check_weights_file
from expunge.models.table import check_model
from expunge.progress import Reporter, Silent
from expunge.training.recipe import Recipe

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.load import Data
    from expunge.pruning import Pruner
    from expunge.pruning.original import Criteria, Pruned


@dataclass(frozen=True)
class PrunedFolder:
    """What `prune_new` and `prune_folder` did. criteria: where they were asked for."""

    result: Pruned
    data: Data
    before: nn.Module | None
    criteria: Criteria | None = None


def prune_new(
    data: str,
    model: str,
    pruner: Pruner,
    out: str | Path,
    *,
    recipe: Recipe | None = None,
    seed: int = 0,
    validation: float = 0.1,
    split_seed: int = 0,
    criteria: str | None = None,
    forget_seed: int = 0,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    overwrite: bool = False,
) -> PrunedFolder:
    """Train a sparse original and write its folder.

    criteria: a forget request; the pruner is then judged on it, which takes more trainings.
    """
    check_target(Path(out), overwrite=overwrite)
    check_model(model)
    DataSpec.parse(data).check(data_dir)
    check_share(validation)
    if criteria:
        check_names(criteria)
    with loading():
        from expunge.data.load import load_data
        from expunge.data.split import Split
        from expunge.pruning.original import prune, pruning_criteria
        from expunge.training.session import resolve_recipe

    with (progress or Silent()).work(f"reading {data}"):
        loaded = load_data(data, data_dir=data_dir)
        split = Split.whole(loaded, validation=validation, split_seed=split_seed)
    asked = Split.parse(loaded, criteria, seed=forget_seed, base=split) if criteria else None
    recipe = resolve_recipe(recipe or Recipe(), loaded, split)
    result = prune(
        loaded,
        model,
        pruner,
        recipe=recipe,
        split=split,
        seed=seed,
        device=device,
        progress=progress,
    )
    save_model(
        result,
        out,
        data=loaded,
        architecture=model,
        data_dir=data_dir,
        seed=seed,
        split_seed=split_seed,
        overwrite=overwrite,
    )
    judged = None
    if asked is not None:
        judged = pruning_criteria(
            loaded,
            model,
            pruner,
            asked,
            recipe=recipe,
            seed=seed,
            sparse=result,
            device=device,
            progress=progress,
        )
    return PrunedFolder(result, loaded, result.dense, judged)


def prune_folder(
    path: str | Path,
    pruner: Pruner,
    out: str | Path,
    *,
    rewind: str | Path | None = None,
    rewind_epoch: int | None = None,
    sparse_recipe: Recipe | None = None,
    seed: int | None = None,
    data: str | None = None,
    data_dir: str | Path | None = None,
    device: str | None = None,
    progress: Reporter | None = None,
    overwrite: bool = False,
    allow_code: bool = False,
) -> PrunedFolder:
    """Prune the trained model of a folder, which stays as it is; write the sparse model's folder.

    rewind: a weights file of the same training at `rewind_epoch`, to go back to after each cut. Without
    it the cut weights are fine-tuned by `sparse_recipe`. seed: by default the original's.
    What earlier requests struck is not read.
    """
    check_target(Path(out), overwrite=overwrite)
    if rewind_epoch is not None and rewind is None:
        raise ConfigError("a rewinding epoch needs its weights; name them with --rewind FILE")
    if rewind is not None:
        check_weights_file(rewind)
    papers = read_papers(path, data=data, data_dir=data_dir, allow_code=allow_code)
    with loading():
        from expunge.pruning.original import prune

    loaded = open_papers(papers, progress=progress)
    result = prune(
        loaded.data,
        loaded.fresh,
        pruner,
        recipe=loaded.recipe,
        split=loaded.split.settled(),
        seed=loaded.card.seed or 0 if seed is None else seed,
        trained=loaded.model,
        rewind=_weights(loaded.model, rewind),
        rewind_epoch=rewind_epoch,
        sparse_recipe=sparse_recipe,
        mask=loaded.mask,
        device=device,
        progress=progress,
    )
    save_model(result, out, data=loaded.data, parent=loaded, data_dir=data_dir, overwrite=overwrite)
    return PrunedFolder(result, loaded.data, loaded.model)


def _weights(model: nn.Module, file: str | Path | None) -> dict[str, Tensor] | None:
    """The state that a weights file holds for this model; None without a file."""
    if file is None:
        return None
    from expunge.models.folder import load_weights

    other = copy.deepcopy(model)
    load_weights(other, file)
    return dict(other.state_dict())
