"""UNSIR against the structure of its authors' notebook, in one run, phase by phase.

    python benchmarks/unsir.py --data-dir DATA --threads 2 --rounds 3 --json results.json

The notebook's structure: one class after another, gradients of the weights computed and thrown away,
noise and retain samples copied through the CPU into a Python list, a DataLoader over that list,
float32. It takes the same steps here: noise in evaluation mode, the same images as often, the same
optimisers, batches and passes. With `unsir:notebook` the notebook learns 256 images per class and uses
3, and the library learns these 3. The two take turns; ratios are of neighbours.
"""

from __future__ import annotations

import argparse
import copy
import json
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from expunge.api import train, unlearn
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.methods import make_method
from expunge.methods.unsir import Unsir
from expunge.place import Place
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.session import open_session

PHASES = ("noise", "impair", "repair", "whole")
Sample = tuple[Tensor, int]


def notebook(
    model: nn.Module,
    retain: list[Sample],
    classes: list[int],
    method: Unsir,
    shape: tuple[int, ...],
    device: torch.device,
) -> dict[str, float]:
    """The three phases as the notebook has them; returns their seconds. Changes the model."""
    seconds = {}
    begin = start = now()
    noises = {}
    model.eval()
    for label in classes:
        noise = nn.Parameter(torch.randn(method.noise_batch, *shape, device=device))
        optimizer = torch.optim.Adam([noise], lr=method.noise_lr)
        for _ in range(method.noise_steps):
            labels = torch.zeros(method.noise_batch, dtype=torch.int64, device=device) + label
            loss = -functional.cross_entropy(model(noise), labels)
            loss = loss + method.noise_weight * noise.square().flatten(1).sum(1).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        noises[label] = noise
    seconds["noise"], start = now() - start, now()

    samples: list[Sample] = []
    for label in classes:
        for _ in range(method.noise_repeats):
            batch = noises[label].detach().cpu()
            used = method.noise_used or method.noise_batch
            samples += [(batch[row], label) for row in range(used)]
    samples += retain
    epoch(model, samples, method.impair_lr, method.batch_size, device)
    seconds["impair"], start = now() - start, now()
    epoch(model, retain, method.repair_lr, method.batch_size, device)
    end = now()
    return {**seconds, "repair": end - start, "whole": end - begin}


def now() -> float:
    """Seconds, after all that a GPU was asked to do."""
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()


def epoch(
    model: nn.Module, samples: list[Sample], lr: float, size: int, device: torch.device
) -> None:
    """One pass over a list, shuffled."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    model.train()
    loader: Any = DataLoader(samples, batch_size=size, shuffle=True)  # type: ignore[arg-type]
    for inputs, labels in loader:
        optimizer.zero_grad()
        functional.cross_entropy(model(inputs.to(device)), labels.to(device)).backward()
        optimizer.step()


def ours(original: Trained, split: Split, method: Unsir) -> dict[str, float]:
    """The library's seconds, as its record has them: warmed up, a private copy made before."""
    record = unlearn(original, split, method).record
    return {**record.log["seconds"], "whole": record.cost.seconds}


def retain_list(data: Data, split: Split, method: Unsir) -> list[Sample]:
    """The notebook's retain samples: normalised float32 images in a Python list."""
    session = open_session(
        ("bench", 0),
        "bench",
        data,
        split,
        Part.RETAIN,
        recipe=None,
        fresh=None,
        mask=None,
        place=Place(device="cpu"),
    )
    part = session.view.take(Part.RETAIN, method.retain_per_class, per_class=True)
    samples: list[Sample] = []
    for batch in part.batches(512, shuffle=False, augment=False):
        assert batch.labels is not None
        images = batch.inputs.contiguous()
        samples += [(image.clone(), int(y)) for image, y in zip(images, batch.labels, strict=True)]
    return samples


def measure(options: argparse.Namespace, name: str, data: Data) -> dict[str, Any]:
    """Rounds of notebook, library, notebook, library, ... for one amount of noise."""
    method = make_method(name, allow_code=True)
    assert isinstance(method, Unsir)
    recipe = Recipe(epochs=1, lr=0.01, optimizer="adam", schedule="constant", augmentation="none")
    original = train(data, options.model, recipe=recipe)
    split = Split.classes(data, [0, 2], base=original.split)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    retain = retain_list(data, split, method)
    shape = tuple(retain[0][0].shape)
    rows: dict[str, list[dict[str, float]]] = {"notebook": [], "expunge": []}
    for number in range(options.rounds):
        model = copy.deepcopy(original.model).to(device)
        rows["notebook"].append(notebook(model, retain, [0, 2], method, shape, device))
        rows["expunge"].append(ours(original, split, method))
        print(
            f"{name}, round {number + 1} of {options.rounds}: "
            f"{rows['notebook'][-1]['whole']:.1f} s, {rows['expunge'][-1]['whole']:.1f} s",
            flush=True,
        )
    return {"method": name, "retain_samples": len(retain), "seconds": rows}


def report(found: dict[str, Any]) -> None:
    """Seconds of each phase, and the ratio with its lowest and highest round."""
    print(f"\n{found['method']}, {found['retain_samples']} retain samples; seconds, median")
    print(f"{'phase':8} {'notebook':>9} {'expunge':>9}  times (lowest, highest)")
    for phase in PHASES:
        slow, fast = (
            [row[phase] for row in found["seconds"][who]] for who in ("notebook", "expunge")
        )
        ratios = [a / b for a, b in zip(slow, fast, strict=True)]
        print(
            f"{phase:8} {statistics.median(slow):9.2f} {statistics.median(fast):9.2f}  "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f}, {max(ratios):.2f})"
        )


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--data", default="cifar10")
    parser.add_argument("--data-dir", default=None)
    parser.add_argument("--model", default="resnet18_imagenet")
    parser.add_argument("--methods", nargs="+", default=["unsir:text", "unsir:notebook"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=None)
    parser.add_argument("--json", type=Path, default=None)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    about = f"{platform.machine()}, torch {torch.__version__}, {torch.get_num_threads()} threads, "
    about += torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    print(f"{options.model}, {options.data}, {about}, load {os.getloadavg()[0]:.1f}", flush=True)
    data = load_data(options.data, data_dir=options.data_dir)
    found = [measure(options, name, data) for name in options.methods]
    for each in found:
        report(each)
    if options.json:
        content = {"about": about, "data": options.data, "model": options.model, "results": found}
        options.json.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
