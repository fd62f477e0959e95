"""`train` and `import`: original models."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.arguments import read_floats, read_recipe
from expunge.cli.options import (
    BatchSizeOption,
    DataOption,
    EpochsOption,
    Out,
    RateOption,
    RecipeFile,
    Seed,
    SetFields,
    SplitSeed,
    TaskName,
    Validation,
    next_step,
    recipe_changes,
    show_accuracy,
)
from expunge.cli.place import placed
from expunge.cli.screen import consoles, working
from expunge.cli.show import cost_line
from expunge.folders.make import Elsewhere, HeldOut, import_folder, train_folder
from expunge.names.libraries import library_of
from expunge.place import Place

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.trained.trained import Trained


@placed("data_dir", "device", "overwrite")
def train(
    data: DataOption,
    out: Out,
    model: Annotated[str, typer.Option("--model", help="See `expunge list models`.")] = "resnet18",
    epochs: EpochsOption = None,
    lr: RateOption = None,
    batch_size: BatchSizeOption = None,
    recipe: RecipeFile = None,
    settings: SetFields = None,
    seed: Seed = 0,
    validation: Validation = 0.1,
    split_seed: SplitSeed = 0,
    task: TaskName = None,
    *,
    place: Place,
) -> None:
    """Train an original model and write its folder."""
    screen, _ = consoles()
    changes = recipe_changes(epochs, lr, batch_size, settings)
    with working("train") as bars:
        trained = train_folder(
            data,
            model,
            out,
            recipe=read_recipe(recipe, changes),
            seed=seed,
            held=HeldOut(validation, split_seed),
            task=task,
            place=replace(place, progress=bars),
        )
    losses = trained.record.log["losses"]
    screen.print(
        f"trained {model} on {len(trained.split.retain):,} samples of {data}: loss "
        f"{losses[0]:.3f} to {losses[-1]:.3f}",
    )
    _show_warnings(screen, trained)
    show_accuracy(screen, trained.model, trained.data, place)
    screen.print(cost_line(trained.record.cost))
    next_step(screen, out, "random:0.1", "--with-reference")


def _show_warnings(screen: Console, made: Trained) -> None:
    for line in made.record.warnings:
        screen.print(line, soft_wrap=True)


@placed("data_dir", "device", "overwrite")
def import_(
    model: Annotated[
        str,
        typer.Option("--model", help="An architecture, hf:FOLDER, or module:function of yours."),
    ],
    data: DataOption,
    out: Out,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights",
            help="A .safetensors file, or a state dict by torch.save; of hf:FOLDER its own.",
            show_default=False,
        ),
    ] = None,
    recipe: RecipeFile = None,
    trained_on: Annotated[
        str | None, typer.Option("--trained-on", help="ids:FILE of what it learned from; else all.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option("--validation", help="ids:FILE of validation samples; else none.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", help="Mean of the normalisation it was trained with, per channel."),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option("--std", help="Standard deviation, likewise; both for inputs from 0 to 1."),
    ] = None,
    task: TaskName = None,
    *,
    place: Place,
) -> None:
    """Make a model folder of a checkpoint that was trained elsewhere."""
    screen, _ = consoles()
    how = Elsewhere(
        trained_on,
        validation,
        read_floats(mean, "--mean"),
        read_floats(std, "--std"),
        read_recipe(recipe, {}) if recipe else None,
    )
    with working("import") as bars:
        adopted = import_folder(
            model, weights, data, out, how=how, task=task, place=replace(place, progress=bars)
        )
    screen.print(
        f"imported {f'{weights} as {model}' if weights else model}: learned from "
        f"{len(adopted.split.retain):,} samples",
    )
    _show_warnings(screen, adopted)
    show_accuracy(screen, adopted.model, adopted.data, place)
    if mean is None and adopted.data.normalisation is None and library_of(model) != "hf":
        screen.print(
            "if that is less than it should be, say how inputs were normalised: --mean, --std"
        )
    if recipe is None:
        screen.print("without --recipe there is no retrained reference for this model")
    next_step(screen, out, "ids:FILE")
