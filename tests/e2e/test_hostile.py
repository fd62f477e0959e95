"""A folder of hostile files, through every command, without consent to run code.

Each command is a fork of one process that has imported everything (this file, run as a program).
Nothing of a stranger's is run, no outside program is started, every command ends within seconds and a
gigabyte of memory, and says in one line what is wrong.
"""

from __future__ import annotations

import gzip
import io
import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import AFRESH, ENVIRONMENT, expunge
from kills import STUDY
from PIL import Image

pytestmark = pytest.mark.thorough
MOST_SECONDS, MOST_BYTES = 3.0, 2**30
QUICK = ("--model", "mlp", "--epochs", "1", "--batch-size", "32")
EVIL = """\
import os
from pathlib import Path
Path(os.environ["RAN"]).touch()
def build(**_): ...
def load(): ...
class Task: ...
"""
MINE = """\
import torch
from torch.utils.data import TensorDataset
def load():
    return TensorDataset(torch.arange(240.0).view(60, 4) % 7, torch.arange(60) % 3)
"""
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n"
PROGRAMS = ("gs", "gswin64c", "gswin32c", "latex", "dvipng", "convert", "inkscape", "git", "sh")
Case = tuple[str, list[str]]
"""A name, and the arguments of a command."""


# --- the program: each command in a fork


def main() -> None:
    """Run the commands of JSON files, one after another; print what became of each."""
    import kills

    kills.warm_up()
    for file in sys.stdin:
        for name, arguments in json.loads(Path(file.strip()).read_text()):
            print(json.dumps({"name": name, **_outcome(arguments)}), flush=True)


def _outcome(arguments: list[str]) -> dict[str, Any]:
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _be_command(arguments)
    hung = False
    while True:
        done, status, used = os.wait4(process, os.WNOHANG)
        if done:
            break
        if time.monotonic() - start > 10 * MOST_SECONDS:
            hung = True
            os.kill(process, signal.SIGKILL)
        time.sleep(0.005)
    return {
        "code": os.waitstatus_to_exitcode(status),
        "hung": hung,
        "cpu_seconds": used.ru_utime + used.ru_stime,
        "seconds": time.monotonic() - start,
        "bytes": used.ru_maxrss * (1 if sys.platform == "darwin" else 1024),
        "said": Path("../said").read_text(encoding="utf-8", errors="replace"),
        "ran": sorted(path.name for path in Path(os.environ["RAN"]).parent.glob("ran*")),
    }


def _be_command(arguments: list[str]) -> None:
    code = 1
    try:
        log = os.open("../said", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        nothing = os.open(os.devnull, os.O_RDONLY)
        for handle, number in ((nothing, 0), (log, 1), (log, 2)):
            os.dup2(handle, number)
        sys.argv = ["expunge", *arguments]
        from expunge import cli

        try:
            cli.main()
        except SystemExit as stop:
            code = int(str(stop.code or 0))
        except BaseException:
            import traceback

            traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


# --- hostile files


def endless(folder: Path, name: str) -> Iterator[tuple[str, Path]]:
    """What is no regular file, under a name that looks like one."""
    stem, ending = Path(name).stem, Path(name).suffix
    for kind in ("zero", "pipe", "loop", "folder", "out"):
        file = folder / f"{stem}-{kind}{ending}"
        if kind == "zero":
            file.symlink_to("/dev/zero")
        elif kind == "pipe":
            os.mkfifo(file)
        elif kind == "loop":
            file.symlink_to(file.name)
        elif kind == "folder":
            file.mkdir()
        else:
            file.symlink_to("/etc/passwd")
        yield kind, file


def picture_bomb() -> bytes:
    """A PNG of a few kilobytes and 40,000 x 40,000 pixels."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    header = struct.pack(">IIBBBBB", 40_000, 40_000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1_000_000), 9)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(kind, data) for kind, data in ((b"IHDR", header), (b"IDAT", pixels), (b"IEND", b""))
    )


def array_bomb(file: Path) -> None:
    """An npz of 3 MB that unpacks to 3 GB: the same compressed zeros again and again."""
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(
        head, {"descr": "|u1", "fortran_order": False, "shape": (3_000_000, 1000)}
    )
    deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = deflate.compress(head.getvalue()) + deflate.flush(zlib.Z_FULL_FLUSH)
    packed += (deflate.compress(bytes(10**7)) + deflate.flush(zlib.Z_FULL_FLUSH)) * 300
    packed += deflate.flush()
    check = zlib.crc32(head.getvalue())
    for _ in range(300):
        check = zlib.crc32(bytes(10**7), check)
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("x.npy", packed)
        (member,) = archive.infolist()  # in the list at the end, which is what is read
        member.compress_type = zipfile.ZIP_DEFLATED
        member.file_size, member.CRC = len(head.getvalue()) + 3 * 10**9, check
        archive.writestr("y.npy", npy(np.zeros(3_000_000, np.int8)), zipfile.ZIP_DEFLATED)
    content = bytearray(file.read_bytes())
    struct.pack_into("<H", content, 8, zipfile.ZIP_DEFLATED)  # and in front of the member
    struct.pack_into("<III", content, 14, check, len(packed), member.file_size)
    file.write_bytes(content)


def npy(array: np.ndarray[Any, Any]) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def data_cases(folder: Path) -> Iterator[Case]:
    """Data and lists of ids."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(60, 4)).astype(np.float32)
    plain = {"x": x, "y": np.arange(60) % 3}
    arrays: dict[str, dict[str, Any]] = {
        "label": {**plain, "y": np.where(np.arange(60) == 7, 2**31, 0)},
        "names": {**plain, "classes": np.array(["[/red]", "\x1b[31mx", "=cmd()"])},
        "objects": {**plain, "y": np.array([{}] * 60, dtype=object)},
        "dates": {**plain, "y": np.array(["2024-01-01"] * 60, dtype="datetime64[D]")},
        "nothing": {"x": x[:0], "y": plain["y"][:0]},
        "same ids": {**plain, "id": np.array(["a\x00\x1b"] * 60)},
    }
    for name, content in arrays.items():
        np.savez(folder / f"{name}.npz", **content)
    array_bomb(folder / "bomb.npz")
    locked = zipfile.ZipFile(folder / "locked.npz", "w")
    locked.writestr("x.npy", npy(x))
    locked.writestr("y.npy", npy(plain["y"]))
    locked.close()
    content = bytearray((folder / "locked.npz").read_bytes())
    for sign, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        start = content.find(sign)
        while start >= 0:
            content[start + offset] |= 1  # the mark of an encrypted member
            start = content.find(sign, start + 4)
    (folder / "locked.npz").write_bytes(content)
    (folder / "huge shape.npz").write_bytes(huge_shape())
    (folder / "text.npz").write_text("no zip")
    (folder / "text.parquet").write_text("no parquet")
    (folder / "cut.parquet").write_bytes(b"PAR1" + bytes(100) + b"PAR1")
    specs = [f"{name}.npz" for name in arrays]
    specs += ["bomb.npz", "locked.npz", "huge shape.npz", "text.npz", "text.parquet", "cut.parquet"]
    for name in ("d.npz", "d.parquet"):
        specs += [file.name for _, file in endless(folder, name)]
    pictures = {
        "eps": EPS,
        "bomb": picture_bomb(),
        "text": b"no picture",
        "cut": picture()[:40],
        "svg": b"<svg xmlns='http://www.w3.org/2000/svg'><image href='/etc/passwd'/></svg>",
    }
    for name, bytes_ in pictures.items():
        for number in range(8):
            file = folder / f"photos-{name}/class{number % 2}/{number}.png"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(bytes_ if number == 0 else picture())
        specs.append(f"photos-{name}")
    for kind, file in endless(folder, "p.png"):
        for number in range(8):
            target = folder / f"photos-{kind}/class{number % 2}/{number}.png"
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(picture())
        (folder / f"photos-{kind}/class0/0.png").unlink()
        os.rename(file, folder / f"photos-{kind}/class0/0.png")
        specs.append(f"photos-{kind}")
    (folder / "pattern.png").write_bytes(EPS)
    (folder / "bomb.png").write_bytes(picture_bomb())
    specs += ["digits+blend:file=pattern.png", "digits+blend:file=bomb.png"]
    specs += [
        "digits:99999999999999999999",
        "photos-text@999999999",
        "digits+patch:size=99999999999",
    ]
    for spec in specs:
        yield f"data {spec}", ["train", "--data", spec, *QUICK, "--out", "new"]
    lists = {"empty": b"", "bytes": b"\xff\xfe\x00", "strange": "\x1b[2J\u202e\n".encode() * 9}
    for name, bytes_ in lists.items():
        (folder / f"{name}.txt").write_bytes(bytes_)
    files = [f"{name}.txt" for name in lists] + [f.name for _, f in endless(folder, "ids.txt")]
    for name in files:
        forget = ["unlearn", "good", "--forget", f"ids:{name}", "--method", "finetune"]
        yield f"ids {name}", [*forget, "--out", "new"]
    for kind, file in endless(folder, "w.safetensors"):
        arguments = ["import", "--model", "mlp", "--weights", file.name, "--data", "digits"]
        yield f"weights {kind}", [*arguments, "--out", "new"]
    import pickle

    class Runs:
        def __reduce__(self) -> tuple[Any, ...]:
            return os.system, ("touch $RAN",)

    (folder / "pickled.pt").write_bytes(pickle.dumps(Runs()))
    (folder / "header.safetensors").write_bytes(struct.pack("<Q", 2**62) + b"{}")
    for name in ("pickled.pt", "header.safetensors"):
        arguments = ["import", "--model", "mlp", "--weights", name, "--data", "digits"]
        yield f"weights {name}", [*arguments, "--out", "new"]


def huge_shape() -> bytes:
    """An npz whose header promises ten terabytes."""
    head = io.BytesIO()
    shape = {"descr": "<f8", "fortran_order": False, "shape": (10**9, 1250)}
    np.lib.format.write_array_header_1_0(head, shape)
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("x.npy", head.getvalue() + bytes(64))
        archive.writestr("y.npy", npy(np.zeros(10, np.int64)))
    return stream.getvalue()


def picture() -> bytes:
    stream = io.BytesIO()
    pixels = np.random.default_rng(3).integers(0, 255, (8, 8, 3), np.uint8)
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def changed(card: dict[str, Any], path: str, value: Any) -> dict[str, Any]:
    """A card with one field changed; `a/0/b` leads through lists."""
    made: dict[str, Any] = json.loads(json.dumps(card))
    *way, last = path.split("/")
    part: Any = made
    for step in way:
        part = part[int(step)] if isinstance(part, list) else part[step]
    part[int(last) if isinstance(part, list) else last] = value
    return made


def card_cases(folder: Path) -> Iterator[Case]:
    """Model folders."""
    good = json.loads((folder / "good/model.json").read_text())
    texts: dict[str, str] = {
        "deep": "[" * 100_000,
        "cut": json.dumps(good)[:100],
        "list": "[]",
        "null": "null",
        "long number": json.dumps(changed(good, "seed", "@")).replace('"@"', "9" * 5000),
        "format": json.dumps({**good, "format": {"$gt": ""}}),
    }
    for path, value in (
        ("architecture", "evil:build"),
        ("architecture", "../../evil:build"),
        ("architecture", ["mlp"]),
        ("data/spec", "evil:load"),
        ("data/spec", "digits+blend:file=pattern.png"),
        ("data/spec", "/dev/zero"),
        ("data/task", "evil:Task"),
        ("data/data_dir", "/proc/self"),
        ("shape", [10**6, 10**6, 10]),
        ("shape", [10**30]),
        ("shape", [-1]),
        ("classes", ["a"] * 10),
        ("classes", [f"c{number}" for number in range(100_000)]),
        ("mean", [float("nan")]),
        ("std", [0.0]),
        ("recipe", {"epochs": 10**12}),
        ("recipe", {"optimizer": "evil:build"}),
        ("lineage", []),
        ("lineage/0/cost", {"seconds": "x"}),
        ("lineage/0/log", {"losses": [[[[]]]]}),
        ("lineage/0/step", "\x1b[2J[/red]"),
        ("weights", ""),
        ("mask", "0" * 64),
        ("seed", None),
        ("seed", 2**80),
    ):
        texts[f"{path} {str(value)[:20]}"] = json.dumps(changed(good, path, value))
    made = []
    for number, (name, text) in enumerate(texts.items()):
        shutil.copytree(folder / "good", folder / f"card{number}")
        (folder / f"card{number}/model.json").write_text(text)
        made.append((name, f"card{number}"))
    split = json.loads((folder / "good/split.json").read_text())
    splits: dict[str, str] = {
        "deep": "[" * 100_000,
        "null": json.dumps({**split, "retain": None}),
        "objects": json.dumps({**split, "retain": [{}]}),
        "numbers": json.dumps({**split, "retain": [1, 2, 3]}),
        "twice": json.dumps({**split, "retain": split["retain"] * 2}),
        "strangers": json.dumps({**split, "retain": ["\x1b[31m"]}),
        "salt": json.dumps({**split, "salt": {}}),
        "parts": f'{{"retain": [{"[]," * 3_000_000}[]]}}',
    }
    for name, text in splits.items():
        shutil.copytree(folder / "good", folder / f"split-{name}")
        (folder / f"split-{name}/split.json").write_text(text)
        made.append((f"split {name}", f"split-{name}"))
    for inside in ("model.json", "split.json", "model.safetensors"):
        for kind, file in endless(folder, f"x{inside}"):
            target = folder / f"{inside}-{kind}"
            shutil.copytree(folder / "good", target)
            (target / inside).unlink()
            os.rename(file, target / inside)
            made.append((f"{inside} {kind}", target.name))
    for number, (name, target) in enumerate(made):
        forget = ["unlearn", target, "--forget", "class:3", "--method", "finetune"]
        yield f"unlearn {name}", [*forget, "--set", "epochs=1", "--out", "new", "--overwrite"]
        # the folder goes through the same reader in each: one in turn
        prune = ["prune", target, "--sparsity", "0.5", "--out", "new", "--overwrite"]
        others = [
            ("audit", ["audit", target, "--forget", "class:3"]),
            ("compare", ["audit", "forgot", "--original", target]),
            ("prune", prune),
            ("cleanse", ["cleanse", target, "--method", "finetune", "--out", "new"]),
        ]
        what, arguments = others[number % len(others)]
        yield f"{what} {name}", arguments


def study_cases(folder: Path) -> Iterator[Case]:
    """Study files, and folders of studies."""
    (folder / "evil:build").touch()
    pipe = dict(endless(folder, "of study.npz"))["pipe"].name
    zero = dict(endless(folder, "of study.txt"))["zero"].name
    aliases = "a0: &a0 {x: y}\n" + "\n".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 10)
    )
    files = {
        "aliases": aliases,
        "deep": "[" * 100_000,
        "code": "name: !!python/object/apply:os.system ['touch $RAN']",
        "model": STUDY.replace("[mlp]", '["evil:build"]'),
        "data": STUDY.replace("digits:90", "evil:load"),
        "method": STUDY.replace("finetune:", "evil:build:").replace(
            "{epochs: 1}\nseeds", "{}\nseeds"
        ),
        "named": STUDY.replace("  finetune: {epochs: 1}", "  f: {method: 'evil:Task'}"),
        "also": STUDY + 'also: ["evil:Task"]\n',
        "pruner": STUDY + "densities: [{pruner: 'evil:Task', sparsity: 0.5}]\n",
        "pipe": STUDY.replace("digits:90", pipe),
        "ids": STUDY.replace("[class]", f'["ids:{zero}"]'),
        "dates": STUDY.replace("killed", "2024-01-01").replace("[0]", "[2024-01-01]"),
        "numbers": STUDY.replace("[0]", f"[{'9' * 400}]"),
        "null": STUDY.replace("[mlp]", "[null]"),
        "names": STUDY.replace("finetune:", '"[/red]\\e[2J=1+1": {method: finetune}\n  finetune:'),
    }
    for name, text in files.items():
        (folder / f"{name}.yaml").write_text(text)
        yield f"study file {name}", ["study", "run", f"{name}.yaml", "--out", f"study-{name}"]
    for kind, file in endless(folder, "s.yaml"):
        yield f"study file {kind}", ["study", "run", file.name, "--out", "study-of"]
    yield from _folders_of_studies(folder)


def _folders_of_studies(folder: Path) -> Iterator[Case]:
    cells = sorted((folder / "study/cells").iterdir())
    content = {cell.name: json.loads((cell / "cell.json").read_text()) for cell in cells}
    originals = [key for key, one in content.items() if one["kind"] == "original"]
    others = [key for key, one in content.items() if one["kind"] == "unlearn"]
    evil = {**content[originals[0]]["config"], "model": "evil:build"}

    def cell(key: str, text: str) -> Callable[[Path], None]:
        def put(out: Path) -> None:
            (out / f"cells/{key}/cell.json").write_text(text)

        return put

    def pack(out: Path) -> None:
        again(out)
        (out / "cells.jsonl.gz").write_bytes(gzip_bomb())

    def card(out: Path) -> None:
        file = out / f"cells/{originals[0]}/model.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "architecture": "evil:build"}))

    def again(out: Path) -> None:
        shutil.rmtree(out / f"cells/{others[0]}")

    def evil_cell(out: Path) -> None:
        cell(originals[0], json.dumps({**content[originals[0]], "config": evil}))(out)
        card(out)
        again(out)

    def evil_card(out: Path) -> None:
        card(out)
        again(out)

    changes: dict[str, Callable[[Path], None]] = {
        "evil cell": evil_cell,
        "evil card": evil_card,
        "packed": pack,
    }
    for name, text in (
        ("deep", "[" * 100_000),
        ("null", "null"),
        ("empty", "{}"),
        ("scores", json.dumps({**content[others[0]], "scores": [{"name": "[/x]", "value": "y"}]})),
        ("nulls", json.dumps(dict.fromkeys(content[others[0]]))),
    ):
        changes[f"cell {name}"] = cell(others[0], text)
    for inside in ("study.yaml", "data.json", f"cells/{others[0]}/cell.json"):
        for kind, file in endless(folder, f"y{Path(inside).name}"):

            def put(out: Path, inside: str = inside, file: Path = file) -> None:
                (out / inside).unlink()
                os.rename(file, out / inside)

            changes[f"{Path(inside).name} {kind}"] = put
    for number, (name, change) in enumerate(changes.items()):
        out = f"study{number}"
        shutil.copytree(folder / "study", folder / out)
        change(folder / out)
        commands = [
            ["status", "study.yaml", "--out", out],
            ["results", "study.yaml", "--out", out],
            ["report", out],
            ["records", out, "--out", f"kept{number}"],
        ]
        if not name.startswith("evil"):
            commands = commands[number % len(commands) :][:1]
        for arguments in (*commands, ["run", "study.yaml", "--out", out]):
            yield f"study {arguments[0]} {name}", ["study", *arguments]


def gzip_bomb() -> bytes:
    """Four gigabytes in four megabytes."""
    return gzip.compress(bytes(10_000_000)) * 400


# --- the test


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a good model, one that has forgotten, and a finished study."""
    folder = tmp_path_factory.mktemp("hostile") / "work"
    folder.mkdir()
    expunge("train", "--data", "digits:90", *QUICK, "--out", "good", cwd=folder)
    forget = ("unlearn", "good", "--forget", "class:3", "--method", "finetune")
    expunge(*forget, "--set", "epochs=1", "--out", "forgot", cwd=folder)
    (folder / "study.yaml").write_text(STUDY)
    expunge("study", "run", "study.yaml", "--out", "study", cwd=folder)
    (folder / "evil.py").write_text(EVIL)
    (folder / "matplotlibrc").write_text("backend: module://evil\n")
    programs = folder.parent / "programs"
    programs.mkdir()
    for name in PROGRAMS:
        (programs / name).write_text('#!/bin/bash\ntouch "$RAN-program-$(basename "$0")"\n')
        (programs / name).chmod(0o755)
    return folder


@pytest.fixture(scope="module")
def program(work: Path) -> Iterator[subprocess.Popen[str]]:
    """This file as a program, for all kinds of files."""
    environment = {
        **os.environ,
        "RAN": str(work.parent / "ran"),
        "PATH": f"{work.parent / 'programs'}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "OMP_NUM_THREADS": "1",
        "COLUMNS": "160",
    }
    with subprocess.Popen(
        [sys.executable, __file__],
        cwd=work,
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as started:
        yield started


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork, pipes and links")
@pytest.mark.parametrize("kind", [data_cases, card_cases, study_cases])
def test_hostile_files_let_nobody_in_and_cost_one_line(
    work: Path,
    program: subprocess.Popen[str],
    kind: Callable[[Path], Iterator[Case]],
    tmp_path: Path,
) -> None:
    cases = list(kind(work))
    (tmp_path / "cases.json").write_text(json.dumps(cases))
    assert program.stdin is not None and program.stdout is not None
    program.stdin.write(f"{tmp_path / 'cases.json'}\n")
    program.stdin.flush()
    found: list[dict[str, Any]] = []
    while len(found) < len(cases) and (line := program.stdout.readline()):
        found += [json.loads(line)] if line.startswith("{") else []
    assert len(found) == len(cases)
    (tmp_path / "found.json").write_text(json.dumps(found, indent=1))
    faults = [fault for one in found for fault in _faults(one)]
    assert not faults, f"{len(faults)} faults:\n" + "\n".join(faults)
    refused = sum(one["code"] == 2 for one in found)
    print(f"{len(found)} commands, {refused} refused in one line")
    assert refused > len(found) / 2, "most of these must be refused"


def test_libraries_and_plugins_of_the_current_folder_are_not_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`python -m` puts that folder first among the places of modules and packages."""
    monkeypatch.setenv("RAN", str(tmp_path / "ran"))
    for name in ("torch", "numpy", "rich", "evil"):
        (tmp_path / f"{name}.py").write_text(EVIL)
    (tmp_path / "evil-1.0.dist-info").mkdir()
    (tmp_path / "evil-1.0.dist-info/METADATA").write_text("Name: evil\nVersion: 1.0\n")
    points = "[expunge.methods]\nevil = evil:Task\n[expunge.data]\nevil = evil:load\n"
    (tmp_path / "evil-1.0.dist-info/entry_points.txt").write_text(points)
    # nor for the sake of a module of one's own, nor in the workers of a study
    (tmp_path / "mine.py").write_text(MINE)
    (tmp_path / "accelerate.py").write_text(EVIL)
    (tmp_path / "multiprocessing.py").write_text(EVIL)
    (tmp_path / "study.yaml").write_text(STUDY.replace("digits:90", "mine:load"))
    script = str(Path(sys.executable).with_name("expunge"))
    study = ("study", "run", "study.yaml", "--out", "study", "--workers", "2", "--allow-code")
    for command in ((script, "list", "methods"), (*AFRESH, "list", "methods"), (*AFRESH, *study)):
        done = subprocess.run(
            command,
            cwd=tmp_path,
            env={**os.environ, **ENVIRONMENT},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        assert "evil" not in done.stdout
    assert "5 of 5 cells done" in done.stdout
    assert not (tmp_path / "ran").exists()


def _faults(one: dict[str, Any]) -> Iterator[str]:
    """What was wrong with the way that a command ended."""
    said = one["said"]
    tail = said[-300:]
    if one["ran"]:
        yield f"{one['name']}: code or a program ran: {one['ran']}"
    # time at work, for others share the processor; what is no mistake may train a small model
    most = MOST_SECONDS if one["code"] == 2 else MOST_SECONDS + 2
    if one["hung"] or one["cpu_seconds"] > most:
        yield f"{one['name']}: {one['seconds']:.1f} s, of them {one['cpu_seconds']:.1f} at work"
    if one["bytes"] > MOST_BYTES:
        yield f"{one['name']}: {one['bytes'] / 2**20:.0f} MiB"
    if "Traceback" in said or one["code"] not in (0, 1, 2):
        yield f"{one['name']}: ended with {one['code']}: {tail}"
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    if one["code"] == 2 and (len(errors) != 1 or not said.endswith(f"{errors[0]}\n")):
        yield f"{one['name']}: not one line: {tail}"
    if any(ord(sign) < 32 and sign not in "\n\r\t" for sign in said):
        yield f"{one['name']}: control characters on the screen: {tail!r}"


if __name__ == "__main__":
    main()
