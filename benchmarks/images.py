"""Images: decoding, loading from the cache, observing; each beside the leanest way there is.

    python benchmarks/images.py decode  --rounds 7
    python benchmarks/images.py load    --rounds 5 --data-dir DATA
    python benchmarks/images.py observe --rounds 3 --data-dir DATA [--images 5000] [--model cnn]

`decode`: 10,000 small PNGs and fewer larger images, from their bytes to an array, against one thread
that opens each with PIL and copies it into an array made before. `load`: all of CIFAR-10 by
`load_data`, each in a process of its own after its imports, with an empty cache and from it.
`observe`: outputs by `observe_test` against the bare forward pass over the same batches, evaluating,
without gradients, channels last, float32, normalised in advance.

Seconds are medians of alternating rounds: of the clock, and of the process itself (all its threads).
Beside them stands the share of all computing that other programs did meanwhile.
`ATEN_CPU_CAPABILITY=avx2 ONEDNN_MAX_CPU_ISA=AVX2` shows a processor without AVX-512.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import cpu_seconds, machine, save, share_of_others
from numpy.typing import NDArray
from PIL import Image

from expunge.audits.observe import BATCH, observe_test
from expunge.data import images
from expunge.data.load import load_data
from expunge.data.samples import resident
from expunge.data.transform import Transform
from expunge.models.table import build_model
from expunge.training.run import Run, accelerator_on

KINDS = (("PNG", 32, 10_000), ("JPEG", 32, 10_000), ("PNG", 64, 3000), ("JPEG", 224, 400))
"""Format, pixels of a side, and how many."""
Seconds = dict[str, list[tuple[float, float]]]


def rounds(ways: dict[str, Callable[[], Any]], count: int) -> Seconds:
    """Seconds by the clock and of the processor of each way, in turns, after a look at each."""
    found: Seconds = {name: [] for name in ways}
    for number in range(count + 1):
        for name, way in ways.items():
            clock, processor = time.perf_counter(), time.process_time()
            way()
            seconds = time.perf_counter() - clock, time.process_time() - processor
            if number:
                found[name].append(seconds)
    return found


def compared(found: Seconds, plain: str, ours: str) -> dict[str, Any]:
    """Medians, and how many times faster than the plain way ours is."""
    clock, processor = (
        {name: statistics.median(one[kind] for one in seconds) for name, seconds in found.items()}
        for kind in (0, 1)
    )
    return {
        "seconds": {name: round(value, 3) for name, value in clock.items()},
        "processor_seconds": {name: round(value, 3) for name, value in processor.items()},
        "ratio": round(clock[plain] / clock[ours], 3),
        "processor_ratio": round(processor[plain] / processor[ours], 3),
    }


# ---- decoding


def pictures(kind: str, side: int, count: int) -> list[bytes]:
    """Encoded images in colour, smooth as photographs are."""
    generator = np.random.default_rng(0)
    made = []
    for _ in range(count):
        rough = generator.integers(0, 256, (side // 4, side // 4, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        smooth = Image.fromarray(rough).resize((side, side), Image.Resampling.BICUBIC)
        smooth.save(buffer, kind)
        made.append(buffer.getvalue())
    return made


def plain_decode(sources: Sequence[bytes], side: int) -> NDArray[np.uint8]:
    """One thread, no checks: (n, height, width, channels)."""
    out = np.empty((len(sources), side, side, 3), dtype=np.uint8)
    for row, source in enumerate(sources):
        out[row] = np.asarray(Image.open(io.BytesIO(source)))
    return out


def our_decode(sources: Sequence[bytes]) -> torch.Tensor | None:
    """As `load_data` does it, headers and checks included; nothing is kept."""
    part = images.ImagePart(lambda: sources, None, "pictures", "")
    return images.ImageStore(part, np.arange(len(sources))).whole()


def decode(options: argparse.Namespace) -> dict[str, Any]:
    """Each kind of image, both ways."""
    images.LONG_SECONDS = float("inf")  # nothing is to come from the cache
    found = {}
    for kind, side, count in KINDS:
        sources = pictures(kind, side, count)
        ours = our_decode(sources)
        same = ours is not None and np.array_equal(
            ours.permute(0, 2, 3, 1).numpy(), plain_decode(sources, side)
        )
        if not same:
            raise SystemExit(f"{kind} of {side} pixels: the two ways differ")
        ways = {"plain": partial(plain_decode, sources, side), "ours": partial(our_decode, sources)}
        name = f"{count:,} {kind}, {side}x{side}"
        found[name] = compared(rounds(ways, options.rounds), "plain", "ours")
        print(f"{name:24s} {found[name]}", flush=True)
    return found


# ---- loading

LOAD = """
import json, resource, sys, time
from expunge.data.load import load_data
import expunge.data.parquet
clock, processor = time.perf_counter(), time.process_time()
data = load_data("cifar10", data_dir=sys.argv[1])
seconds = time.perf_counter() - clock, time.process_time() - processor
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print(json.dumps([*seconds, peak / 1024 if sys.platform == "linux" else peak / 2**20]))
"""


def load(options: argparse.Namespace) -> dict[str, Any]:
    """All of CIFAR-10: seconds by the clock, of the processor, and the process' peak memory."""
    found: dict[str, list[list[float]]] = {"cold": [], "cached": []}
    for _ in range(options.rounds):
        with tempfile.TemporaryDirectory() as folder:
            for way in found.values():
                command = [sys.executable, "-c", LOAD, str(options.data_dir)]
                environment = {**os.environ, "XDG_CACHE_HOME": folder}
                done = subprocess.run(
                    command, env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                way.append(json.loads(done.stdout))
    names = ("seconds", "processor_seconds", "peak_mib")
    told = {
        way: {
            name: round(statistics.median(column), 2)
            for name, column in zip(names, zip(*values, strict=True), strict=True)
        }
        for way, values in found.items()
    }
    print(told)
    return told


# ---- observing


def observe(options: argparse.Namespace) -> dict[str, Any]:
    """Outputs on many images, beside the bare forward pass."""
    data = load_data("cifar10", data_dir=options.data_dir)
    some = data.train.subset(np.arange(min(options.images, len(data.train))))
    pixels = resident(some)
    if pixels is None:
        raise SystemExit("the images do not fit into memory")
    model = build_model(options.model, some.shape(), len(data.classes), allow_code=False)
    model = model.eval().to(memory_format=torch.channels_last)
    transform = Transform(data.normalisation)
    size = BATCH["cpu"]
    batches = [
        transform(part).contiguous(memory_format=torch.channels_last) for part in pixels.split(size)
    ]
    tested = type(data)(data.train, some, data.classes, fixed_normalisation=data.normalisation)
    run = Run(task=data.task, accelerator=accelerator_on("cpu"))

    def bare() -> torch.Tensor:
        with torch.no_grad():
            return torch.cat([model(batch) for batch in batches])

    def ours() -> Any:
        return observe_test(model, tested, run).correct

    told = compared(rounds({"bare": bare, "ours": ours}, options.rounds), "bare", "ours")
    name = f"{len(some):,} images, {options.model}, batches of {size}"
    print(f"{name}: {told}")
    return {name: told}


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=("decode", "load", "observe"))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--data-dir", default=os.environ.get("EXPUNGE_DATA"))
    parser.add_argument("--images", type=int, default=50_000)
    parser.add_argument("--model", default="cnn")
    parser.add_argument("--threads", type=int)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    if options.command != "decode" and options.data_dir is None:
        parser.error(
            "CIFAR-10: name the folder that holds cifar10/ with --data-dir or EXPUNGE_DATA"
        )
    about = machine("cpu")
    print(about, flush=True)
    before = cpu_seconds()
    result = {"decode": decode, "load": load, "observe": observe}[options.command](options)
    others = round(share_of_others(before), 3)
    print(f"others took {others:.0%} of what was computed")
    if options.json is not None:
        save(
            options.json,
            options.command,
            {"machine": about, "share_of_other_programs": others, **result},
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
