"""What a command costs beside a lean script that does the same, imports included.

    python benchmarks/lean.py compare --runs 5 --json benchmarks/results/start-cpu.json
    python benchmarks/lean.py start   --runs 5 --json benchmarks/results/start-cpu.json

`compare` makes a model folder on digits, then lets `expunge unlearn` (fine-tuning, 10 epochs) and
`expunge audit` take turns with the two lean scripts below, which read the same folder, do the same
arithmetic by plain torch and scikit-learn and write weights or print scores. `start` times help,
`list` and mistakes against `import torch`. Each is a process of its own; the ratio is that of medians.

The lean scripts know the one model and the one data set, check nothing, record nothing, and leave
half-written files behind when they are killed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

EPOCHS, BATCH, RATE, CLASS = 10, 256, 0.01, 3


def lean_digits() -> tuple[Any, Any]:
    """All 1,797 digits as the package holds them: uint8 images (n, 1, 8, 8), labels (n,)."""
    import numpy as np
    import torch
    from sklearn.datasets import load_digits

    bunch = load_digits()
    images = np.rint(bunch.images * (255 / 16)).astype(np.uint8)[:, None]
    return torch.from_numpy(images), torch.from_numpy(bunch.target.astype(np.int64))


def lean_model(folder: Path) -> tuple[Any, Any]:
    """The `cnn` of the package in evaluation mode with a folder's weights, and its normalisation."""
    from safetensors.torch import load_file
    from torch import nn

    layers: list[nn.Module] = []
    channels = 1
    for width in (32, 64, 128):
        pool = nn.MaxPool2d(2) if width < 128 else nn.Identity()
        convolution = nn.Conv2d(channels, width, 3, padding=1, bias=False)
        layers += [convolution, nn.BatchNorm2d(width), nn.ReLU(), pool]
        channels = width

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.features = nn.Sequential(*layers)
            self.classifier = nn.Linear(128, 10)

        def forward(self, inputs: Any) -> Any:
            return self.classifier(self.features(inputs).mean(dim=(2, 3)))

    model = Net()
    model.load_state_dict(load_file(folder / "model.safetensors"))
    card = json.loads((folder / "model.json").read_text())
    mean, std = card["mean"][0], card["std"][0]
    return model.eval(), lambda images: (images.float() / 255 - mean) / std


def lean_unlearn(folder: Path, out: Path) -> None:
    """Fine-tune on all but one class; write weights and ids."""
    import torch
    from safetensors.torch import save_file

    images, labels = lean_digits()
    model, normal = lean_model(folder)
    split = json.loads((folder / "split.json").read_text())
    learned = torch.tensor([int(name) for name in split["retain"]])
    struck = labels[learned] == CLASS
    retain = learned[~struck]
    inputs, targets = normal(images[retain]), labels[retain]
    optimizer = torch.optim.SGD(
        model.parameters(), lr=RATE, momentum=0.9, weight_decay=5e-4, foreach=True
    )
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    fast = bool(capabilities.get("avx512_bf16") or capabilities.get("amx_bf16"))
    fast = fast and torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    torch.manual_seed(0)
    model.train().to(memory_format=torch.channels_last)
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(inputs)).split(BATCH):
            batch = inputs[rows].contiguous(memory_format=torch.channels_last)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=fast):
                loss = torch.nn.functional.cross_entropy(model(batch), targets[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    out.mkdir(parents=True)
    save_file({k: v.contiguous() for k, v in model.state_dict().items()}, out / "model.safetensors")
    parts = {"retain": retain, "forget": learned[struck]}
    plain = {name: [str(row) for row in rows.tolist()] for name, rows in parts.items()}
    plain["validation"] = split["validation"]
    (out / "split.json").write_text(json.dumps(plain))
    (out / "model.json").write_text((folder / "model.json").read_text())
    print(f"{len(parts['forget'])} forgotten, last loss {float(loss):.3f}")


def lean_audit(folder: Path, original: Path, retrained: Path) -> None:
    """UA, RA, TA, TA_forget and the membership attack of three models."""
    import numpy as np
    import torch
    from sklearn.svm import SVC

    images, labels = lean_digits()
    split = json.loads((folder / "split.json").read_text())
    rows = {
        name: torch.tensor([int(n) for n in split[name]])
        for name in ("retain", "forget", "validation")
    }
    known = set(torch.cat(list(rows.values())).tolist())
    rows["test"] = torch.tensor([row for row in range(len(labels)) if row not in known])
    gone = labels[rows["test"]] == CLASS
    parts = {
        "retain": rows["retain"],
        "forget": rows["forget"],
        "test": rows["test"][~gone],
        "test_forget": rows["test"][gone],
    }
    for path in (folder, original, retrained):
        model, normal = lean_model(path)
        model.to(memory_format=torch.channels_last)
        right, sure = {}, {}
        with torch.no_grad():
            for name, index in parts.items():
                logits = torch.cat(
                    [
                        model(normal(images[some]).contiguous(memory_format=torch.channels_last))
                        for some in index.split(64)
                    ]
                )
                right[name] = 100 * float((logits.argmax(1) == labels[index]).double().mean())
                probability = logits.double().softmax(1)
                sure[name] = probability.gather(1, labels[index][:, None]).numpy()
        m = min(len(sure["retain"]), len(sure["test"]))
        draw = np.random.default_rng(0)
        drawn = [
            sure[name][draw.choice(len(sure[name]), m, replace=False)]
            for name in ("retain", "test")
        ]
        attack = SVC(C=3, gamma="auto", kernel="rbf").fit(
            np.concatenate(drawn), np.repeat([1, 0], m)
        )
        mia = 100 * float((attack.predict(sure["forget"]) == 0).mean())
        scores = {
            "UA": 100 - right["forget"],
            "RA": right["retain"],
            "TA": right["test"],
            "TA_forget": right["test_forget"],
            "MIA": mia,
        }
        print(json.dumps({"model": path.name, **scores}))


def timed(command: list[str], folder: Path, fresh: str | None = None) -> float:
    """Seconds of one process from start to end; `fresh` names a folder that must not be there."""
    if fresh is not None and (folder / fresh).exists():
        (folder / fresh).rename(folder / f"{fresh}-{time.monotonic_ns()}")
    start = time.perf_counter()
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - start
    if done.returncode not in (0, 2):
        raise SystemExit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return seconds


def taking_turns(
    commands: dict[str, tuple[list[str], str | None]], folder: Path, runs: int
) -> dict[str, list[float]]:
    """Seconds of each command over `runs` rounds, after one that does not count."""
    found: dict[str, list[float]] = {name: [] for name in commands}
    for number in range(runs + 1):
        for name, (command, fresh) in commands.items():
            seconds = timed(command, folder, fresh)
            if number:
                found[name].append(seconds)
        print(f"round {number} of {runs}", file=sys.stderr)
    return found


def told(found: dict[str, list[float]], pairs: dict[str, str]) -> dict[str, Any]:
    """Medians in seconds, and ratios of medians."""
    medians = {name: statistics.median(values) for name, values in found.items()}
    for name, value in medians.items():
        low, high = min(found[name]), max(found[name])
        against = pairs.get(name)
        ratio = f"  {value / medians[against]:.2f} x {against}" if against else ""
        print(f"{name:32} {value:6.2f} s ({low:.2f} to {high:.2f}){ratio}")
    return {
        "seconds": {name: [round(v, 3) for v in values] for name, values in found.items()},
        "median_seconds": {name: round(value, 3) for name, value in medians.items()},
        "ratio": {name: round(medians[name] / medians[other], 3) for name, other in pairs.items()},
    }


def compare(runs: int) -> dict[str, Any]:
    """`unlearn` and `audit` of digits against the lean scripts."""
    expunge, lean = [sys.executable, "-m", "expunge"], [sys.executable, os.path.abspath(__file__)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        train = ["train", "--data", "digits", "--model", "cnn", "--epochs", "20", "--lr", "0.05"]
        timed([*expunge, *train, "--batch-size", "128", "--out", "original"], folder)
        request = ["unlearn", "original", "--forget", f"class:{CLASS}", "--method"]
        timed([*expunge, *request, "retrain", "--out", "retrained"], folder)
        found = taking_turns(
            {
                "lean unlearn": ([*lean, "unlearn", "original", "lean"], "lean"),
                "expunge unlearn": ([*expunge, *request, "finetune", "--out", "forgot"], "forgot"),
                "lean audit": ([*lean, "audit", "forgot", "original", "retrained"], None),
                "expunge audit": (
                    [
                        *expunge,
                        "audit",
                        "forgot",
                        "--original",
                        "original",
                        "--retrained",
                        "retrained",
                    ],
                    None,
                ),
            },
            folder,
            runs,
        )
    return told(found, {"expunge unlearn": "lean unlearn", "expunge audit": "lean audit"})


def start(runs: int) -> dict[str, Any]:
    """Help, lists and mistakes against `import torch`."""
    expunge = [sys.executable, "-m", "expunge"]
    mistake = ["unlearn", "original", "--forget", "clas:3", "--method", "finetune", "--out", "x"]
    commands: dict[str, tuple[list[str], str | None]] = {
        "import torch": ([sys.executable, "-c", "import torch"], None),
        "--help": ([*expunge, "--help"], None),
        "unlearn --help": ([*expunge, "unlearn", "--help"], None),
        "list": ([*expunge, "list"], None),
        "list methods": ([*expunge, "list", "methods"], None),
        "a mistake in --forget": ([*expunge, *mistake], None),
        "a mistake in --data": ([*expunge, "train", "--data", "digit", "--out", "x"], None),
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        timed(
            [
                *expunge,
                "train",
                "--data",
                "digits:100",
                "--model",
                "mlp",
                "--epochs",
                "1",
                "--out",
                "original",
            ],
            folder,
        )
        found = taking_turns(commands, folder, runs)
    return told(found, {name: "import torch" for name in commands if name != "import torch"})


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["compare", "start", "unlearn", "audit"])
    parser.add_argument("folders", nargs="*", type=Path)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    if given.what in ("unlearn", "audit"):
        {"unlearn": lean_unlearn, "audit": lean_audit}[given.what](*given.folders)
        return
    result = (compare if given.what == "compare" else start)(given.runs)
    if given.json is not None:
        from machine import machine, save

        save(given.json, given.what, {"machine": machine("cpu"), "runs": given.runs, **result})


if __name__ == "__main__":
    main()
