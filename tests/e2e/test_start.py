"""Help, lists and mistakes answer at once: nothing heavy is imported, nothing is decoded before.

All that is asked here is asked of one new process, which says after each answer what it has
imported. How many seconds that takes is measured in benchmarks/lean.py.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commands import ENVIRONMENT, train_digits

from expunge.audits import AUDITS, mia
from expunge.cli.table import COMMANDS
from expunge.data.spec import BUILT_IN
from expunge.methods import METHODS
from expunge.models.table import ARCHITECTURES
from expunge.pruning import PRUNERS
from expunge.scores.table import FEATURES, OF_AUDITS, SCORES

HEAVY = [
    "accelerate",
    "datasets",
    "jinja2",
    "matplotlib",
    "numpy",
    "pandas",
    "PIL",
    "psutil",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
    "sqlalchemy",
    "transformers",
]
OURS = ["expunge.methods", "expunge.audits", "expunge.folders.make", "expunge.study.file"]
"""Of the package itself, what lists and mistakes may need, and help may not."""
MODULES = sorted(
    {f"expunge.cli.{line.work.split(':')[0]}" for line in COMMANDS.values()}
    - {"expunge.cli.", "expunge.cli.root"}
)
"""Of commands: help of a group that does nothing itself, and a misspelt command, need none."""
TO = ["--out", "x"]
DIGITS = ["train", "--data", "digits"]
ASK = ["unlearn", "original", "--forget"]
FINE = ["--method", "finetune", *TO]
STUDY = """\
name: small
data: [digits]
models: [mlp]
recipes: {quick: {epochs: 1}}
methods: {finetune: {}}
"""
# Of a command, the words that its one line must hold.
UNKNOWN: list[tuple[list[str], list[str]]] = [
    (["frobnicate"], ["frobnicate", "--help"]),
    (["unlaern"], ["'unlaern'. Did you mean 'unlearn'?"]),
    (["study", "rnu"], ["'rnu'. Did you mean 'run'?"]),
]
MISTAKES: list[tuple[list[str], list[str]]] = [
    (["serve", "tokn"], ["'tokn'. Did you mean 'token'?"]),
    (["train", "--data", "digit", *TO], ["'digit'", "did you mean 'digits'"]),
    (["train", "--data", "cifar10", *TO], ["--data-dir", "EXPUNGE_DATA"]),
    (["train", "--data", "digits@32", *TO], ["resizes encoded images"]),
    (["train", "--data", "digits+patch:sice=3", *TO], ["did you mean 'size'"]),
    (["train", "--data", "digits+blend:file=no.png", *TO], ["cannot read the pattern no.png"]),
    (["train", "--data", "my/path.py:load", *TO], ["module:function", "not as a path"]),
    (DIGITS, ["--out"]),
    ([*DIGITS, "--model", "resnet8", *TO], ["resnet8"]),
    ([*DIGITS, "--model", "hf:./none", *TO], ["there is no folder './none'", "config.json"]),
    (["train", "--data", "texts.csv", *TO], ["no dataset or path 'texts.csv'"]),
    (["import", "--model", "cnn", "--data", "digits", *TO], ["comes without weights", "--weights"]),
    ([*DIGITS, "--set", "epoch=3", *TO], ["epoch", "epochs"]),
    ([*DIGITS, "--set", "lr", *TO], ["key=value"]),
    ([*DIGITS, "--lr", "-1", *TO], ["lr", "-1"]),
    ([*DIGITS, "--validation", "2", *TO], ["validation", "2"]),
    ([*DIGITS, "--recipe", "no.yaml", *TO], ["cannot read the recipe no.yaml"]),
    ([*DIGITS, "--device", "gpu", *TO], ["no kind of device 'gpu'", "cuda"]),
    ([*DIGITS, "--out", "original"], ["original exists", "--overwrite"]),
    (["import", "--model", "cnn", "--weights", "no.pt", "--data", "digits", *TO], ["no.pt"]),
    (
        [
            "import",
            "--model",
            "cnn",
            "--weights",
            "weights.pt",
            "--data",
            "digits",
            "--mean",
            "0.5",
            *TO,
        ],
        ["belong together"],
    ),
    (
        [
            "import",
            "--model",
            "cnn",
            "--weights",
            "weights.pt",
            "--data",
            "digits",
            "--mean",
            "0.5,1",
            "--std",
            "1",
            *TO,
        ],
        ["2 means and 1 deviations"],
    ),
    (
        [
            "import",
            "--model",
            "cnn",
            "--weights",
            "weights.pt",
            "--data",
            "digits",
            "--mean",
            "nan",
            "--std",
            "1",
            *TO,
        ],
        ["means must be numbers"],
    ),
    (
        ["prune", "--data", "digits", "--model", "cnn", "--pruner", "synflw", *TO],
        ["did you mean 'synflow'"],
    ),
    (["prune", "original", "--pruner", "evil:Pruner", *TO], ["cannot import 'evil'"]),
    (["prune", "original", "--sparsity", "1.5", *TO], ["sparsity = 1.5"]),
    (["prune", "original", "--rewind", "none.pt", *TO], ["no weights file"]),
    (["prune", "--data", "digits", "--model", "cnn", "--criteria", "clas:3", *TO], ["clas:3"]),
    (["recommend", "nowhere", "--forget", "class:1"], ["nowhere", "expunge train"]),
    (["recommend", "original", "--forget", "class:11"], ["no class '11'"]),
    (["recommend", "original", "--forget", "class:1", "--try"], ["--out FOLDER"]),
    (["recommend", "original", "--forget", "class:1", *TO], ["--try"]),
    (["recommend", "original", "--forget", "class:1", "--budget", "0"], ["budget = 0"]),
    (["recommend", "original", "--forget", "class:1", "--guarantee", "prooof"], ["certified"]),
    (["unlearn", "nowhere", "--forget", "class:1", *FINE], ["nowhere", "expunge train"]),
    ([*ASK, "class:1", "--method", "magic", *TO], ["magic", "finetune"]),
    ([*ASK, "class:1", "--method", "evil:Method", *TO], ["cannot import 'evil'", "PYTHONPATH"]),
    ([*ASK, "class:1", "--method", "finetune:x", *TO], ["finetune has no preset 'x'"]),
    ([*ASK, "class:1", "--set", "lr=0", *FINE], ["lr", "0"]),
    ([*ASK, "clas:1", *FINE], ["did you mean 'class'"]),
    ([*ASK, "class:eleven", *FINE], ["'eleven'"]),
    ([*ASK, "random:1.5", *FINE], ["between 0 and 1"]),
    ([*ASK, "ids:nobody.txt", *FINE], ["nobody.txt"]),
    ([*ASK, "random:0.1", "--method", "unsir", *TO], ["whole classes only", "finetune"]),
    ([*ASK, "class:1", "--paired", *FINE], ["--with-reference"]),
    ([*ASK, "class:1", "--also", "weight_distance", *FINE], ["--with-reference"]),
    ([*ASK, "class:1", "--report", "x/page", *FINE], ["lie in each other"]),
    ([*ASK, "class:1", "--figures", "original", *FINE], ["lie in each other"]),
    ([*ASK, "class:1", "--method", "finetune", "--out", "original"], ["original exists"]),
    (["unlearn", "bare", "--forget", "class:1", "--with-reference", *FINE], ["has no recipe"]),
    (["unlearn", "stranger", "--forget", "class:1", *FINE], ["evil:build", "--allow-code"]),
    (
        ["unlearn", "bare", "--forget", "class:1", "--method", "retrain", *TO],
        ["comes without a recipe"],
    ),
    (
        ["unlearn", "bare", "--forget", "class:1", "--method", "euk", *TO],
        ["euk trains as the original was trained", "--recipe"],
    ),
    *(
        (["unlearn", "unseen", "--forget", "random:0.1", "--method", name, *TO], [name, told])
        for name, told in (("regun", "--validation"), ("lotus", "--validation"))
    ),
    (["unlearn", "unknown", "--forget", "class:1", *FINE], ["no architecture 'resnet99'"]),
    (["unlearn", "odd", "--forget", "class:1", *FINE], ["epochs = -1", "odd/model.json"]),
    (["unlearn", "cut", "--forget", "class:1", *FINE], ["lacks a list 'retain'"]),
    (["unlearn", "empty", "--forget", "class:1", *FINE], ["has no model.safetensors"]),
    ([*ASK, "class:1", "--report", "weights.pt/x", *FINE], ["cannot be made"]),
    ([*ASK, "class:1", "--report", "p", "--figures", "p", *FINE], ["lie in each other"]),
    (["audit", "forgot", "--original", "forgot"], ["did not learn from the samples"]),
    (["audit", "original"], ["has forgotten nothing yet", "--forget"]),
    (["audit", "forgot", "--forget", "class:1"], ["has forgotten already"]),
    (["audit", "forgot", "--features", "magic"], ["magic", "confidence"]),
    (["audit", "forgot", "--retrained", "nowhere"], ["nowhere does not exist"]),
    (["audit", "forgot", "--trigger", "patch"], ["give both or neither"]),
    (["audit", "forgot", "--bank", "bare", "--report", "bare/p"], ["the bank, bare, lie in"]),
    (["audit", "forgot", "--sibling", "odd", "--report", "odd/p"], ["sibling 1, odd, lie in"]),
    (["audit", "poisoned", "--forget", "poison", "--trigger", "patch"], ["leave --trigger and"]),
    (["cleanse", "original", "--poison", "patch:sice=3", *FINE], ["did you mean 'size'"]),
    (["cleanse", "original", "--known-fraction", "2", *FINE], ["known fraction", "2"]),
    (["cleanse", "original", "--target", "cat", *FINE], ["no class 'cat'"]),
    (["diagnose", "sparsity", "--data", "digits", "--forget", "clas:3", *TO], ["'class'"]),
    (
        [
            "diagnose",
            "sparsity",
            "--data",
            "digits",
            "--forget",
            "class:3",
            "--sparsities",
            "0,2",
            *TO,
        ],
        ["sparsity 2 is no share"],
    ),
    (
        [
            "diagnose",
            "sparsity",
            "--data",
            "digits",
            "--forget",
            "class:3",
            "--sparsities",
            "0.5",
            *TO,
        ],
        ["relative to sparsity 0"],
    ),
    (["demo", "--out", "weights.pt/x"], ["cannot be made"]),
    (["study", "run", "no.yaml", *TO], ["no.yaml"]),
    (["study", "run", "smok", *TO], ["no study 'smok'", "did you mean 'smoke'"]),
    (["study", "run", "unknown.yaml", *TO], ["line 5", "'finetune'"]),
    (["study", "run", "strange.yaml", *TO], ["evil:build", "--allow-code"]),
    (["study", "run", "foreign.yaml", *TO], ["line 5", "'evil:Method'", "--allow-code"]),
    (["study", "run", "cutting.yaml", *TO], ["line 6", "'evil:Pruner'", "--allow-code"]),
    (["study", "run", "foreign.yaml", "--allow-code", *TO], ["line 5", "cannot import 'evil'"]),
    (["study", "run", "far.yaml", *TO], ["cifar10", "--data-dir"]),
    (["study", "run", "gone.yaml", *TO], ["nobody.txt"]),
    (["study", "run", "odd.yaml", "--allow-code", *TO], ["a/b:c", "not as a path"]),
    (["study", "run", "study.yaml", "--out", "weights.pt/x"], ["cannot be made"]),
    (["study", "run", "study.yaml", "--out", "original"], ["holds something else"]),
    (["study", "records", "study", "--out", "original"], ["original exists"]),
    (["study", "report", "original"], ["is no folder of a study"]),
    (["study", "publish", "original", "--to", "mlflow:x"], ["is no folder of a study"]),
    (["study", "run", "study.yaml", "--set", "methods.finetun.lr=1", *TO], ["mean 'finetune'"]),
    (["study", "run", "study.yaml", "--set", "methods.finetune.lr=0", *TO], ["lr = 0"]),
    (["study", "run", "study.yaml", "--set", "sedes=[1]", *TO], ["did you mean 'seeds'"]),
    (["list", "method"], ["method", "methods"]),
    (["list", "methods", "finetun"], ["finetune"]),
]
LISTS = [
    ["list"],
    ["study", "list"],
    *(["list", kind] for kind in ("methods", "pruners", "models", "audits", "datasets", "recipe")),
]
LISTS += [["list", "methods", name] for name in METHODS]
LISTS += [["list", "pruners", name] for name in PRUNERS]
LISTS += [["list", "models", name] for name in ARCHITECTURES]
LISTS += [["list", "audits", name] for name in (*AUDITS, *OF_AUDITS)]
LISTS += [["list", "scores", name] for name in SCORES]
LISTS += [["list", "datasets", name] for name in BUILT_IN]
HELP = [[*path.split(), "--help"] for path in COMMANDS]
FIRST = [
    ["--help"],
    *([path, "--help"] for path, line in COMMANDS.items() if not line.work and " " not in path),
    *(command for command, _ in UNKNOWN),
]
"""Asked before anything else, so that what was imported was imported for them."""
DRIVER = """
import contextlib, io, json, sys

from expunge import cli

heavy, told = set(json.loads(sys.argv[1])), []
for command in json.loads(sys.stdin.read()):
    sys.argv = ["expunge", *command]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            cli.main()
        except SystemExit as stop:
            told.append([stop.code, out.getvalue(), err.getvalue(), sorted(heavy & set(sys.modules))])
print(json.dumps(told))
"""
Answer = tuple[int, str, str, list[str]]


@pytest.fixture(scope="module")
def answers(
    tmp_path_factory: pytest.TempPathFactory, shared: Callable[[str, Callable[[Path], None]], Path]
) -> dict[str, Answer]:
    """What one process answers to everything here, and what of the named it had imported by then."""
    folder = tmp_path_factory.mktemp("start")
    lay_out(folder, shared("digits-cnn", train_digits) / "original")
    commands = [*FIRST, ["study"], *HELP, *LISTS, *(command for command, _ in MISTAKES)]
    commands = [words.split() for words in dict.fromkeys(map(" ".join, commands))]
    before = sorted(folder.rglob("*"))
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", DRIVER, json.dumps([*HEAVY, *OURS, *MODULES])],
        cwd=folder,
        text=True,
        env={**os.environ, **ENVIRONMENT},
        input=json.dumps(commands),
        capture_output=True,
        timeout=120,
        check=True,
    )
    assert sorted(folder.rglob("*")) == before, "an answer has left something behind"
    told = json.loads(done.stdout)
    return {" ".join(c): tuple(answer) for c, answer in zip(commands, told, strict=True)}


def lay_out(folder: Path, original: Path) -> None:
    """A trained folder, the same without a recipe, of a stranger's code, and one that forgot."""
    names = ("original", "bare", "stranger", "forgot", "unknown", "odd", "cut", "empty", "poisoned")
    names += ("unseen",)
    for name in names:
        shutil.copytree(original, folder / name)
    change(folder / "unknown/model.json", architecture="resnet99")
    change(folder / "odd/model.json", recipe={"epochs": -1})
    change(folder / "cut/split.json", retain=5)
    (folder / "empty/model.safetensors").unlink()
    card = json.loads((original / "model.json").read_text())
    change(folder / "poisoned/model.json", data={**card["data"], "spec": "digits+patch:size=3"})
    change(folder / "bare/model.json", recipe=None)
    change(folder / "unseen/split.json", validation=[])
    change(folder / "stranger/model.json", architecture="evil:build")
    split = json.loads((original / "split.json").read_text())
    change(folder / "forgot/split.json", retain=split["retain"][5:], forget=split["retain"][:5])
    (folder / "weights.pt").write_bytes(b"\x80\x02")
    for name, text in (
        ("study", STUDY),
        ("unknown", STUDY.replace("finetune", "finetun")),
        ("strange", STUDY.replace("mlp", '"evil:build"')),
        ("foreign", STUDY.replace("finetune: {}", '"evil:Method": {}')),
        ("cutting", f'{STUDY}densities: [{{pruner: "evil:Pruner", sparsity: 0.5}}]\n'),
        ("far", STUDY.replace("digits", "cifar10")),
        ("odd", STUDY.replace("mlp", '"a/b:c"')),
        ("gone", f'{STUDY}scenarios: ["ids:nobody.txt"]\n'),
    ):
        (folder / f"{name}.yaml").write_text(text)


def change(file: Path, **changes: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **changes}))


@pytest.mark.parametrize(
    ("command", "words"), [*UNKNOWN, *MISTAKES], ids=lambda value: " ".join(value)
)
def test_a_mistake_costs_one_line(
    command: list[str], words: list[str], answers: dict[str, Answer]
) -> None:
    code, out, err, imported = answers[" ".join(command)]
    assert (code, out) == (2, "")
    assert len(err.strip().splitlines()) == 1 and err.startswith("error: ")
    assert all(word in err for word in words), err
    heavy = set(imported) & set(HEAVY if command not in FIRST else [*HEAVY, *OURS, *MODULES])
    assert not heavy, f"imported before the mistake was seen: {heavy}"


@pytest.mark.parametrize("command", [*HELP, *LISTS], ids=" ".join)
def test_help_and_lists_need_nothing_heavy(command: list[str], answers: dict[str, Answer]) -> None:
    code, out, err, imported = answers[" ".join(command)]
    assert (code, err) == (0, "")
    spared = [*HEAVY, *(OURS if command in HELP else ()), *(MODULES if command in FIRST else ())]
    assert not set(imported) & set(spared)
    if command == ["list"]:
        assert all(name in out for name in ("finetune", "omp", "resnet20", "TA_forget", "digits"))
    elif command == ["study", "list"]:
        assert all(name in out for name in ("smoke", "sparsity-class", "cifar10:2778"))
    elif command[-1] != "--help":
        assert command[-1] in out
    elif len(command) > 1 and COMMANDS[" ".join(command[:-1])].work:
        assert f"Example: expunge {' '.join(command[:-1])}" in out


def test_a_group_shows_what_it_holds(answers: dict[str, Answer]) -> None:
    for path, line in COMMANDS.items():
        group, _, name = path.rpartition(" ")
        if path:
            shown = answers[f"{group} --help".strip()][1]
            assert re.search(rf" {name} +{re.escape(line.says)}", shown), path
    code, shown, err, _ = answers["study"]
    assert (code, shown.strip(), err) == (0, answers["study --help"][1].strip(), "")


TABLES = """
import json, sys

from expunge.methods import METHODS
from expunge.models.table import ARCHITECTURES
from expunge.pruning import PRUNERS
from expunge.audits import AUDITS

told = {
    "methods": {
        name: [m.reads.names(), m.scope, m.guarantee, sorted(m.presets), m.model_json_schema()]
        for name, m in METHODS.items()
    },
    "pruners": {name: [p.trained, p.model_json_schema()] for name, p in PRUNERS.items()},
    "models": [[one.name, one.summary, one.paper] for one in ARCHITECTURES.values()],
    "audits": [
        [name, one.usual, sorted(one.needs), [[i.name, i.unit, i.target] for i in one.info]]
        for name, one in AUDITS.items()
    ],
}
"""


def test_what_is_built_in_can_be_read_without_torch() -> None:
    """Names, fields and scope, and they are those of the classes that do the work."""
    said = "print(json.dumps([told, sorted(set(json.loads(sys.argv[1])) & set(sys.modules))]))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", TABLES + said, json.dumps(HEAVY)],
        text=True,
        capture_output=True,
        timeout=60,
        check=True,
    )
    alone, heavy = json.loads(done.stdout)
    assert not heavy
    import torch

    here: dict[str, Any] = {}
    exec(TABLES, here)
    assert alone == json.loads(json.dumps(here["told"]))
    with torch.device("meta"):
        for one in ARCHITECTURES.values():
            assert isinstance(one.build((3, 32, 32), 10), torch.nn.Module)
    assert tuple(mia.FEATURES) == FEATURES
