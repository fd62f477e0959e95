"""Options that several commands share, and how commands talk: results out, messages aside."""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.cli.screen import consoles
from expunge.errors import LogitsError
from expunge.progress import Bars

if TYPE_CHECKING:
    from rich.console import Console

    from expunge.data.load import Data
    from expunge.place import Place
    from expunge.trained.trained import Trained

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
Seed = Annotated[int, typer.Option("--seed", help="Seed of this run.")]
DataOption = Annotated[
    str, typer.Option("--data", help="Data: see `expunge list datasets`.", show_default=False)
]
TaskName = Annotated[
    str | None,
    typer.Option(
        "--task",
        metavar="MODULE:CLASS",
        help="What a sample's loss and the model's output mean; else classification.",
        show_default=False,
    ),
]
OtherData = Annotated[
    str | None, typer.Option("--data", help="Data instead of those that the folder names.")
]
SetFields = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, key=value; again for more.", show_default=False),
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="YAML or JSON file: see `expunge list recipe`.")
]
ForgetSeed = Annotated[int, typer.Option("--forget-seed", help="Seed of a random forget draw.")]
Forget = Annotated[
    str,
    typer.Option(
        "--forget",
        help="random:FRACTION, class:LABEL,..., ids:FILE, group:COLUMN=VALUE, indices:ROW,..., "
        "poison[:SHARE]",
        show_default=False,
    ),
]
Also = Annotated[
    str | None,
    typer.Option(
        "--also",
        help="Further audits, comma-separated: see `expunge list audits`.",
    ),
]
StrengthWord = Annotated[
    str | None,
    typer.Option(
        "--strength",
        help="quick, standard or thorough: all audits that fit, their cost before, then one table of "
        "findings and one sentence.",
        show_default=False,
    ),
]
EpochsOption = Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")]
RateOption = Annotated[float | None, typer.Option("--lr", help="Learning rate.")]
BatchSizeOption = Annotated[int | None, typer.Option("--batch-size", help="Samples a step.")]
Validation = Annotated[
    float, typer.Option("--validation", help="Share of the training data kept for validation.")
]
SplitSeed = Annotated[
    int, typer.Option("--split-seed", help="Seed that draws the validation share.")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        show_default="1, or as many as the cluster has room for",
        help="Processes, of one thread each; they share the GPUs.",
    ),
]
RayAddress = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="ADDRESS",
        help="Work on a Ray cluster whose machines all see the folders: HOST:PORT, `auto`, or `local`.",
        show_default=False,
    ),
]
MODEL_DIR = typer.Argument(metavar="MODEL_DIR", help="A model folder.", show_default=False)


def names(text: str | None) -> list[str]:
    """A comma-separated list as typed."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def show_accuracy(screen: Console, model: Any, data: Data, place: Place, whose: str = "") -> None:
    """Test accuracy of a model in one line, which begins with whose it is."""
    if not len(data.test):
        screen.print(f"{whose}no test accuracy: there is no test set")
        return
    from expunge.audits.observe import accuracy
    from expunge.training.run import Run, accelerator_on

    run = Run(
        accelerator=accelerator_on(place.device), progress=Bars(consoles()[1]), task=data.task
    )
    try:
        value = accuracy(model, data, run)
    except LogitsError as error:
        screen.print(f"{whose}no test accuracy: {error}")
        return
    screen.print(f"{whose}test accuracy {value:.2f} % on {len(data.test):,} samples")


def show_notes(screen: Console, data: Data) -> None:
    """What a person should know of how data were read."""
    for note in data.notes:
        screen.print(note, soft_wrap=True)


def next_step(screen: Console, out: Path, trained: Trained) -> None:
    """What was written, and the command that a person would want next: to forget something of it."""
    forget, by = "random:0.1", "finetune"
    if trained.trained_by is not None:  # what it is for are small requests
        forget, by = "random:0.01", trained.trained_by.name
    words = ["unlearn", str(out), "--forget", forget, "--method", by]
    words += ["--with-reference"] if trained.recipe is not None else []
    words += ["--allow-code"] if trained.names_code else []
    screen.print(f"written: {out}")
    screen.print(f"next: {typed([*words, '--out', f'{out}-forgot'])}", soft_wrap=True)


def typed(arguments: Iterable[str]) -> str:
    """A command as one types it."""
    return shlex.join(["expunge", *arguments])
