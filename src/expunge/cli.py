"""The command line: arguments in, one library call out, results on the screen.

Heavy imports wait until a command runs, so that help and mistakes answer at once.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from expunge.arguments import read_floats, read_pairs, read_recipe
from expunge.errors import DivergenceError, UserError
from expunge.version import VERSION

if TYPE_CHECKING:
    from rich.console import Console


app = typer.Typer(
    name="expunge",
    help="Make a trained PyTorch model forget part of its training data, and measure whether it did.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Out = Annotated[Path, typer.Option("--out", help="Folder to write.", show_default=False)]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds cifar10/ and mnist/; else EXPUNGE_DATA."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace folders that exist.")]
Device = Annotated[
    str | None, typer.Option("--device", help="cpu or cuda; else the best there is.")
]
Seed = Annotated[int, typer.Option("--seed", help="Seed of this run.")]
AllowCode = Annotated[
    bool, typer.Option("--allow-code", help="Run the module:function that a model folder names.")
]
Data = Annotated[
    str, typer.Option("--data", help="Data: see `expunge list datasets`.", show_default=False)
]
OtherData = Annotated[
    str | None, typer.Option("--data", help="Data instead of those that the folder names.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", help="A setting, key=value; again for more.", show_default=False),
]
RecipeFile = Annotated[
    Path | None, typer.Option("--recipe", help="YAML or JSON file: see `expunge list recipe`.")
]
ForgetSeed = Annotated[int, typer.Option("--forget-seed", help="Seed of a random forget draw.")]
MODEL_DIR = typer.Argument(metavar="MODEL_DIR", help="A model folder.", show_default=False)


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Show the version, or go on to the command."""
    if version:
        typer.echo(f"expunge {VERSION}")
        raise typer.Exit


@app.command(epilog="Example: expunge demo --out expunge-demo")
def demo(out: Out = Path("expunge-demo"), overwrite: Overwrite = False) -> None:
    """Forget on handwritten digits by several methods, beside retraining, and explain the table."""
    from expunge.demo import PASTE, SETTINGS, meaning, run_demo
    from expunge.progress import Bars
    from expunge.report.figures import gap_figure
    from expunge.report.files import check_folder, write_tables
    from expunge.report.tables import note
    from expunge.show import study_tables

    screen, messages = _consoles()
    check_folder(out, overwrite=overwrite)
    messages.print("Training originals and retrained models on digits, 3 seeds; forgetting ...")
    frame, seconds = run_demo(Bars(messages))
    screen.print(study_tables(frame, screen.width))
    screen.print(note(frame) + "\n", style="dim")
    for sentence in meaning(frame):
        screen.print(f"• {sentence}", markup=False)
    written = write_tables(
        frame, out, figure=gap_figure, explanation=meaning(frame), overwrite=overwrite
    )
    changed = "; ".join(
        f"{name}: {', '.join(f'{k}={v}' for k, v in values.items())}"
        for name, values in SETTINGS.items()
        if values
    )
    screen.print(f"\nSettings that differ from the methods' defaults: {changed}.", style="dim")
    screen.print(f"{seconds:.0f} s. Written: {', '.join(str(path) for path in written)}")
    screen.print("\nNow with a model folder of your own:\n")
    screen.print(f"  {PASTE}", markup=False, soft_wrap=True)


@app.command(
    epilog="Example: expunge train --data cifar10:5000 --data-dir DATA --model resnet20 --epochs 15"
    " --out runs/original"
)
def train(
    data: Data,
    out: Out,
    model: Annotated[str, typer.Option("--model", help="See `expunge list models`.")] = "resnet18",
    epochs: Annotated[int | None, typer.Option("--epochs", help="Passes over the data.")] = None,
    lr: Annotated[float | None, typer.Option("--lr", help="Learning rate.")] = None,
    batch_size: Annotated[int | None, typer.Option("--batch-size", help="Samples a step.")] = None,
    recipe: RecipeFile = None,
    settings: Settings = None,
    seed: Seed = 0,
    validation: Annotated[
        float, typer.Option("--validation", help="Share of the training data kept for validation.")
    ] = 0.1,
    split_seed: Annotated[int, typer.Option("--split-seed", help="Seed of that share.")] = 0,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
) -> None:
    """Train an original model and write its folder."""
    from expunge.folders import train_folder
    from expunge.progress import Bars
    from expunge.show import cost_line

    screen, messages = _consoles()
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    changes = {k: v for k, v in given.items() if v is not None} | read_pairs(settings)
    result, loaded = train_folder(
        data, model, out, recipe=read_recipe(recipe, changes), seed=seed, validation=validation,
        split_seed=split_seed, data_dir=data_dir, device=device, progress=Bars(messages),
        overwrite=overwrite,
    )  # fmt: skip
    losses = result.record.log["losses"]
    screen.print(f"trained {model} on {len(result.split.retain):,} samples of {data}: loss "
                 f"{losses[0]:.3f} to {losses[-1]:.3f}", markup=False)  # fmt: skip
    _show_accuracy(screen, result.model, loaded, device)
    screen.print(cost_line(result.record.cost), markup=False)
    _next(screen, out, f"expunge unlearn {out} --forget random:0.1 --method finetune "
          f"--with-reference --out {out}-forgot")  # fmt: skip


@app.command(
    "import",
    epilog="Example: expunge import --model mynet:build --weights net.safetensors --data photos@64"
    " --recipe recipe.yaml --mean 0.49,0.48,0.45 --std 0.25,0.24,0.26 --out runs/original",
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
    from expunge.folders import import_folder

    screen, _ = _consoles()
    result, loaded = import_folder(
        model, weights, data, out, recipe=read_recipe(recipe, {}) if recipe else None,
        trained_on=trained_on, validation=validation, mean=read_floats(mean, "--mean"),
        std=read_floats(std, "--std"), data_dir=data_dir, overwrite=overwrite,
    )  # fmt: skip
    screen.print(f"imported {weights} as {model}: learned from {len(result.split.retain):,} samples",
                 markup=False)  # fmt: skip
    _show_accuracy(screen, result.model, loaded, device)
    if mean is None:
        screen.print(
            "if that is less than it should be, say how inputs were normalised: --mean, --std"
        )
    if recipe is None:
        screen.print("without --recipe there is no retrained reference for this model")
    _next(
        screen, out, f"expunge unlearn {out} --forget ids:FILE --method finetune --out {out}-forgot"
    )


@app.command(
    epilog="Example: expunge unlearn runs/original --forget class:3 --method neggrad_plus"
    " --set alpha=0.9 --with-reference --out runs/without-3"
)
def unlearn(
    model_dir: Annotated[Path, MODEL_DIR],
    forget: Annotated[
        str,
        typer.Option(
            "--forget",
            help="random:FRACTION, class:LABEL,..., ids:FILE, group:COLUMN=VALUE, indices:ROW,...",
            show_default=False,
        ),
    ],
    method: Annotated[
        str, typer.Option("--method", help="See `expunge list methods`.", show_default=False)
    ],
    out: Out,
    settings: Settings = None,
    seed: Seed = 0,
    forget_seed: ForgetSeed = 0,
    with_reference: Annotated[
        bool,
        typer.Option(
            "--with-reference", help="Also retrain without the data, and audit against it."
        ),
    ] = False,
    redact_ids: Annotated[
        bool, typer.Option("--redact-ids", help="Keep salted hashes of ids in the new folder.")
    ] = False,
    data: OtherData = None,
    data_dir: DataDir = None,
    device: Device = None,
    overwrite: Overwrite = False,
    allow_code: AllowCode = False,
) -> None:
    """Make a model forget: write a new model folder, leave the old one as it is."""
    from expunge.folders import audit_forgotten, unlearn_folder
    from expunge.methods import make_method
    from expunge.progress import Bars
    from expunge.show import show_forgotten, show_report

    screen, messages = _consoles()
    done = unlearn_folder(
        model_dir, forget, make_method(method, read_pairs(settings)), out, seed=seed,
        forget_seed=forget_seed, with_reference=with_reference, data=data, data_dir=data_dir,
        device=device, progress=Bars(messages), overwrite=overwrite, redact_ids=redact_ids,
        allow_code=allow_code,
    )  # fmt: skip
    show_forgotten(done, screen, messages)
    if done.reference is None:
        extra = " --allow-code" if allow_code else ""
        _next(screen, out, f"expunge audit {out} --original {model_dir}{extra}")
        return
    report = audit_forgotten(done, device=device, progress=Bars(messages))
    show_report(report, screen)
    screen.print(f"retrained reference: {done.reference_path}", markup=False)
    screen.print(f"written: {out}", markup=False)


@app.command(
    epilog="Example: expunge audit runs/without-3 --original runs/original"
    " --retrained runs/without-3-retrained"
)
def audit(
    model_dir: Annotated[Path, MODEL_DIR],
    original: Annotated[
        Path | None, typer.Option("--original", help="The folder before forgetting.")
    ] = None,
    retrained: Annotated[
        Path | None, typer.Option("--retrained", help="A folder retrained without the data.")
    ] = None,
    forget: Annotated[
        str | None, typer.Option("--forget", help="For an original, or where ids are redacted.")
    ] = None,
    forget_seed: ForgetSeed = 0,
    features: Annotated[
        str, typer.Option("--features", help="Of the membership attack, comma-separated, or all.")
    ] = "confidence",
    as_json: Annotated[bool, typer.Option("--json", help="Scores as JSON.")] = False,
    data: OtherData = None,
    data_dir: DataDir = None,
    device: Device = None,
    allow_code: AllowCode = False,
) -> None:
    """Score a model: what it still knows of the forgotten, the retained and the unseen."""
    from expunge.audits import FEATURES
    from expunge.folders import audit_folder
    from expunge.progress import Bars
    from expunge.show import show_report

    screen, messages = _consoles()
    chosen = list(FEATURES) if features == "all" else [f.strip() for f in features.split(",")]
    report = audit_folder(
        model_dir, original=original, retrained=retrained, forget=forget, forget_seed=forget_seed,
        features=chosen, data=data, data_dir=data_dir, device=device, progress=Bars(messages),
        allow_code=allow_code,
    )  # fmt: skip
    if as_json:
        typer.echo(json.dumps(report.to_dict(), indent=1, ensure_ascii=False))
        return
    show_report(report, screen)


@app.command("list", epilog="Example: expunge list methods neggrad_plus")
def list_(
    kind: Annotated[
        str | None, typer.Argument(help="methods, datasets, models, audits or recipe.")
    ] = None,
    name: Annotated[str | None, typer.Argument(help="One of them, in full.")] = None,
) -> None:
    """Show what there is: what it does and reads, its parameters, where it was published."""
    from expunge.show import listing

    _consoles()[0].print(listing(kind, name))


INTERRUPTED = 130


def main() -> None:
    """Run a command; a mistake costs one line and exit code 2."""
    code = 0
    if len(sys.argv) == 1:
        sys.argv.append("--help")
    try:
        outcome = app(standalone_mode=False)
        code = outcome if isinstance(outcome, int) else 0
        if code == INTERRUPTED:  # typer turns Ctrl-C into this
            raise KeyboardInterrupt
    except (UserError, DivergenceError) as error:
        code = _complain(str(error), 2)
    except typer.TyperException as error:
        code = _complain(f"{error.format_message()} See `expunge --help`.", 2)
    except (KeyboardInterrupt, typer.Abort):
        code = _complain("interrupted; nothing was left half-written", INTERRUPTED)
    except BrokenPipeError:
        code = 141
        sys.stderr.close()
    except OSError as error:
        code = _complain(f"{error.filename or 'the system'}: {error.strerror or error}", 2)
    _leave_processes()
    sys.exit(code)


def _complain(message: str, code: int) -> int:
    """One line on standard error."""
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    return code


def _leave_processes() -> None:
    """Under torchrun, end the process group that accelerate made."""
    if "torch" in sys.modules:
        import torch.distributed as distributed

        if distributed.is_available() and distributed.is_initialized():
            distributed.destroy_process_group()


def _consoles() -> tuple[Console, Console]:
    """Screen and messages; silent in all processes but the first."""
    import os

    from expunge.show import consoles

    screen, messages = consoles()
    if os.environ.get("RANK", "0") != "0":
        screen.quiet = messages.quiet = True
    return screen, messages


def _show_accuracy(screen: Console, model: Any, data: Any, device: str | None) -> None:
    from expunge.observe import accuracy
    from expunge.run import Run, accelerator_on

    value = accuracy(model, data, Run(accelerator=accelerator_on(device)))
    screen.print(f"test accuracy {value:.2f} % on {len(data.test):,} samples", markup=False)


def _next(screen: Console, out: Path, command: str) -> None:
    screen.print(f"written: {out}", markup=False)
    screen.print(f"next: {command}", markup=False, soft_wrap=True)


if __name__ == "__main__":
    main()
