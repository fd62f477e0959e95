"""`train`, `import` and `export`: original models, and a way back to plain checkpoints."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from expunge.cli.arguments import read_floats, read_pairs, read_recipe, recipe_changes
from expunge.cli.options import (
    MODEL_DIR,
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
    show_accuracy,
    show_notes,
)
from expunge.cli.place import placed
from expunge.cli.screen import at_once, consoles, working
from expunge.cli.show import cost_line
from expunge.errors import SHOWN, listed
from expunge.names.code import TYPED
from expunge.names.libraries import library_of
from expunge.names.text import clean_name
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.folders.elsewhere import Imported


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
    method: Annotated[
        str | None,
        typer.Option(
            "--method",
            help="One that takes part in training (sisa, certified_head): it can forget from the folder "
            "later. --set is then of it; the recipe is of --recipe, --epochs, --lr, --batch-size.",
        ),
    ] = None,
    seed: Seed = 0,
    validation: Validation = 0.1,
    split_seed: SplitSeed = 0,
    task: TaskName = None,
    *,
    place: Place,
) -> None:
    """Train an original model and write its folder."""
    from expunge.folders.make import HeldOut, train_folder
    from expunge.methods import make_method

    screen, messages = consoles()
    own = None if method is None else make_method(method, read_pairs(settings), allow_code=TYPED)
    changes = recipe_changes(epochs, lr, batch_size, None if own is not None else settings)
    with working("train") as bars:
        trained = train_folder(
            data,
            model,
            out,
            recipe=read_recipe(recipe, changes),
            seed=seed,
            held=HeldOut(validation, split_seed),
            method=own,
            task=task,
            place=replace(place, progress=bars, tell=at_once(messages)),
        )
    losses = trained.record.log.get("losses", ())
    ran = f": loss {losses[0]:.3f} to {losses[-1]:.3f}" if losses else ""
    by = "" if own is None else f" by {own.name}"
    screen.print(f"trained {model}{by} on {len(trained.split.retain):,} samples of {data}{ran}")
    show_notes(screen, trained.data)
    show_accuracy(screen, trained.model, trained.data, place)
    screen.print(cost_line(trained.record.cost))
    next_step(screen, out, trained)


NO_TEST_SET = "no test set"


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
    test: Annotated[
        str | None,
        typer.Option(
            "--test",
            metavar="DATA|none",
            help="Data to test on, which it never saw; else the test part that DATA bring, or none.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option(
            "--classes", help="Class names in the order of the model's outputs, one a line."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            "--key",
            help="Where the weights lie in their file, or what their names begin with, if several "
            "would fit.",
        ),
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", help="Mean of the normalisation it was trained with, per channel."),
    ] = None,
    std: Annotated[
        str | None,
        typer.Option(
            "--std",
            help="Standard deviation, likewise; both of pictures from 0 to 1, or numbers as they are.",
        ),
    ] = None,
    expect_accuracy: Annotated[
        float | None,
        typer.Option(
            "--expect-accuracy",
            help="Test accuracy in percent; refuse a model that is clearly another one.",
        ),
    ] = None,
    task: TaskName = None,
    *,
    place: Place,
) -> None:
    """Make a model folder of a checkpoint that was trained elsewhere."""
    from expunge.folders.elsewhere import Elsewhere, import_folder

    screen, _ = consoles()
    how = Elsewhere(
        trained_on=trained_on,
        validation=validation,
        test=test,
        classes=classes,
        key=key,
        mean=read_floats(mean, "--mean"),
        std=read_floats(std, "--std"),
        expect=expect_accuracy,
        recipe=read_recipe(recipe, {}) if recipe else None,
    )
    with working("import") as bars:
        imported = import_folder(
            model, weights, data, out, how=how, task=task, place=replace(place, progress=bars)
        )
    adopted = imported.trained
    screen.print(
        f"imported {f'{weights} as {model}' if weights else model}: learned from "
        f"{len(adopted.split.retain):,} samples",
    )
    if adopted.mask is not None:
        from expunge.models.mask import sparsity_of

        share = sparsity_of(adopted.mask)
        screen.print(f"{share:.1%} of the weights that its masks name stay 0")
    for line in imported.read_as:
        screen.print(line)
    taken = imported.taken
    if taken is not None and taken.beside:
        screen.print(
            f"taken of it: what lies under {taken.key!r}; {len(taken.beside):,} tensors beside it are "
            f"left, such as {clean_name(taken.beside[0])!r}"
        )
    show_notes(screen, adopted.data)
    for line in looked(imported):
        screen.print(line, style="bold" if line.startswith(NO_TEST_SET) else None)
    if mean is None and adopted.data.normalisation is None and library_of(model) != "hf":
        screen.print(
            "if that is less than it should be, say how inputs were normalised: --mean, --std"
        )
    if recipe is None:
        screen.print("without --recipe there is no retrained reference for this model")
    next_step(screen, out, adopted)


@placed("allow_code")
def export(
    model_dir: Annotated[Path, MODEL_DIR],
    to: Annotated[
        Path,
        typer.Option("--to", help="File to write: .safetensors, or .pt.", show_default=False),
    ],
    key: Annotated[
        str | None,
        typer.Option("--key", help="Put the weights under this key, as in {key: state_dict}."),
    ] = None,
    *,
    place: Place,
) -> None:
    """Write a model's weights as a plain checkpoint, for code that knows nothing of Expunge."""
    from expunge.folders.export import classes_file, export_folder, told_inputs

    screen, _ = consoles()
    with working("export"):
        card = export_folder(model_dir, to, key=key, place=place)
    screen.print(f"written: {to}")
    for line in told_inputs(card):
        screen.print(line)
    beside = classes_file(to) if len(card.classes) > SHOWN else None
    where = "" if beside is None else f" (all {len(card.classes):,} in {beside}, for --classes)"
    screen.print(f"its outputs, in this order: {listed(card.classes)}{where}")


def looked(imported: Imported) -> Iterator[str]:
    """What was seen of a model before its folder was written, and of what it has no test set."""
    from expunge.folders.elsewhere import in_words

    data = imported.trained.data
    if not imported.tested:
        yield (
            f"{NO_TEST_SET}: it counts as having learned all that it was given, so there is no test "
            "accuracy; --test DATA names samples that it never saw"
        )
    if imported.seen is None:
        yield f"no accuracy: {imported.why}"
    elif imported.tested:
        where = f" of {data.test_spec}" if data.test_spec else ""
        yield f"test accuracy {imported.accuracy:.2f} % on {imported.seen.n:,} samples{where}"
    else:
        yield (
            f"{imported.accuracy:.2f} % right on {imported.seen.n:,} samples that it learned, which is "
            "no test accuracy"
        )
    if imported.swapped:
        yield in_words(imported)
