"""How time and memory grow with rows and classes, stage by stage, from a file to an audited model.

    python benchmarks/scale.py stages --json benchmarks/results/scale-cpu.json
    python benchmarks/scale.py stages --table csv --json benchmarks/results/scale-cpu.json
    python benchmarks/scale.py plain  --json benchmarks/results/scale-cpu.json

`stages`: rows of 20 float32 numbers in an npz, of which a hundredth is forgotten by ids; each size,
number of classes and kind of ids (row numbers, or an array `id`) in a process of its own, so that peaks
are its own. Seconds are those that the process computed, one thread, so that others on the machine do
not count; the share of all computing that those did is told, for they take caches and memory. `growth`
is the slope of log seconds over log rows from each size to the next; under a tenth of a second it says
nothing and is left out. The epoch of fine-tuning stands apart: it is the method's.

`stages --table csv` (or parquet): the same of a table of mixed columns: 8 numbers, a flag, categories of
5 and of 50 kinds, a person for every ten rows, and labels that are words.

`plain`: an epoch of `fit`, and a look at all rows (logits, confidence in the label and prediction kept),
beside loops of plain torch that compute the same in float32, and check, count and record nothing. They
take turns; the ratio is that of medians.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

FEATURES, FORGOTTEN, BATCH = 20, 100, 256
LIMIT, STEEPEST = 60.0, 1.1
"""Seconds from file to audited model, and growth of a stage, that are aimed at."""
OBSERVED = (256, 1024, 4096, 16384)
"""Batches of which the plain look takes its best."""


def write_rows(path: Path, rows: int, classes: int, *, own_ids: bool) -> None:
    """An npz of rows (rows, 20) whose class a small network can learn, and, if asked, ids."""
    import numpy as np

    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)  # each class is there
    x = draw.normal(size=(rows, FEATURES)).astype(np.float32)
    x += draw.normal(size=(classes, FEATURES)).astype(np.float32)[labels]
    arrays = {"x": x, "y": labels}
    if own_ids:
        arrays["id"] = np.char.add("person-", draw.permutation(rows).astype(np.str_))
    np.savez(path, **arrays)


def write_table(path: Path, rows: int, classes: int, *, own_ids: bool) -> None:
    """A CSV or parquet file of mixed columns whose class a small network can learn."""
    import numpy as np
    import pyarrow as pa
    import pyarrow.csv as pacsv
    import pyarrow.parquet as pq

    draw = np.random.default_rng(0)
    labels = draw.integers(0, classes, rows)
    labels[:classes] = np.arange(classes)
    centres = draw.normal(size=(classes, 8))
    columns = {f"number{n}": draw.normal(size=rows) + centres[labels, n] for n in range(8)}
    words = {
        "few": draw.integers(0, 5, rows),
        "many": (labels + draw.integers(0, 5, rows)) % 50,
        "person": draw.integers(0, max(1, rows // 10), rows),
        "label": labels,
    }
    table = pa.table(
        {
            **columns,
            "flag": draw.random(rows) < 0.5,
            **{
                name: pa.array(np.char.add(name, one.astype(np.str_)))
                for name, one in words.items()
            },
            **({"id": pa.array(draw.permutation(rows).astype(np.str_))} if own_ids else {}),
        }
    )
    (pq.write_table if path.suffix == ".parquet" else pacsv.write_csv)(table, path)


class Stages:
    """Seconds computed, and peak memory in MiB, by stage."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, float]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Measure what happens inside."""
        _forget_peak()
        start = time.process_time()
        yield
        self.found[name] = {"seconds": time.process_time() - start, "peak_mib": _peak_mib()}


def _forget_peak() -> None:
    with suppress(OSError):  # else a peak is that of the process so far
        Path("/proc/self/clear_refs").write_text("5")


def _peak_mib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    told = next(line for line in lines if line.startswith("VmHWM"))
    return int(told.split()[1]) / 1024


def measured(
    rows: int, classes: int, own_ids: bool, folder: Path, kind: str = "npz"
) -> dict[str, dict[str, float]]:
    """All stages, in this process. kind: of the file."""
    import torch
    from pydantic import PrivateAttr

    import expunge
    from expunge.data.split import Split
    from expunge.methods.finetune import Finetune
    from expunge.models.table import build_model

    class Timed(Finetune):
        """Fine-tuning that tells what it computed for itself."""

        _seconds: list[float] = PrivateAttr(default_factory=list)

        def unlearn(self, model: Any, data: Any, run: Any) -> Any:
            start = time.process_time()
            model = super().unlearn(model, data, run)
            self._seconds.append(time.process_time() - start)
            return model

    torch.set_num_threads(1)
    file, asked = folder / f"rows.{kind}", folder / "ids.txt"
    (write_rows if kind == "npz" else write_table)(file, rows, classes, own_ids=own_ids)
    source = str(file) if kind == "npz" else f"{file}:group=person"
    _warm()
    stages = Stages()
    with stages.stage("load"):
        data = expunge.load_data(source)
    with stages.stage("split"):
        split = Split.whole(data)
    asked.write_text("\n".join(split.retain[: max(1, rows // FORGOTTEN)]))
    model = build_model("mlp", data.train.shape(), classes, allow_code=False)
    recipe = expunge.Recipe(epochs=1, lr=0.05, batch_size=BATCH, precision="float32")
    with stages.stage("adopt"):
        original = expunge.adopt(model, data, recipe=recipe, fresh="mlp", split=split)
        _ = data.normalisation  # of all rows, which training or adopting needs once
    with stages.stage("request"):
        request = original.asked(f"ids:{asked}")
    with stages.stage("unlearn"):
        method = Timed(epochs=1, lr=0.05, batch_size=BATCH)
        forgot = expunge.unlearn(original, request, method)
    around = stages.found["unlearn"]
    epoch = method._seconds[0]
    around["seconds"] -= epoch
    stages.found["epoch"] = {"seconds": epoch, "peak_mib": around["peak_mib"]}
    with stages.stage("audit"):
        expunge.audit(forgot)
    with stages.stage("save"):
        forgot.save(folder / "forgot")
    with stages.stage("open"):
        expunge.load(folder / "forgot")
    return stages.found


def _warm() -> None:
    """What is loaded once in a process: it does not grow."""
    import expunge

    data = expunge.load_data("digits:200")
    original = expunge.train(data, "mlp", recipe=expunge.Recipe(epochs=1, batch_size=64))
    expunge.audit(expunge.unlearn(original, "random:0.2", "finetune"))


def growth(sizes: list[int], seconds: list[float]) -> list[float | None]:
    """Slope of log seconds over log rows from each size to the next; None under a tenth of a second."""
    steps = zip(itertools.pairwise(sizes), itertools.pairwise(seconds), strict=True)
    return [
        None if min(took) <= 0 or took[1] < 0.1 else math.log(took[1] / took[0], rows[1] / rows[0])
        for rows, took in steps
    ]


def stages(sizes: list[int], classes: list[int], kind: str = "npz") -> dict[str, Any]:
    """All sizes, each in a process of its own; prints a table for each kind of ids and classes."""
    from machine import cpu_seconds, share_of_others

    kinds = [(number, own) for own in (False, True) for number in classes]
    result: dict[str, Any] = {}
    start, done, work = time.monotonic(), 0, sum(sizes) * len(kinds)
    for number, own in kinds:
        found: list[dict[str, dict[str, float]]] = []
        others: list[float] = []
        for rows in sizes:
            before = cpu_seconds()
            found.append(_in_its_own_process(rows, number, own, kind))
            others.append(round(share_of_others(before), 3))
            done += rows
            left = (time.monotonic() - start) * (work - done) / done
            print(f"{rows:,} rows, {number:,} classes; about {left:.0f} s left", file=sys.stderr)
        name = f"{number} classes, {'ids' if own else 'row numbers'}"
        name = name if kind == "npz" else f"{kind}: {name}"
        result[name] = {**_told(name, sizes, found), "share_of_other_programs": others}
        print("others took of what was computed:", ", ".join(f"{one:.0%}" for one in others))
    return result


def _in_its_own_process(
    rows: int, classes: int, own: bool, kind: str
) -> dict[str, dict[str, float]]:
    command = [sys.executable, __file__, "one", "--rows", str(rows), "--classes", str(classes)]
    command += ["--table", kind]
    with tempfile.TemporaryDirectory() as folder:
        command += ["--folder", folder, *(["--own-ids"] if own else [])]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed")
    found: dict[str, dict[str, float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def _told(name: str, sizes: list[int], found: list[dict[str, Any]]) -> dict[str, Any]:
    print(
        f"\n{name}\n{'':10}"
        + "".join(f"{rows:>12,} rows {'MiB':>6}" for rows in sizes)
        + "  growth"
    )
    told: dict[str, Any] = {}
    for stage in found[0]:
        seconds = [one[stage]["seconds"] for one in found]
        slopes = [] if stage == "epoch" else growth(sizes, seconds)
        cells = [f"{one[stage]['seconds']:15.2f} s {one[stage]['peak_mib']:6.0f}" for one in found]
        marks = [f"{'' if one is None else f'{one:.2f}':>6}" for one in slopes]
        steep = " !" if any(one is not None and one > STEEPEST for one in slopes) else ""
        print(f"{stage:10}{''.join(cells)}{''.join(marks)}{steep}")
        peaks = [round(one[stage]["peak_mib"]) for one in found]
        told[stage] = {
            "seconds": [round(s, 3) for s in seconds],
            "peak_mib": peaks,
            "growth": [None if one is None else round(one, 2) for one in slopes],
        }
    totals = [
        sum(
            values["seconds"]
            for stage, values in one.items()
            if stage not in ("epoch", "save", "open")
        )
        for one in found
    ]
    print(f"from file to audited model, beyond the epoch: {totals[-1]:.1f} s (aim {LIMIT:.0f})")
    return {"rows": sizes, "beyond_the_epoch": [round(t, 2) for t in totals], "stages": told}


def plain(rows: int, classes: int, rounds: int) -> dict[str, Any]:
    """Epoch and look, ours beside plain torch, in turn."""
    import torch
    from machine import cpu_seconds, share_of_others

    torch.set_num_threads(1)
    before = cpu_seconds()
    with tempfile.TemporaryDirectory() as folder:
        loops = _loops(Path(folder), rows, classes)
        seconds: dict[str, list[float]] = {name: [] for name in loops}
        for number in range(rounds + 1):  # the first does not count
            for name, loop in loops.items():
                start = time.process_time()
                loop()
                if number:
                    seconds[name].append(time.process_time() - start)
            print(f"round {number} of {rounds}", file=sys.stderr)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    looks = {name: value for name, value in medians.items() if name.startswith("plain look")}
    best = min(looks, key=lambda name: looks[name])
    ratios = {
        "epoch": medians["plain epoch"] / medians["epoch"],
        "look": looks[best] / medians["look"],
    }
    for name, value in medians.items():
        print(f"{name:22} {value:7.2f} s")
    print(
        ", ".join(f"{name} {value:.2f} of plain torch" for name, value in ratios.items()),
        f"({best})",
    )
    others = round(share_of_others(before), 3)
    print(f"others took {others:.0%} of what was computed")
    told = {"rows": rows, "classes": classes, "share_of_other_programs": others}
    return {**told, "seconds": seconds, "ratio": ratios}


def _loops(folder: Path, rows: int, classes: int) -> dict[str, Callable[[], None]]:
    import torch

    import expunge
    from expunge.audits.observe import observe
    from expunge.data.parts import Part
    from expunge.data.split import Split
    from expunge.data.transform import Transform
    from expunge.data.view import DataView
    from expunge.models.table import build_model
    from expunge.training.fit import train_from
    from expunge.training.run import Run, accelerator_on

    write_rows(folder / "rows.npz", rows, classes, own_ids=False)
    data = expunge.load_data(folder / "rows.npz")
    split = Split.whole(data)
    recipe = expunge.Recipe(epochs=1, lr=0.05, batch_size=BATCH, precision="float32")
    run = Run(names=("scale",), recipe=recipe, accelerator=accelerator_on("cpu"))
    view = DataView(data, split, Part.RETAIN, ("scale",), Transform(data.normalisation))
    model = build_model("mlp", (FEATURES,), classes, allow_code=False)
    everything = Split(retain=split.retain + split.validation)
    held = [samples.store.whole() for samples in (data.train, data.test)]
    told = [torch.from_numpy(samples.labels) for samples in (data.train, data.test)]
    inputs, labels = held[0], told[0]
    mine = torch.from_numpy(split.rows(data.train, Part.RETAIN))
    assert inputs is not None and held[1] is not None and data.normalisation is not None
    both, wanted = torch.cat([inputs, held[1]]), torch.cat(told)
    mean, std = torch.tensor(data.normalisation.mean), torch.tensor(data.normalisation.std)
    normal = lambda x, rows: (x.index_select(0, rows) - mean) / std  # noqa: E731

    def plain_epoch() -> None:
        optimizer = torch.optim.SGD(
            model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, foreach=True
        )
        model.train()
        for batch in mine[torch.randperm(len(mine))].split(BATCH):
            loss = torch.nn.functional.cross_entropy(model(normal(inputs, batch)), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

    @torch.no_grad()
    def plain_look(size: int) -> None:
        model.eval()
        found = []
        for batch in torch.arange(len(wanted)).split(size):
            logits = model(normal(both, batch))
            sure = logits.softmax(1).gather(1, wanted[batch, None])
            found.append((logits, sure, logits.argmax(1)))
        for _ in map(torch.cat, zip(*found, strict=True)):
            pass

    return {
        "epoch": lambda: (train_from(model, view, run, recipe), None)[1],
        "plain epoch": plain_epoch,
        "look": lambda: (observe(model, data, everything, run), None)[1],
        **{f"plain look by {n}": lambda n=n: plain_look(n) for n in OBSERVED},
    }


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["stages", "plain", "one"])
    parser.add_argument("--rows", type=int, nargs="+")
    parser.add_argument("--classes", type=int, nargs="+", default=[10, 1000])
    parser.add_argument("--table", choices=["npz", "csv", "parquet"], default="npz", dest="kind")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--own-ids", action="store_true", help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.what == "one":
        one = (given.rows[0], given.classes[0], given.own_ids, given.folder, given.kind)
        print(json.dumps(measured(*one)))
        return
    if given.what == "stages":
        result = stages(given.rows or [10**4, 10**5, 10**6], given.classes, given.kind)
    else:
        result = plain((given.rows or [10**6])[-1], given.classes[0], given.rounds)
    if given.json is not None:
        from machine import machine, save

        section = given.what if given.kind == "npz" else f"{given.what} of {given.kind}"
        save(given.json, section, {"machine": machine("cpu"), **result})


if __name__ == "__main__":
    main()
