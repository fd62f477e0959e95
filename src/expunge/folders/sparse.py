"""`prune` on model folders: a sparse original from scratch, or from what lies on the disk."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.data.request import check_names, check_share
from expunge.errors import ConfigError
from expunge.folders.make import HeldOut, check_source, load_held
from expunge.loading import loading
from expunge.methods.taking_part import check_prunes
from expunge.models.checkpoint import check_weights_file
from expunge.names.code import TYPED
from expunge.place import HERE, Place
from expunge.trained.card import check_room, check_target
from expunge.trained.opening import open_papers
from expunge.trained.papers import read_papers

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.pruning import Pruner
    from expunge.pruning.criteria import Criteria
    from expunge.trained.trained import Trained
    from expunge.training.recipe import Recipe


@dataclass(frozen=True)
class PrunedFolder:
    """What `prune_new` and `prune_folder` did. criteria: where they were asked for."""

    result: Trained
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
    held: HeldOut = HeldOut(),
    criteria: str | None = None,
    forget_seed: int = 0,
    place: Place = HERE,
) -> PrunedFolder:
    """Train a sparse original and write its folder.

    criteria: a forget request; the pruner is then judged on it, which takes more trainings.
    """
    check_target(Path(out), overwrite=place.overwrite)
    check_source(data, model, place)
    check_share(held.share)
    if criteria:
        check_names(criteria)
    with loading():
        from expunge.api import train
        from expunge.data.split import Split
        from expunge.pruning.criteria import pruning_criteria
        from expunge.trained.trained import keep_together

    loaded, split = load_held(data, held, None, place)
    # the request is looked at before anything is trained
    asked = Split.parse(loaded, criteria, seed=forget_seed, base=split) if criteria else None
    common: dict[str, Any] = {"split": split, "seed": seed, "place": place, "allow_code": TYPED}
    made = train(loaded, model, recipe=recipe, pruner=pruner, **common)
    sparse = replace(made, split_seed=held.seed)
    (sparse,) = keep_together([(sparse, Path(out))], overwrite=place.overwrite)
    dense = getattr(made, "dense", None)
    if asked is None:
        return PrunedFolder(sparse, dense)
    original = train(loaded, model, recipe=made.recipe, **common)
    return PrunedFolder(
        sparse, dense, pruning_criteria(sparse, original, pruner, asked, place=place)
    )


def prune_folder(
    path: str | Path,
    pruner: Pruner,
    out: str | Path,
    *,
    rewind: str | Path | None = None,
    rewind_epoch: int | None = None,
    recipe: Recipe | None = None,
    seed: int | None = None,
    data: str | None = None,
    place: Place = HERE,
) -> PrunedFolder:
    """Prune the trained model of a folder, which stays as it is; write the sparse model's folder.

    rewind: a weights file of the same training at `rewind_epoch`, to go back to after each cut. Without
    it the cut weights are fine-tuned by `recipe`. seed: by default the original's.
    What earlier requests struck is not read.
    """
    check_target(Path(out), overwrite=place.overwrite)
    check_room(Path(out), Path(path))
    if rewind_epoch is not None and rewind is None:
        raise ConfigError("a rewinding epoch needs its weights; name them with --rewind FILE")
    if rewind is not None:
        check_weights_file(rewind)
    papers = read_papers(path, data=data, place=place)
    check_prunes(papers.trained_by, str(path))
    with loading():
        from expunge.pruning.original import prune
        from expunge.trained.trained import keep_together

    original = open_papers(papers, progress=place.progress)
    original = original.redacting() if original.redacted else original
    result = prune(
        original,
        pruner,
        recipe=recipe,
        rewind=_weights(original.model, rewind),
        rewind_epoch=rewind_epoch,
        seed=seed,
        place=place,
        allow_code=TYPED,
    )
    (kept,) = keep_together([(result, Path(out))], overwrite=place.overwrite)
    return PrunedFolder(kept, original.model)


def _weights(model: nn.Module, file: str | Path | None) -> dict[str, Tensor] | None:
    """The state that a weights file holds for this model; None without a file."""
    if file is None:
        return None
    from expunge.models.checkpoint import load_weights
    from expunge.models.copying import copied

    other = copied(model)
    load_weights(other, file)
    return dict(other.state_dict())
