"""What `fit` is worth: its speed and its accuracy, against a plain PyTorch loop in the same run.

speed     samples per second of both loops on CIFAR-10, in alternation, and their ratio
accuracy  test accuracy of both after the same epochs, seed by seed
gpu       seconds per epoch of a compiled bfloat16 ResNet-18 on a GPU, and where a one-cycle gets

The plain loop is in plain_loop.py. Both loops are timed whole: reading, augmentation, step.
"""

from __future__ import annotations

import argparse
import itertools
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import cpu_seconds, machine, save, share_of_others
from plain_loop import CIFAR10_MEAN, CIFAR10_STD, Images, Labels, train_plain
from scipy import stats
from torch import nn

from expunge import Data, DataView, Part, Recipe, Run, Split, UserError, fit, load_data
from expunge.data.samples import resident
from expunge.data.transform import Normalisation, Transform
from expunge.models.table import ARCHITECTURES, build_model
from expunge.training.fit import FitLog
from expunge.training.run import accelerator_on

LR = 0.1
TARGETS = {"resnet20": 1.8, "resnet18": 2.3}
"""Speed over the plain loop that is aimed at, on two cores that multiply bfloat16."""
STEPS = {"resnet20": 10, "resnet18": 2, "vgg16_bn": 4, "allcnn": 4}
"""Steps a round, some seconds of the plain loop on two cores; 20 for smaller models."""

TRIES = 20

EXAMPLES = """\
examples (EXPUNGE_DATA names the folder that holds cifar10/, or use --data-dir):
  python benchmarks/training.py speed
  python benchmarks/training.py speed --models cnn resnet20 --workers 0 2 --precision auto float32
  python benchmarks/training.py accuracy --images 4000 --epochs 8 --seeds 5 --json results.json
  python benchmarks/training.py gpu --epochs 30
"""


def main() -> int:
    options = arguments().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.command == "gpu" and not torch.cuda.is_available():
        print("gpu: this torch sees no CUDA device; speed and accuracy run on the CPU alone")
        return 2
    if options.command != "gpu":
        options.device = "cpu"
    about = machine(options.device)
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    try:
        data = cifar10(options.data_dir)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    result = {"speed": speed, "accuracy": accuracy, "gpu": gpu}[options.command](options, data)
    if options.json is not None:
        section = " ".join([options.command, *([options.model] if "model" in options else [])])
        save(options.json, section, {"machine": about, **result})
    return 0


# ---- speed


def speed(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    """Rounds of plain, fit, plain, fit, ...; a ratio is of neighbours, within one round."""
    rows, busy = [], {}
    for name in options.models:
        steps = options.steps or STEPS.get(name, 20)
        part = subset(data, steps * options.batch_size)
        loops = contenders(name, part, options)
        for loop in loops.values():
            loop(1)  # threads started, kernels chosen
        rates: dict[str, list[float]] = {label: [] for label in loops}
        shares = []
        for _ in range(options.rounds):
            seconds, others = quiet_round(loops, steps, options.others)
            shares.append(round(others, 3))
            for label in loops:
                rates[label].append(steps * options.batch_size / seconds[label])
        rows += report_speed(name, steps, rates)
        busy[name] = shares
    return {
        "batch_size": options.batch_size,
        "rounds": options.rounds,
        "share_of_other_programs": busy,
        "loops": rows,
    }


def quiet_round(
    loops: dict[str, Callable[[int], float]], steps: int, most: float
) -> tuple[dict[str, float], float]:
    """Seconds of each loop, and the share of all computing that other programs did meanwhile.

    Measured again while that share is above `most`.
    """
    for _ in range(TRIES):
        before = cpu_seconds()
        seconds = {label: loop(steps) for label, loop in loops.items()}
        others = share_of_others(before)
        if others <= most:
            return seconds, others
        print(f"  others took {others:.0%} of what was computed: again", flush=True)
    raise SystemExit(f"the machine was too busy {TRIES} times: wait, or allow it with --others 1")


def contenders(
    name: str, data: Data, options: argparse.Namespace
) -> dict[str, Callable[[int], float]]:
    """Label -> a function that trains a new model for some steps and returns the seconds."""
    images, labels = pixels(data)

    def plain(workers: int) -> Callable[[int], float]:
        return lambda steps: (
            train_plain(
                new_model(name, 0),
                images,
                labels,
                epochs=1,
                batch_size=options.batch_size,
                lr=LR,
                seed=0,
                workers=workers,
                max_steps=steps,
                schedule="onecycle",
            ).seconds
        )

    def ours(precision: str) -> Callable[[int], float]:
        recipe = Recipe(epochs=1, batch_size=options.batch_size, lr=LR, precision=precision)

        def train(steps: int) -> float:
            part = subset(data, steps * options.batch_size)
            return train_fit(new_model(name, 0), part, recipe, 0, "cpu").seconds

        return train

    loops = {f"plain, {workers} workers": plain(workers) for workers in options.workers}
    return loops | {f"fit, {precision}": ours(precision) for precision in options.precision}


def report_speed(name: str, steps: int, rates: dict[str, list[float]]) -> list[dict[str, Any]]:
    """Print and return one row per loop; `ratio` is over the fastest of the plain loops."""
    medians = {label: statistics.median(values) for label, values in rates.items()}
    base = max((label for label in rates if label.startswith("plain")), key=medians.__getitem__)
    rows = []
    print(f"\n{name}, {steps} steps a round      samples/s (lowest, highest)      times {base!r}")
    for label, values in rates.items():
        ratios = [a / b for a, b in zip(values, rates[base], strict=True)]
        row = {
            "model": name,
            "loop": label,
            "steps": steps,
            "base": base,
            "samples_per_second": [round(value, 1) for value in values],
            "median": round(medians[label], 1),
            "ratio": summary(ratios),
        }
        spread = f"({min(values):.0f}, {max(values):.0f})"
        times = "{median:.2f} ({min:.2f}, {max:.2f})".format(**row["ratio"])
        print(f"  {label:24s} {medians[label]:12.0f} {spread:20s} {times:>22s}", flush=True)
        rows.append(row)
    if name in TARGETS and "fit, auto" in rates:
        auto = next(row for row in rows if row["loop"] == "fit, auto")
        reached = auto["ratio"]["median"] >= TARGETS[name]
        print(f"  aim: {TARGETS[name]} times; {'reached' if reached else 'missed'}", flush=True)
    return rows


def summary(values: list[float]) -> dict[str, float]:
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {key: round(value, 3) for key, value in numbers.items()}


# ---- accuracy


def accuracy(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    """The same weights at the start, recipe, images and epochs; order and crops differ."""
    part = subset(data, options.images)
    images, labels = pixels(part)
    recipe = Recipe(epochs=options.epochs, batch_size=options.batch_size, lr=LR)
    seeds = []
    print(f"{options.model}, {options.images} images, {options.epochs} epochs, one-cycle to {LR}")
    for seed in range(options.seeds):
        plain = new_model(options.model, seed)
        run = train_plain(
            plain,
            images,
            labels,
            epochs=options.epochs,
            batch_size=options.batch_size,
            lr=LR,
            seed=seed,
            workers=options.workers,
            schedule="onecycle",
        )
        ours = new_model(options.model, seed)
        log = train_fit(ours, part, recipe, seed, "cpu")
        row = {
            "seed": seed,
            "plain": percent_right(plain, data, "cpu"),
            "plain_seconds": round(run.seconds, 1),
            "fit": percent_right(ours, data, "cpu"),
            "fit_seconds": round(log.seconds, 1),
        }
        print(
            "  seed {seed}: plain {plain:.2f} % in {plain_seconds} s, "
            "fit {fit:.2f} % in {fit_seconds} s".format(**row),
            flush=True,
        )
        seeds.append(row)
    result = {
        "model": options.model,
        "images": options.images,
        "epochs": options.epochs,
        "precision": log.precision,
        "seeds": seeds,
        "difference_percent": paired([row["fit"] - row["plain"] for row in seeds]),
        "deviation_of_plain": round(float(np.std([row["plain"] for row in seeds], ddof=1)), 3),
    }
    print(
        "  fit - plain: {mean:+.2f} points, 95 % interval {low:+.2f} to {high:+.2f}".format(
            **result["difference_percent"]
        )
        + f"; standard deviation of plain over seeds {result['deviation_of_plain']:.2f}"
    )
    return result


def paired(differences: list[float]) -> dict[str, float]:
    """Mean of paired differences and its 95 % interval by Student's t."""
    mean = float(np.mean(differences))
    half = float(stats.sem(differences) * stats.t.ppf(0.975, len(differences) - 1))
    return {"mean": round(mean, 3), "low": round(mean - half, 3), "high": round(mean + half, 3)}


# ---- gpu


def gpu(options: argparse.Namespace, data: Data) -> dict[str, Any]:
    """One compiled run on the whole training set: seconds of each epoch, accuracy at the end."""
    recipe = Recipe(
        epochs=options.epochs,
        batch_size=options.batch_size,
        lr=options.lr,
        nesterov=True,
        precision="bfloat16",
        compile=True,
    )
    model = new_model(options.model, options.seed)
    stamps = [time.perf_counter()]
    log = train_fit(
        model,
        data,
        recipe,
        options.seed,
        options.device,
        lambda *_: stamps.append(time.perf_counter()),  # the epoch's loss was read: all is done
    )
    seconds = [round(b - a, 3) for a, b in itertools.pairwise(stamps)]
    result = {
        "model": options.model,
        "recipe": recipe.model_dump(),
        "seconds_per_epoch": round(statistics.median(seconds[1:]), 3),
        "first_epoch_seconds": seconds[0],
        "seconds_in_all": round(log.seconds, 1),
        "test_accuracy": percent_right(model, data, options.device),
        "epochs": seconds,
    }
    print(
        "{seconds_per_epoch:.2f} s per epoch (median after the first, which compiles and took "
        "{first_epoch_seconds:.1f} s)\n{test_accuracy:.2f} % on the test set after "
        "{seconds_in_all:.1f} s in all".format(**result)
    )
    return result


# ---- what they share


def cifar10(data_dir: str | None) -> Data:
    """CIFAR-10 with the plain loop's mean and deviation."""
    mean, std = (tuple(t.flatten().tolist()) for t in (CIFAR10_MEAN, CIFAR10_STD))
    return load_data("cifar10", data_dir=data_dir).with_normalisation(Normalisation(mean, std))


def subset(data: Data, count: int) -> Data:
    """The first samples of the training set, whose order is random, and the whole test set."""
    rows = np.arange(min(count, len(data.train)))
    return Data(data.train.subset(rows), data.test, data.classes).with_normalisation(
        data.normalisation
    )


def pixels(data: Data) -> tuple[Images, Labels]:
    """What the plain loop reads: (n, height, width, 3) uint8 and labels (n,)."""
    return resident(data.train).permute(0, 2, 3, 1).contiguous().numpy(), data.train.labels


def new_model(name: str, seed: int) -> nn.Module:
    torch.manual_seed(seed)
    return build_model(name, (3, 32, 32), 10, allow_code=True)


def train_fit(
    model: nn.Module,
    data: Data,
    recipe: Recipe,
    seed: int,
    device: str,
    after_epoch: Callable[[nn.Module, int], None] | None = None,
) -> FitLog:
    """`fit` on all training samples, with crops and flips as the plain loop has them."""
    run = Run(names=("benchmark", seed), recipe=recipe, accelerator=accelerator_on(device))
    view = DataView(
        data,
        Split.whole(data, validation=0),
        Part.RETAIN,
        names=run.names,
        device=run.device,
        transform=Transform(data.normalisation, "crop_flip"),
    )
    return fit(
        model,
        lambda epoch: view.batches(Part.RETAIN, recipe.batch_size, epoch=epoch),
        lambda model, batch, _: run.loss(model, batch),
        recipe=recipe,
        run=run,
        after_epoch=after_epoch,
    )


@torch.no_grad()
def percent_right(model: nn.Module, data: Data, device: str) -> float:
    """Percent of the test set, in float32."""
    model.eval()
    transform = Transform(data.normalisation)
    right = 0
    for rows in np.array_split(np.arange(len(data.test)), 20):
        inputs = transform(data.test.store.fetch(rows, torch.device(device)))
        right += int((model(inputs).argmax(1).cpu().numpy() == data.test.labels[rows]).sum())
    return round(100 * right / len(data.test), 2)


def arguments() -> argparse.ArgumentParser:
    """The three commands and their options."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, epilog=EXAMPLES, formatter_class=raw)
    commands = parser.add_subparsers(dest="command", required=True)
    for name, text, add in (
        ("speed", "samples per second of both loops, and their ratio", _speed_options),
        ("accuracy", "test accuracy of both loops after the same epochs", _accuracy_options),
        ("gpu", "a compiled one-cycle run on a GPU", _gpu_options),
    ):
        command = commands.add_parser(
            name, help=text, description=text, epilog=EXAMPLES, formatter_class=raw
        )
        command.add_argument("--data-dir", help="folder that holds cifar10/; else EXPUNGE_DATA")
        command.add_argument("--json", type=Path, metavar="FILE", help="add the results to FILE")
        command.add_argument("--threads", type=int, help="of torch; by default its own choice")
        add(command)
    return parser


def _speed_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    names = list(ARCHITECTURES)
    add("--models", nargs="+", choices=names, default=["resnet20", "resnet18"])
    add("--steps", type=int, help="steps a round; by default some seconds' worth")
    add("--rounds", type=int, default=5, help="default 5")
    add("--batch-size", type=int, default=256, help="default 256")
    add(
        "--workers",
        type=int,
        nargs="+",
        default=[0],
        help="of the plain loop's DataLoader; several are compared (default 0, best on two cores)",
    )
    add(
        "--precision",
        nargs="+",
        choices=["auto", "float32", "bfloat16"],
        default=["auto"],
        help="of fit; several are compared (default auto)",
    )
    add(
        "--others",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="a round is measured again if other programs did more of the computing (default 0.05)",
    )


def _accuracy_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", choices=list(ARCHITECTURES), default="resnet20", help="default resnet20")
    add("--images", type=int, default=4000, help="to train on (default 4000)")
    add("--epochs", type=int, default=8, help="default 8")
    add("--seeds", type=int, default=5, help="how many, at least 2 (default 5)")
    add("--batch-size", type=int, default=256, help="default 256")
    add("--workers", type=int, default=0, help="of the plain loop (default 0)")


def _gpu_options(command: argparse.ArgumentParser) -> None:
    add = command.add_argument
    add("--model", choices=list(ARCHITECTURES), default="resnet18", help="default resnet18")
    add("--epochs", type=int, default=30, help="default 30")
    add("--lr", type=float, default=0.2, help="the cycle's peak (default 0.2)")
    add("--batch-size", type=int, default=500, help="default 500, which divides 50,000: one graph")
    add("--seed", type=int, default=0, help="default 0")
    command.set_defaults(device="cuda")


if __name__ == "__main__":
    sys.exit(main())
