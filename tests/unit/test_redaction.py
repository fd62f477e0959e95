"""Redacted folders: no id is in them, nor what can be tested against a guess, whatever was asked."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import os
import re
import secrets
import shutil
import zipfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from commands import expunge, refused
from thorough import but_first

from expunge import Recipe, SplitError, load
from expunge.cli.pages import without_request
from expunge.data.answer import Answered
from expunge.data.pseudonyms import Key, keys_folder, new_key, open_key
from expunge.data.spec import names_a_path
from expunge.data.split import Split
from expunge.folders.make import Beside, train_folder, unlearn_folder
from expunge.methods import CONTROLS, METHODS, make_method
from expunge.trained.record import LEFT_OUT, OUR_STEPS, Record, warnings_for, without_ids
from expunge.trained.telling import tells

COUNT = 120
IDS = [f"person-{row:04d}" for row in range(COUNT)]
GROUP = "ward-of-nightingale"
LOUD = '''
import torch
from expunge import Method, Part


class Loud(Method):
    """Names everyone."""

    name = "loud"
    paper = "none"
    reads = Part.RETAIN | Part.FORGET
    whom: str = ""
    rows: tuple[str, ...] = ()

    def unlearn(self, model, view, run):
        run.log["seen"] = [f"person-{row:04d}" for row in range(120)]
        run.log["warnings"] = ["forgot person-0003", "went well"]
        run.artifacts["person-0003"] = torch.ones(2)
        return model
'''
EPOCH = ("--method", "finetune", "--set", "epochs=1", "--set", "batch_size=32")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data in which every tenth sample is the same, an original, and files that ask."""
    folder = tmp_path_factory.mktemp("made")
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    inputs = (rng.normal(size=(COUNT, 6)) + 2 * labels[:, None]).astype(np.float32)
    inputs[::10], labels[::10] = inputs[0], labels[0]
    ward = np.where(np.arange(COUNT) % 7 == 1, GROUP, "other")
    classes = ["ant", "bee", "cow"]
    np.savez(folder / "data.npz", x=inputs, y=labels, id=np.array(IDS), ward=ward, classes=classes)
    (folder / "mine.py").write_text(LOUD)
    words = ("--epochs", "2", "--lr", "0.05", "--batch-size", "32", "--out", "original")
    expunge("train", "--data", "data.npz", "--model", "mlp", *words, cwd=folder)
    retained = json.loads((folder / "original/split.json").read_text())["retain"]
    (folder / "asked.txt").write_text("\n".join(retained[:40:2]))
    (folder / "one.txt").write_text(retained[0])
    return folder


@pytest.fixture
def here(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "here"))


def everything(*folders: Path) -> dict[str, bytes]:
    """All that is written in folders."""
    return {
        str(path): path.read_bytes()
        for folder in folders
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def check_silent(*folders: Path) -> None:
    """No file names a sample, and nothing in one can be made of an id without the key."""
    written = everything(*folders)
    assert written
    for name, content in written.items():
        for word in (b"person-", GROUP.encode(), b"asked.txt", b"one.txt"):
            assert word not in content, f"{name} holds {word!r}"
    guess_all(written)


def guess_all(written: dict[str, bytes]) -> None:
    """Whoever has the folder and every candidate finds none of them in it."""
    found = set()
    for content in written.values():
        found |= set(re.findall(rb"[0-9a-f]{16,64}", content))
    stored = {text.decode() for text in found}
    salts = ["", *sorted(stored)[:400]]
    short = {text[:16] for text in stored}
    for one in IDS[:10]:
        for salt in salts:
            for text in (f"{salt}\x1f{one}", f"{salt}{one}", f"{one}{salt}", f"id\x1f{one}"):
                assert hashlib.sha256(text.encode()).hexdigest()[:16] not in short
            assert hmac.digest(salt.encode(), one.encode(), "sha256").hex()[:16] not in short


REQUESTS = (
    "ids:asked.txt",
    "ids:one.txt",
    "indices:0,10,11",
    f"group:ward={GROUP}",
    "random:0.3",
    "random:0.02",
    "class:bee",
)


@pytest.mark.parametrize("request_", but_first(2, REQUESTS))
def test_nothing_that_is_written_names_a_sample(here: Path, request_: str) -> None:
    words = ("--redact-ids", "--with-reference", "--report", "page", "--figures", "pictures")
    done = expunge(
        "unlearn", "original", "--forget", request_, *EPOCH, *words, "--out", "gone", cwd=here
    )
    folders = [here / name for name in ("gone", "gone-retrained", "page", "pictures")]
    check_silent(*folders)
    assert "person-" not in done.stdout + done.stderr, "nor does the screen"
    page = (here / "page/report.html").read_text(encoding="utf-8")
    assert "<title>Deletion: request-1</title>" in page and "class:" not in page
    assert "<img" not in page and "--forget request-1" in page and "--redact-ids" in page
    keys = {json.loads((folder / "split.json").read_text())["pseudonyms"] for folder in folders[:2]}
    assert len(keys) == 1 and all((keys_folder() / f"{key}.key").is_file() for key in keys)


def test_what_is_made_of_a_redacted_folder_is_redacted_too(here: Path) -> None:
    words = ("--forget", "ids:asked.txt", *EPOCH)
    expunge("unlearn", "original", *words, "--redact-ids", "--out", "first", cwd=here)
    report = ("--with-reference", "--report", "page")
    words = ("--forget", "random:0.2", *EPOCH)
    expunge("unlearn", "first", *words, *report, "--out", "second", cwd=here)
    expunge("unlearn", "second", *words, *report[:1], "--out", "third", cwd=here)
    expunge("prune", "third", "--sparsity", "0.5", "--epochs", "1", "--out", "sparse", cwd=here)
    check_silent(*(here / name for name in ("first", "second", "second-retrained", "page")))
    check_silent(*(here / name for name in ("third", "third-retrained", "sparse")))
    assert "<img" not in (here / "page/report.html").read_text(encoding="utf-8")
    assert load(here / "third").split.excluded, "what was struck is known to whoever has the key"


def test_an_open_past_is_closed(here: Path) -> None:
    """Records of earlier, open folders named copies; those of a method of somebody else, anybody."""
    loud = ("--method", "mine:Loud", "--set", "whom=person-0005", "--set", "rows=[person-0001, a]")
    words = ("--forget", "ids:asked.txt", "--out", "open")
    expunge("unlearn", "original", *words, *loud, "--allow-code", cwd=here)
    assert b"person-0003" in b"".join(everything(here / "open").values())
    words = ("--forget", "random:0.3", "--out", "closed", "--redact-ids", "--report", "page")
    expunge("unlearn", "open", *words, *loud, "--allow-code", cwd=here)
    check_silent(here / "closed", here / "page")
    history = load(here / "closed").history
    assert [record.step for record in history] == ["train", "mine:Loud", "mine:Loud"]
    assert "went well" in history[-1].warnings and not history[-1].log
    load(here / "open").save(here / "again", redact_ids=True)
    check_silent(here / "again")


def test_samples_that_a_model_is_tested_on_are_somebody_too(here: Path) -> None:
    tested = load(here / "original").data.test.ids.tolist()[0]
    loud = ("--method", "mine:Loud", "--set", f"whom={tested}", "--allow-code")
    words = ("--forget", "class:bee", "--redact-ids", "--report", "page", "--out", "closed")
    expunge("unlearn", "original", *words, *loud, cwd=here)
    check_silent(here / "closed", here / "page")


def test_cleansing_a_redacted_model_names_nobody(here: Path) -> None:
    words = ("--forget", "random:0.1", *EPOCH)
    expunge("unlearn", "original", *words, "--redact-ids", "--out", "first", cwd=here)
    split = load(here / "first").split
    (here / "asked.txt").write_text("\n".join(split.retain[:30]))
    words = ("--poison", "ids:asked.txt", *EPOCH, "--report", "page", "--out", "clean")
    done = expunge("cleanse", "first", *words, "--with-reference", cwd=here)
    check_silent(here / "clean", here / "clean-retrained", here / "page")
    assert "person-" not in done.stdout + done.stderr
    assert "--poison request-2" in (here / "page/report.html").read_text(encoding="utf-8")


def test_a_redacted_folder_needs_its_key(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    asked = ("--forget", "class:bee")
    expunge("unlearn", "original", *asked, *EPOCH, "--redact-ids", "--out", "gone", cwd=here)
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    said = expunge("audit", "gone", *asked, "--original", "original", cwd=here).stdout
    assert "UA" in said and "person-" not in said
    told = json.loads(expunge("audit", "gone", *asked, "--json", cwd=here).stdout)
    assert told["split"] is None and told["forget_losses"] == []

    file.chmod(0o644)
    assert "chmod 600" in refused("audit", "gone", *asked, cwd=here)
    file.chmod(0o600)
    moved = file.rename(tmp_path / "moved")
    for words in (("audit", "gone", *asked), ("unlearn", "gone", *asked, *EPOCH, "--out", "next")):
        told = refused(*words, cwd=here)
        assert str(file) in told and "EXPUNGE_KEYS" in told
    file.write_text(secrets.token_hex(32))
    file.chmod(0o600)
    assert "is not the key" in refused("audit", "gone", *asked, cwd=here)
    file.unlink()
    os.mkfifo(file, 0o600)
    assert "regular file" in refused("audit", "gone", *asked, cwd=here)
    file.unlink()
    moved.rename(file)
    assert "UA" in expunge("audit", "gone", *asked, cwd=here).stdout


def test_a_key_that_cannot_be_kept_is_told_before_the_work(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(here / "data.npz/keys"))
    words = ("--forget", "class:bee", *EPOCH, "--redact-ids", "--out", "gone")
    assert "could not be kept" in refused("unlearn", "original", *words, cwd=here)
    assert not (here / "gone").exists()


def test_a_run_that_fails_leaves_no_key(
    here: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    method = make_method("gradient_ascent", {"lr": 1e30, "epochs": 2}, allow_code=True)
    with pytest.raises(Exception):  # noqa: B017 - what it is called is not the point
        unlearn_folder(
            here / "original", "class:bee", method, here / "gone", beside=Beside(redact_ids=True)
        )
    assert not (tmp_path / "keys").exists() or not list((tmp_path / "keys").iterdir())


@pytest.mark.parametrize("name", ["../../x", "0" * 16, "", "a\n"])
def test_an_odd_key_costs_one_line(name: str, here: Path) -> None:
    words = ("--forget", "class:bee", *EPOCH, "--redact-ids", "--out", "gone")
    expunge("unlearn", "original", *words, cwd=here)
    split = json.loads((here / "gone/split.json").read_text())
    (here / "gone/split.json").write_text(json.dumps(split | {"pseudonyms": name}))
    with pytest.raises(SplitError):
        load(here / "gone")


def test_a_changed_pseudonym_is_noticed(here: Path) -> None:
    """Though struck samples are gone from the data."""
    words = ("--forget", "ids:asked.txt", *EPOCH, "--redact-ids", "--out", "gone")
    expunge("unlearn", "original", *words, cwd=here)
    with np.load(here / "data.npz") as content:
        arrays = {name: content[name] for name in content}
    struck = (here / "asked.txt").read_text().split()
    kept = ~np.isin(arrays["id"], struck)
    rows = {name: one if name == "classes" else one[kept] for name, one in arrays.items()}
    np.savez(here / "data.npz", **rows)
    assert len(load(here / "gone").split.forget) == len(struck)
    expunge("unlearn", "gone", "--forget", "random:0.1", *EPOCH, "--out", "next", cwd=here)
    check_silent(here / "next")
    np.savez(here / "data.npz", **arrays)
    assert set(struck) <= set(load(here / "next").split.excluded), "known again when they are back"
    split = json.loads((here / "gone/split.json").read_text())
    split["retain"].append(split["forget"].pop())
    (here / "gone/split.json").write_text(json.dumps(split))
    with pytest.raises(SplitError, match="was changed"):
        load(here / "gone")


def test_a_key_says_nothing_of_itself(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    key = new_key()
    assert key.secret.hex() not in repr(key) and len(key.secret) == 32
    key.keep()
    key.keep()
    assert open_key(key.name, tmp_path) == key
    assert key.digest(key.digest("x")) == key.digest("x") != Key(bytes(32)).digest("x")
    assert len({key.pseudonym("a"), key.pseudonym("b"), key.digest("a"), key.name}) == 4


def test_our_steps_are_those_that_there_are() -> None:
    assert set(OUR_STEPS) == {"train", "import", "prune", *METHODS, *CONTROLS}


def test_warnings_of_any_request_stay_though_ids_are_numbers() -> None:
    split = Split(retain=tuple(map(str, range(9))), forget=("10", "11"))
    warnings = tuple(warnings_for(Answered(split), [("10", "2")] * 2))
    record = Record(step="mine:Loud", warnings=(*warnings, "row 11 is odd"), settings={"n": 11})
    told = without_ids(record, Key(bytes(32)), {*split.retain, *split.forget})
    assert told.warnings[:2] == warnings and "11" not in told.warnings[2]
    assert told.settings == {"n": 11}, "a number may be anything"


def test_a_command_is_told_without_its_request() -> None:
    words = ["unlearn", "m", "--forget", "ids:a", "--forget-seed=3", "--out", "no-person-0001"]
    words += [
        "--seed",
        "7",
        "--set",
        "file=/home/person",
        "--set=whom=person-0001",
        "--set",
        "lr=1",
    ]
    told = without_request(words, "request-1", {"person-0001", "7"})
    assert told[:5] == ["unlearn", "...", "--forget", "request-1", "--forget-seed=..."]
    assert told[5:] == ["--out", "...", "--seed", "7", "--set", "...", "--set=...", "--set", "lr=1"]
    told = without_request(["cleanse", "--poison=ids:a", "m"], "r", ())
    assert told == ["cleanse", "--poison=r", "..."]


# --- a person's name and a telling path, in every byte that is written

PERSON = "Anna_Schmidt"
TELLING = "complaint of Schmidt"


def all_bytes(file: Path) -> bytes:
    """Of a file: as it is, and of what is packed in it, unpacked."""
    content = file.read_bytes()
    found = [content]
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            found += [archive.read(name) for name in archive.namelist()]
    for packed in re.findall(rb"stream\r?\n(.*?)endstream", content, re.DOTALL):
        with contextlib.suppress(zlib.error):
            found.append(zlib.decompressobj().decompress(packed))
    return b"".join(found)


@pytest.fixture
def clinic(tmp_path: Path) -> Path:
    """An original of data with persons, in a folder of a telling name."""
    home = tmp_path / TELLING
    home.mkdir()
    rng = np.random.default_rng(1)
    labels = np.arange(72) % 3
    inputs = (rng.normal(size=(72, 6)) + 2 * labels[:, None]).astype(np.float32)
    people = np.where(np.arange(72) % 6 == 1, PERSON, "other")
    ids = np.array([f"{person}/{row}.png" for row, person in enumerate(people)])
    arrays = {"x": inputs, "y": labels, "id": ids, "person": people}
    np.savez(home / "data.npz", classes=["ant", PERSON.upper(), "cow"], **arrays)
    words = ("--epochs", "1", "--lr", "0.05", "--batch-size", "32", "--out", "original")
    expunge("train", "--data", "data.npz", "--model", "mlp", *words, cwd=home)
    (home / f"{PERSON}.txt").write_text(f"# {PERSON}\n{PERSON}/*\n")
    return home


@pytest.mark.parametrize("kind", but_first(1, ["group", "ids", "class"]))
def test_no_byte_tells_whom_a_redacted_deletion_is_about(
    clinic: Path, kind: str, tmp_path: Path
) -> None:
    request_ = {
        "group": f"group:person={PERSON}",
        "ids": f"ids:{clinic}/{PERSON}.txt",
        "class": f"class:{PERSON.upper()}",
    }[kind]
    out = tmp_path / "out"
    words = ["--redact-ids", "--with-reference", "--report", f"{out}/page", "--figures"]
    words += [f"{out}/pictures", "--data", f"{clinic}/data.npz", "--out", f"{out}/gone"]
    expunge("unlearn", str(clinic / "original"), "--forget", request_, *EPOCH, *words, cwd=clinic)
    told = ("--forget", "random:0.1", "--report", f"{out}/page2", "--out", f"{out}/next")
    hint = expunge("unlearn", f"{out}/gone", *told, *EPOCH, cwd=clinic)
    files = [file for file in out.rglob("*") if file.is_file()]
    assert len(files) > 30 and {".json", ".safetensors", ".html", ".pdf", ".png"} <= {
        file.suffix for file in files
    }
    for file in files:
        content = all_bytes(file)
        if file.name == "model.json":  # what a model can answer is told, as docs/safety.md says
            assert content.count(PERSON.upper().encode()) == 1
            content = content.replace(PERSON.upper().encode(), b"")
        for word in ("schmidt", str(tmp_path).lower(), "data.npz"):
            assert word not in str(file.relative_to(tmp_path)).lower()
            assert word.encode() not in content.lower(), f"{file.name} holds {word!r}"
    assert "request-2" in (out / "page2/report.html").read_text(encoding="utf-8")
    assert PERSON not in hint.stdout + hint.stderr


def test_a_category_that_stays_with_a_redacted_model_is_told_of(tmp_path: Path) -> None:
    rows = [f"{row},{('here', 'there', GROUP)[row % 3]},w{row % 5},{row % 2}" for row in range(60)]
    (tmp_path / "a.csv").write_text("x,town,ward,label\n" + "\n".join(rows))
    recipe = Recipe(epochs=1, batch_size=32)
    source = train_folder(f"{tmp_path / 'a.csv'}:group=ward", "mlp", tmp_path / "m", recipe=recipe)
    method = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)
    for asked, redact, count in (
        (f"group:town={GROUP}", True, 1), (f"group:town={GROUP}", False, 0), ("group:ward=w1", True, 0),
    ):  # fmt: skip
        lines: list[str] = []
        beside = Beside(redact_ids=redact)
        to = tmp_path / f"to-{len(asked)}-{redact}"
        unlearn_folder(source, asked, method, to, beside=beside, tell=lines.append)
        told = [line for line in lines if "'town' is an input too" in line]
        assert len(told) == count and not any(GROUP in line for line in told)


def test_a_name_that_is_redacted_is_refused_where_it_would_stand(clinic: Path) -> None:
    words = ("unlearn", "original", "--forget", f"group:person={PERSON}", *EPOCH, "--redact-ids")
    for more in (
        ("--out", "without-anna_schmidt"),
        ("--out", "gone", "--report", PERSON),
        ("--out", "gone", "--figures", f"of {PERSON}"),
        ("--out", "gone", "--request-id", f"for {PERSON}"),
        ("--out", "gone", "--request-id", f"{PERSON}/1.png"),
    ):
        assert "choose" in refused(*words, *more, cwd=clinic)
        assert not (clinic / more[1]).exists()


NOBODY = ("gone", "case-17", "A-7", "request-2", "run 3", "without p1")
TOLD = (
    "no-ANNA_schmidt",
    "Anna_Schmidt-2",
    "of person-0003",
    "scan_Zoe\u0308",
    "p7",
    "x_p7",
    "x.7",
)


@pytest.mark.parametrize("text", [*NOBODY, *TOLD])
def test_what_names_somebody(text: str) -> None:
    """Base names and names without endings do, in any case, however composed; row numbers do not."""
    ids = ("cat/Anna_Schmidt.png", "person-0003", "a/Zo\u00eb.jpg", "p7", "17", "3", "dog/1.png")
    assert tells(text, ids, ("7",) if text == "x.7" else ()) == (text in TOLD)


def test_the_warnings_of_a_foreign_method_name_no_base_name() -> None:
    made = Record(step="mine:Loud", warnings=("odd: anna_schmidt.png", "Anna_Schmidt", "well"))
    told = without_ids(made, Key(bytes(32)), {"cat/Anna_Schmidt.png"})
    assert [LEFT_OUT in one for one in told.warnings] == [True, True, False]


def test_a_name_is_refused_by_whoever_reads_a_redacted_folder(clinic: Path) -> None:
    """Though the flag is not typed again; of ids themselves too, and by `cleanse`."""
    expunge(
        "unlearn",
        "original",
        "--forget",
        "random:0.1",
        *EPOCH,
        "--redact-ids",
        "--out",
        "gone",
        cwd=clinic,
    )
    (clinic / "asked.txt").write_text(f"{PERSON}/*\n")
    (clinic / "some.txt").write_text(f"{PERSON}/13.png\n")
    ways = [
        ("unlearn", "gone", "--forget", f"group:person={PERSON}"),
        ("unlearn", "gone", "--forget", "ids:some.txt"),
        ("cleanse", "gone", "--poison", "ids:some.txt"),
    ]
    for words in ways:
        for more in (
            ("--out", "no-ANNA_schmidt" if "group:" in words[-1] else "some-13.png"),
            ("--out", "next", "--report", "of 13.PNG"),
            *([("--out", "next", "--request-id", "13.png")] if words[0] == "unlearn" else []),
        ):
            assert "names what is redacted" in refused(*words, *EPOCH, *more, cwd=clinic)
            assert not (clinic / more[1]).exists()


def test_what_earlier_open_requests_were_called_is_redacted_with_them(
    clinic: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ("--forget", f"group:person={PERSON}", *EPOCH, "--request-id", TELLING)
    expunge("unlearn", "original", *words, "--out", "open", cwd=clinic)
    words = (
        "unlearn",
        "open",
        "--forget",
        "random:0.1",
        *EPOCH,
        "--redact-ids",
        "--report",
        "page",
    )
    for name in ("to Anna_Schmidt", f"after {TELLING}"):
        assert "names what is redacted" in refused(*words, "--out", name, cwd=clinic)
    done = expunge(*words, "--out", "closed", cwd=clinic)
    assert "is called request-1 from now on" in done.stdout + done.stderr
    closed = load(clinic / "closed")
    assert [one.request for one in closed.struck] == ["request-1", "request-2"]
    assert [one.request for one in closed.history[1:]] == ["request-1", "request-2"]
    for name, content in everything(clinic / "closed", clinic / "page").items():
        assert b"complaint" not in content.lower(), name
    (clinic / "odd.txt").write_text(f"{closed.split.retain[0]}\n{PERSON}/nobody\n")
    for asked in ([closed.struck[0].forgotten[0]], [f"{PERSON}/77.png"], "ids:odd.txt"):
        monkeypatch.chdir(clinic)
        with pytest.raises(SplitError) as caught:
            closed.asked(asked)
        assert PERSON not in str(caught.value) and "/" not in str(caught.value)


def test_row_numbers_in_the_name_of_a_request_tell_nobody(tmp_path: Path) -> None:
    original = train_folder(
        "digits:60", "mlp", tmp_path / "original", recipe=Recipe(epochs=1, batch_size=32)
    )
    method = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)
    for name in (None, "case-1"):
        beside = Beside(redact_ids=True, request_id=name)
        done = unlearn_folder(
            original, "random:0.2", method, tmp_path / f"to {name}", beside=beside
        )
        assert done.result.record.request == (name or "request-1")


def test_a_key_remembers_where_data_lie_and_a_folder_does_not(
    clinic: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("EXPUNGE_KEYS", str(tmp_path / "keys"))
    words = ("--forget", "random:0.2", *EPOCH, "--redact-ids", "--request-id", "A-7")
    expunge("unlearn", "original", *words, "--out", "gone", cwd=clinic)
    card = json.loads((clinic / "gone/model.json").read_text())
    assert card["data"]["spec"].startswith("redacted-data:") and card["data"]["data_dir"] is None
    assert card["lineage"][-1]["request"] == "A-7"
    assert load(clinic / "gone").data.spec == str((clinic / "data.npz").resolve())
    (file,) = (tmp_path / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(file.read_text().splitlines()[0])  # as it comes to another machine
    assert "name them with --data" in refused("audit", "gone", cwd=clinic)
    assert "UA" in expunge("audit", "gone", "--data", "data.npz", cwd=clinic).stdout


@pytest.mark.parametrize(
    ("spec", "path"),
    [
        ("digits", False),
        ("digits:400", False),
        ("digits+patch:size=2", False),
        ("digits+blend:file=/home/anna/x.png", True),
        ("module:function", False),
        ("photos.npz", True),
        ("/home/anna/photos@64:100", True),
        (None, False),
    ],
)
def test_which_data_are_told_of_by_name(spec: str | None, path: bool) -> None:
    assert names_a_path(spec) == path


def test_paths_in_warnings_and_settings_are_left_out() -> None:
    told = without_ids(
        Record(
            step="finetune",
            asked="group:person=x",
            warnings=("could not write /home/anna/.cache/expunge/x, nor '~/y/z': n/a and 1/2",),
            settings={"file": "/home/anna/x", "lr": 0.1},
        ),
        Key(bytes(32)),
        [],
    )
    assert told.warnings == ("could not write ..., nor '...': n/a and 1/2",)
    assert told.settings == {"file": LEFT_OUT, "lr": 0.1} and not told.asked
