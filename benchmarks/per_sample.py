"""What per-sample gradients cost here, beside the obvious loop over batches of one.

fisher   the exact Fisher diagonal over all labels, samples per second, in alternation with the loop
sampled  one drawn label a sample against ten: seconds, and the error of the estimate
gram     the Gram matrix of n samples: seconds and peak memory

The loop is a forward pass on one image, then for each label a backward pass whose squares are
summed, in float32. Models are trained for a few steps, so that activations, outputs and BatchNorm
statistics are no fresh model's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import torch
from machine import machine
from torch import Tensor, nn
from torch.nn import functional

from expunge import Run
from expunge.data.batch import Batch
from expunge.data.samples import row_ids
from expunge.models.table import ARCHITECTURES, build_model
from expunge.per_sample import fisher_diagonal, gram_matrix
from expunge.training.run import accelerator_on

CLASSES = 10
TARGETS = {"cnn": 1.7, "resnet20": 2.0, "resnet18": 0.95}
"""Times the loop's speed that are aimed at, on two cores."""
GPU_TARGET = 20.0
SAMPLED_TARGET = 6.0
"""Times cheaper that one drawn label should be than all ten."""
LOOP_SAMPLES = {"resnet18": 12, "resnet20": 24}
"""Samples that the loop is timed on, per round; 64 for smaller models."""
SAMPLES = {"resnet18": 64}
"""Samples of `fisher_diagonal` per round; 256 for smaller models."""
STEPS = {"resnet18": 6}
"""Training steps; 12 for smaller models."""


def main() -> int:
    options = arguments().parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    devices = ["cpu"] if options.device == "cpu" else ["cuda"]
    if options.device == "auto":
        devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    about = machine("cuda" if torch.cuda.is_available() else "cpu")
    print(", ".join(f"{key} {value}" for key, value in about.items()), flush=True)
    if not torch.cuda.is_available():
        print("no GPU: this torch sees no CUDA device, so all numbers are the processor's")
    results: dict[str, Any] = {"machine": about}
    for device in devices:
        rows = [fisher(name, device, options) for name in options.models]
        results[device] = {"fisher": rows}
        if options.gram:
            results[device]["gram"] = gram(options.gram_model, device, options)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(results, indent=2) + "\n")
        print(f"written to {options.json}")
    return 0


# ---- the Fisher diagonal


def fisher(name: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Speed over the loop, cost and error of one drawn label, error against float64."""
    model, images = trained(name, device, options.samples or SAMPLES.get(name, 256))
    run = Run(names=("benchmark", 0), accelerator=accelerator_on(device))
    batches = [batch_of(part) for part in images.split(128)]
    few = images[: LOOP_SAMPLES.get(name, 64)]

    def ours(labels: Any) -> Callable[[], dict[str, Tensor]]:
        return lambda: fisher_diagonal(model, batches, run, labels=labels)

    ours("all")(), loop(model, few[:2])  # threads started, kernels chosen
    times: dict[str, list[float]] = {"loop": [], "all": [], "sampled": [], "forward": []}
    for _ in range(options.rounds):
        times["loop"].append(seconds(lambda: loop(model, few), device) / len(few))
        for label in ("all", "sampled"):
            times[label].append(seconds(ours(label), device) / len(images))
        times["forward"].append(seconds(lambda: forward(model, images), device) / len(images))
    exact = float64(model, images[: options.exact], run)
    fast = fisher_diagonal(model, [batch_of(images[: options.exact])], run)
    whole, estimate = ours("all")(), ours("sampled")()
    row = {
        "model": name,
        "device": device,
        "samples": len(images),
        "loop_samples": len(few),
        "loop_per_second": summary([1 / t for t in times["loop"]]),
        "per_second": summary([1 / t for t in times["all"]]),
        "ratio": summary([a / b for a, b in zip(times["loop"], times["all"], strict=True)]),
        "sampled_cheaper": summary(
            [a / b for a, b in zip(times["all"], times["sampled"], strict=True)]
        ),
        "sampled_cheaper_than_the_loop": summary(
            [a / b for a, b in zip(times["loop"], times["sampled"], strict=True)]
        ),
        # both share one forward pass, and all labels take CLASSES - 1 directions more
        "sampled_cheaper_at_best": summary(
            [
                a / (f + (a - f) / (CLASSES - 1))
                for a, f in zip(times["all"], times["forward"], strict=True)
            ]
        ),
        "error_of_sampled": error(estimate, whole),
        "error_against_float64": error(fast, exact),
        "exact_samples": min(options.exact, len(images)),
    }
    report(row)
    return row


def report(row: dict[str, Any]) -> None:
    """One model's lines."""
    aim = GPU_TARGET if row["device"] == "cuda" else TARGETS.get(row["model"])
    reached = (
        ""
        if aim is None
        else (f"; aim {aim:g}, {'reached' if row['ratio']['median'] >= aim else 'missed'}")
    )
    print(
        f"\n{row['model']} on {row['device']}, {row['samples']} images\n"
        f"  loop over batches of one  {spread(row['loop_per_second'])} samples/s\n"
        f"  fisher_diagonal           {spread(row['per_second'])} samples/s, "
        f"{spread(row['ratio'])} times{reached}\n"
        f"  relative L1 error against float64, {row['exact_samples']} samples: "
        f"{row['error_against_float64']:.2%}\n"
        f"  one drawn label: {spread(row['sampled_cheaper'])} times cheaper than all ten here, "
        f"{spread(row['sampled_cheaper_than_the_loop'])} than the loop over ten (aim "
        f"{SAMPLED_TARGET:g}), error of the estimate {row['error_of_sampled']:.1%}\n"
        f"  by the time of the forward pass, which both share, it could be at best "
        f"{spread(row['sampled_cheaper_at_best'])} times cheaper",
        flush=True,
    )


def forward(model: nn.Module, images: Tensor) -> None:
    """Forward passes alone, in float32 and channels last as the engine takes them."""
    with torch.no_grad():
        for part in images.split(128):
            model(part.contiguous(memory_format=torch.channels_last))


def loop(model: nn.Module, images: Tensor) -> dict[str, Tensor]:
    """The obvious code: batches of one, a backward pass for each label, squares summed."""
    parameters = dict(model.named_parameters())
    total = {name: torch.zeros_like(value) for name, value in parameters.items()}
    for image in images:
        logits = model(image.unsqueeze(0))
        p = logits.detach().softmax(1)[0].tolist()
        for label in range(CLASSES):
            target = torch.tensor([label], device=logits.device)
            loss = functional.cross_entropy(logits, target)
            gradients = torch.autograd.grad(
                loss, list(parameters.values()), retain_graph=label + 1 < CLASSES
            )
            for value, gradient in zip(total.values(), gradients, strict=True):
                value.addcmul_(gradient, gradient, value=p[label])
    return {name: value / len(images) for name, value in total.items()}


def float64(model: nn.Module, images: Tensor, run: Run) -> dict[str, Tensor]:
    """The diagonal in float64, whose parity with slow code the tests check."""
    double = build_like(model)
    return fisher_diagonal(double, [batch_of(images.double())], run)


def error(found: dict[str, Tensor], exact: dict[str, Tensor]) -> float:
    """Sum of absolute differences over all weights, relative to the sum of the exact ones."""
    differences = sum(float((found[k].double() - v).abs().sum()) for k, v in exact.items())
    return differences / sum(float(v.double().sum()) for v in exact.values())


# ---- the Gram matrix


def gram(name: str, device: str, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and peak resident memory of one Gram matrix, in each precision."""
    model, images = trained(name, device, options.gram)
    run = Run(names=("benchmark", 0), accelerator=accelerator_on(device))
    batches = [batch_of(part) for part in images.split(250)]
    found = []
    matrices = {}
    for precision in options.gram_precision:
        with peak_memory() as peak:
            start = time.perf_counter()
            matrices[precision] = gram_matrix(model, batches, run, precision=precision)
            if device == "cuda":
                torch.cuda.synchronize()
            took = time.perf_counter() - start
        row = {
            "model": name,
            "device": device,
            "samples": len(images),
            "precision": precision,
            "seconds": round(took, 1),
            "peak_gib": round(peak[0] / 2**30, 2),
        }
        if "float32" in matrices and precision != "float32":
            exact = matrices["float32"]
            row["error"] = float((matrices[precision] - exact).norm() / exact.norm())
        print(
            "\nGram matrix of {samples} samples, {model} on {device}, {precision}: {seconds} s, "
            "peak {peak_gib} GiB resident".format(**row)
            + (f", relative error {row['error']:.2%}" if "error" in row else ""),
            flush=True,
        )
        found.append(row)
    return {"runs": found}


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Largest resident memory of this process meanwhile, in bytes, looked at every 20 ms."""
    process, peak, done = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.02):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield peak
    finally:
        done.set()
        watcher.join()


# ---- what they share


def trained(name: str, device: str, count: int) -> tuple[nn.Module, Tensor]:
    """A model after a few steps on images with a class's colour in them, and normalised images."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(CLASSES, (max(count, 128),), generator=generator)
    colours = torch.randint(60, 196, (CLASSES, 3, 1, 1), generator=generator)
    noise = torch.randint(-60, 60, (len(labels), 3, 32, 32), generator=generator)
    images = ((colours[labels] + noise).float() / 255 - 0.5) / 0.25
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(name, (3, 32, 32), CLASSES, allow_code=True)
        model.architecture = name
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for step in range(STEPS.get(name, 12)):
        rows = torch.arange(step * 64, step * 64 + 64) % len(labels)
        optimizer.zero_grad()
        functional.cross_entropy(model(images[rows]), labels[rows]).backward()
        optimizer.step()
    optimizer.zero_grad()
    return model.eval().to(device), images[:count].to(device)


def build_like(model: nn.Module) -> nn.Module:
    """A float64 copy."""
    copy = build_model(str(model.architecture), (3, 32, 32), CLASSES, allow_code=True)
    copy.load_state_dict(model.state_dict())
    return copy.double().eval().to(next(model.parameters()).device)


def batch_of(images: Tensor) -> Batch:
    """Images as a batch; no label is looked at but by the Gram matrix."""
    labels = torch.arange(len(images), device=images.device) % CLASSES
    return Batch(row_ids(len(images)), images, labels, None)


def seconds(work: Callable[[], object], device: str) -> float:
    if device == "cuda":
        torch.cuda.synchronize()  # what was begun before is no part of it
    start = time.perf_counter()
    work()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start


def summary(values: list[float]) -> dict[str, float]:
    numbers = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {key: round(value, 3) for key, value in numbers.items()}


def spread(values: dict[str, float]) -> str:
    return "{median:.3g} ({min:.3g} to {max:.3g})".format(**values)


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = list(ARCHITECTURES)
    parser.add_argument("--models", nargs="*", choices=names, default=list(TARGETS))
    parser.add_argument(
        "--samples", type=int, help="images a round; by default some seconds' worth"
    )
    parser.add_argument("--exact", type=int, default=16, help="images in float64 (default 16)")
    parser.add_argument("--rounds", type=int, default=3, help="default 3")
    parser.add_argument("--threads", type=int, help="of torch; by default its own choice")
    parser.add_argument("--device", choices=["auto", "cpu", "cuda"], default="auto")
    parser.add_argument(
        "--gram", type=int, default=1000, metavar="N", help="0: none (default 1000)"
    )
    parser.add_argument("--gram-model", choices=names, default="resnet18")
    parser.add_argument(
        "--gram-precision",
        nargs="+",
        choices=["float32", "bfloat16"],
        default=["float32", "bfloat16"],
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the results to FILE")
    return parser


if __name__ == "__main__":
    sys.exit(main())
