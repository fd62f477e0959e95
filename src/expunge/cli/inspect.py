"""`inspect`: is a model poisoned? Without knowledge of trigger or poison."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich import box
from rich.table import Table

from expunge.cli.arguments import read_floats
from expunge.cli.options import Seed, names
from expunge.cli.place import placed
from expunge.cli.screen import at_once, consoles, working
from expunge.errors import ConfigError
from expunge.place import Place

if TYPE_CHECKING:
    from expunge.backdoor.inspecting import Inspection

SHOWN_CLASSES = 5
"""Classes that a table of triggers shows, the smallest first."""


@placed("data_dir", "device", "allow_code")
def inspect(
    model_dir: Annotated[
        Path | None,
        typer.Argument(metavar="[MODEL_DIR]", help="A model folder.", show_default=False),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            "--data", help="Clean data to look with; else the test set of the folder's data."
        ),
    ] = None,
    training: Annotated[
        str | None,
        typer.Option(
            "--training",
            help="With --model: data that it learned from, labelled as they were then.",
        ),
    ] = None,
    inputs: Annotated[
        str | None, typer.Option("--inputs", help="Data to judge, sample by sample.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option("--model", help="Instead of a folder, a model as `import` takes it."),
    ] = None,
    weights: Annotated[
        Path | None, typer.Option("--weights", help="With --model: its weights.")
    ] = None,
    key: Annotated[
        str | None, typer.Option("--key", help="With --model: where the weights lie in their file.")
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", help="With --model: class names in its order, one a line."),
    ] = None,
    mean: Annotated[
        str | None, typer.Option("--mean", help="With --model: mean of its normalisation.")
    ] = None,
    std: Annotated[
        str | None, typer.Option("--std", help="With --model: standard deviation, likewise.")
    ] = None,
    only: Annotated[
        str | None,
        typer.Option(
            "--only",
            help="Detectors, comma-separated: inversion, activation_clustering, spectral, strip; by "
            "default all that fit.",
        ),
    ] = None,
    picture: Annotated[
        Path | None,
        typer.Option("--picture", help="File (PNG) for the smallest trigger of each class."),
    ] = None,
    suspects: Annotated[
        Path | None,
        typer.Option(
            "--suspects",
            help="File for the ids that stand out, the most suspicious first, one a line, as ids:FILE "
            "takes it.",
        ),
    ] = None,
    seed: Seed = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,
    *,
    place: Place,
) -> None:
    """Look for a backdoor in a model without knowledge of its trigger or poison."""
    from expunge.backdoor.thresholds import ANY_ALARMS, share_told
    from expunge.folders.elsewhere import Elsewhere
    from expunge.folders.inspect import AtHand, HowToLook, Outside, inspect_folder

    screen, messages = consoles()
    of_model = {"--weights": weights, "--key": key, "--classes": classes, "--mean": mean}
    of_model |= {"--std": std, "--training": training}
    _check_source(model_dir, model, [name for name, one in of_model.items() if one is not None])
    source: Path | Outside | None = model_dir
    if model is not None:
        means, deviations = read_floats(mean, "--mean"), read_floats(std, "--std")
        how = Elsewhere(classes=classes, key=key, mean=means, std=deviations)
        source = Outside(model, weights, how)
    with working("inspect") as bars:
        found = inspect_folder(
            source or "",
            AtHand(data, training, inputs),
            HowToLook(None if only is None else names(only), seed, picture, suspects),
            replace(place, progress=bars, tell=at_once(messages)),
        )
    if as_json:
        if not screen.quiet:
            typer.echo(json.dumps(found.plain(), indent=1))
        return
    screen.print(found.sentence(), soft_wrap=True)
    for note in found.notes:
        screen.print(note, soft_wrap=True)
    screen.print(findings(found))
    if len(found.detections) > 1:
        screen.print(f"false alarms of all four together: {share_told(ANY_ALARMS)}")
    if found.triggers:
        screen.print(smallest(found))
    for name, why in found.skipped.items():
        screen.print(f"{name} was left out: {why}", soft_wrap=True)
    for file, what in ((picture, found.triggers), (suspects, found.samples())):
        if file is not None:
            screen.print(f"written: {file}" if what else f"nothing to write into {file}")


def _check_source(model_dir: Path | None, model: str | None, of_model: list[str]) -> None:
    """Raise ConfigError unless one model is named, in one way."""
    if (model_dir is None) == (model is None):
        raise ConfigError(
            "name one model: a folder, as in `expunge inspect runs/original`, or one from elsewhere by "
            "--model, --weights and --data"
        )
    if model is None and of_model:
        raise ConfigError(f"{of_model[0]} is of a model from elsewhere, which --model names")


def findings(found: Inspection) -> Table:
    """One line for each detector."""
    from expunge.backdoor.inspecting import DETECTORS

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for header in ("detector", "found", "classes", "seconds", "false alarms", "why"):
        table.add_column(header, justify="right" if header == "seconds" else "left")
    for one in found.detections:
        detector = DETECTORS[one.detector]
        whose = ", ".join(found.classes[c] for c in one.suspects) or "–"
        took = f"{found.seconds[one.detector]:.1f}"
        table.add_row(detector.title, one.word, whose, took, detector.false_alarms, one.why)
    return table


def smallest(found: Inspection) -> Table:
    """The classes that the smallest triggers lead into."""
    numbers = next(d.by_class for d in found.detections if d.detector == "inversion")
    pixels, anomaly = numbers["pixels"], numbers["anomaly"]
    title = f"smallest triggers of {len(found.triggers)} classes"
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, title=title, title_justify="left")
    for header in ("class", "pixels", "anomaly index", "works on"):
        table.add_column(header, justify="left" if header == "class" else "right")
    order = sorted(range(len(pixels)), key=pixels.__getitem__)[:SHOWN_CLASSES]
    for c in order:
        works = found.triggers[c].success
        share = "–" if math.isnan(works) else f"{100 * works:.0f} %"
        table.add_row(found.classes[c], f"{pixels[c]:.1f}", f"{anomaly[c]:.1f}", share)
    return table
