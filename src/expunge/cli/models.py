"""`train` and `import`: original models."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from expunge.cli.arguments import read_floats, read_recipe
from expunge.cli.options import (
    BatchSize,
    Data,
    DataDir,
    Device,
    Epochs,
    Out,
    Overwrite,
    Rate,
    RecipeFile,
    Seed,
    Settings,
    SplitSeed,
    Validation,
    next_step,
    recipe_changes,
    show_accuracy,
)
from expunge.cli.screen import consoles, working
from expunge.cli.show import cost_line
from expunge.folders.make import import_folder, train_folder


def train(
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option("--model", help="See `expunge list models`.")] = "resnet18",
    epochs: Epochs = None,
    lr: Rate = None,
    batch_size: BatchSize = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    seed: Seed = 0,
    validation: Validation = 0.1,
    split_seed: SplitSeed = 0,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an original model and write its folder."""
    screen, _ = consoles()
    changes = recipe_changes(epochs, lr, batch_size, settings)
    with working("train") as bars:
        result, loaded = train_folder(
            data,
            model,
            out,
            recipe=read_recipe(recipe, changes),
            seed=seed,
            validation=validation,
            split_seed=split_seed,
            data_dir=data_dir,
            device=device,
            progress=bars,
            overwrite=overwrite,
        )
    losses = result.record.log["losses"]
    screen.print(
        f"trained {model} on {len(result.split.retain):,} samples of {data}: loss "
        f"{losses[0]:.3f} to {losses[-1]:.3f}",
        markup=False,
    )
    show_accuracy(screen, result.model, loaded, device)
    screen.print(cost_line(result.record.cost), markup=False)
    next_step(
        screen,
        out,
        f"expunge unlearn {out} --forget random:0.1 --method finetune "
        f"--with-reference --out {out}-forgot",
    )


def import_(
    model: Annotated[
        str, typer.Option("--model", help="An architecture, or module:function of yours.")
    ],
    weights: Annotated[
        Path, typer.Option("--weights", help="A .safetensors file, or a state dict by torch.save.")
    ],
    data: Data,
    out: Out,
    recipe: RecipeFile = None,
    trained_on: Annotated[
        str | None, typer.Option("--trained-on", help="ids:FILE of what it learned from; else all.")
    ] = None,
    validation: Annotated[
        str | None, typer.Option("--validation", help="ids:FILE of validation samples; else none.")
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="Normalisation it was trained with, per channel.")
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="Likewise; both in units of 0 to 1.")
    ] = None,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Make a model folder of a checkpoint that was trained elsewhere."""
    screen, _ = consoles()
    with working("import"):
        result, loaded = import_folder(
            model,
            weights,
            data,
            out,
            recipe=read_recipe(recipe, {}) if recipe else None,
            trained_on=trained_on,
            validation=validation,
            mean=read_floats(mean, "--mean"),
            std=read_floats(std, "--std"),
            data_dir=data_dir,
            overwrite=overwrite,
        )
    screen.print(
        f"imported {weights} as {model}: learned from {len(result.split.retain):,} samples",
        markup=False,
    )
    show_accuracy(screen, result.model, loaded, device)
    if mean is None:
        screen.print(
            "if that is less than it should be, say how inputs were normalised: --mean, --std"
        )
    if recipe is None:
        screen.print("without --recipe there is no retrained reference for this model")
    next_step(
        screen, out, f"expunge unlearn {out} --forget ids:FILE --method finetune --out {out}-forgot"
    )
