"""`prune` and `diagnose sparsity`: sparse originals, and what theory says of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.cli.arguments import read_floats, read_pairs, read_recipe, recipe_changes
from expunge.cli.options import (
    BatchSizeOption,
    DataOption,
    EpochsOption,
    Forget,
    ForgetSeed,
    Out,
    RateOption,
    RecipeFile,
    Seed,
    SetFields,
    SplitSeed,
    Validation,
    next_step,
    show_accuracy,
)
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.cli.show import cost_line, criteria_lines, sparsity_table, theory_table
from expunge.errors import ConfigError
from expunge.names.code import TYPED
from expunge.place import Place
from expunge.report.places import check_folder

if TYPE_CHECKING:
    from expunge.folders.sparse import PrunedFolder

ModelDir = Annotated[
    Path | None,
    typer.Argument(metavar="MODEL_DIR", help="A trained folder; else --data and --model."),
]
AnyData = Annotated[str | None, typer.Option("--data", help="Data: see `expunge list datasets`.")]
AnyModel = Annotated[str | None, typer.Option("--model", help="See `expunge list models`.")]
PrunerName = Annotated[str, typer.Option("--pruner", help="See `expunge list pruners`.")]
Share = Annotated[float, typer.Option("--sparsity", help="Share of the prunable weights to cut.")]
PrunerSettings = Annotated[
    list[str] | None,
    typer.Option("--set-pruner", help="A setting of the pruner, key=value; again for more."),
]
Rewind = Annotated[
    Path | None,
    typer.Option(
        "--rewind", help="Weights of an early epoch to go back to, for MODEL_DIR; else fine-tune."
    ),
]
RewindEpoch = Annotated[
    int | None, typer.Option("--rewind-epoch", help="Which epoch these weights are of.")
]
Judge = Annotated[
    str | None,
    typer.Option(
        "--criteria",
        help="Also judge the pruner on a forget request (random:0.1, class:3, ...): train a dense model "
        "too, and find a second mask without these samples.",
    ),
]
AnySeed = Annotated[
    int | None, typer.Option("--seed", help="Seed of this run; else 0, or the folder's.")
]


@placed("data_dir", "device", "overwrite", "allow_code")
def prune(
    out: Out,
    model_dir: ModelDir = None,
    data: AnyData = None,
    model: AnyModel = None,
    pruner: PrunerName = "omp",
    sparsity: Share = 0.95,
    pruner_settings: PrunerSettings = None,
    rewind: Rewind = None,
    rewind_epoch: RewindEpoch = None,
    criteria: Judge = None,
    forget_seed: ForgetSeed = 0,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    batch_size: BatchSizeOption = None,
    recipe: RecipeFile = None,
    settings: SetFields = None,
    seed: AnySeed = None,
    validation: Validation = 0.1,
    split_seed: SplitSeed = 0,
    *,
    place: Place,
) -> None:
    """Make a sparse original: train, cut, rewind, train again. Unlearning keeps its mask."""
    from expunge.folders.make import HeldOut
    from expunge.folders.sparse import prune_folder, prune_new
    from expunge.pruning import make_pruner

    screen, _ = consoles()
    chosen = make_pruner(
        pruner, {"sparsity": sparsity, **read_pairs(pruner_settings)}, allow_code=TYPED
    )
    changes = recipe_changes(epochs, lr, batch_size, settings)
    own = read_recipe(recipe, changes)
    if model_dir is None:
        if data is None or model is None:
            raise ConfigError("say what to prune: a MODEL_DIR, or --data and --model to train")
        if rewind is not None or rewind_epoch is not None:
            raise ConfigError("--rewind is for a MODEL_DIR; else use --set-pruner rewind_epoch=N")
        with working("prune") as bars:
            done = prune_new(
                data,
                model,
                chosen,
                out,
                recipe=own,
                seed=seed or 0,
                held=HeldOut(validation, split_seed),
                criteria=criteria,
                forget_seed=forget_seed,
                place=replace(place, progress=bars),
            )
    else:
        if model is not None or criteria is not None:
            raise ConfigError("--model and --criteria train from scratch; leave MODEL_DIR out")
        tuning = own if recipe else _fine_tuning(changes) if changes else None
        with working("prune") as bars:
            done = prune_folder(
                model_dir,
                chosen,
                out,
                rewind=rewind,
                rewind_epoch=rewind_epoch,
                recipe=tuning,
                seed=seed,
                data=data,
                place=replace(place, progress=bars),
            )
    _show(done, place)
    next_step(screen, out, done.result)


def _fine_tuning(changes: dict[str, Any]) -> Any:
    """The usual fine-tuning with what was typed changed."""
    from expunge.pruning.base import FINE_TUNING
    from expunge.training.recipe import Recipe

    return Recipe(**{**FINE_TUNING, **changes})


def _show(done: PrunedFolder, place: Place) -> None:
    """Sparsity by layer, how the mask came about, and accuracy before and after."""
    screen, _ = consoles()
    result, log = done.result, done.result.record.log
    screen.print(sparsity_table(log))
    screen.print(f"training under the mask began from {log['start']}")
    saw = "has seen the training data, so also the samples of any later request"
    screen.print(
        f"the mask {saw if log['saw_data'] else 'has seen no data'}; found in "
        f"{log['seconds_to_mask']:.1f} s",
    )
    if done.before is not None:
        show_accuracy(screen, done.before, result.data, place, "before pruning: ")
    show_accuracy(screen, result.model, result.data, place, "sparse: ")
    for line in criteria_lines(done.criteria) if done.criteria else ():
        screen.print(line)
    screen.print(cost_line(result.record.cost))


MethodName = Annotated[
    str, typer.Option("--method", help="What forgets: see `expunge list methods`.")
]
MethodSettings = Annotated[
    list[str] | None,
    typer.Option("--set-method", help="A setting of the method, key=value; again for more."),
]
Sparsities = Annotated[
    str, typer.Option("--sparsities", help="Shares of weights to cut, comma-separated, 0 first.")
]


@placed("data_dir", "device", "overwrite")
def diagnose(
    data: DataOption,
    out: Out,
    forget: Forget,
    model: AnyModel = "cnn",
    pruner: PrunerName = "omp",
    sparsities: Sparsities = "0,0.5,0.75,0.9,0.95,0.99",
    method: MethodName = "gradient_ascent",
    method_settings: MethodSettings = None,
    epochs: EpochsOption = None,
    lr: RateOption = None,
    batch_size: BatchSizeOption = None,
    recipe: RecipeFile = None,
    settings: SetFields = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    validation: Validation = 0.1,
    split_seed: SplitSeed = 0,
    *,
    place: Place,
) -> None:
    """Does the error of gradient ascent fall with sparsity as its bound says? Table and figure.

    Trains one dense and several sparse models by plain SGD (constant rate, no momentum unless set),
    as the proposition assumes, a paired retraining of each, and each once more for its floor.
    """
    from expunge.data.request import check_names, check_share
    from expunge.data.spec import DataSpec
    from expunge.methods import make_method
    from expunge.models.table import check_model
    from expunge.pruning import make_pruner
    from expunge.pruning.base import sparsity_levels

    screen, _ = consoles()
    shares = read_floats(sparsities, "--sparsities")
    changes = {"momentum": 0.0} if recipe is None else {}
    chosen = read_recipe(recipe, changes | recipe_changes(epochs, lr, batch_size, settings))
    check_folder(out, overwrite=place.overwrite)
    check_model(model or "cnn", allow_code=TYPED)
    DataSpec.parse(data).check(place.data_dir, allow_code=TYPED)
    check_share(validation)
    check_names(forget)
    forgetting = make_method(method, read_pairs(method_settings), allow_code=TYPED)
    make_pruner(pruner, allow_code=TYPED)
    sparsity_levels(shares or ())
    with working("diagnose sparsity") as bars:
        from expunge.data.load import load_data
        from expunge.data.split import Split
        from expunge.report.theory import theory_notes, write_theory
        from expunge.theory.sparsity import diagnose_sparsity

        with bars.work(f"reading {data}"):
            loaded = load_data(data, data_dir=place.data_dir, allow_code=TYPED)
        whole = Split.whole(loaded, validation=validation, split_seed=split_seed)
        split = Split.parse(loaded, forget, seed=forget_seed, base=whole)
        frame = diagnose_sparsity(
            loaded,
            model or "cnn",
            split,
            sparsities=shares or (),
            pruner=pruner,
            recipe=chosen,
            method=forgetting,
            seed=seed,
            place=replace(place, progress=bars),
            allow_code=TYPED,
        )
    written = write_theory(frame, out, overwrite=place.overwrite)
    screen.print(theory_table(frame, screen.width))
    for sentence in theory_notes(frame):
        screen.print(f"• {sentence}")
    screen.print(f"{frame['seconds'].sum():.0f} s. Written: {', '.join(map(str, written))}")
