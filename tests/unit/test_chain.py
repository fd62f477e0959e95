"""Several requests to one model, one after another: what is told of the earlier ones, and audited."""

from __future__ import annotations

import json
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
from commands import expunge, refused

from expunge import ConfigError, SplitError, load
from expunge.data.struck import Struck
from expunge.folders.audit import audit_folder
from expunge.folders.make import Beside, unlearn_folder
from expunge.methods import make_method
from expunge.trained.record import Record, proved

COUNT = 90
IDS = [f"ward/p{row // 6:02d}_{row % 6}.png" for row in range(COUNT)]
EPOCH = ("--method", "finetune", "--set", "epochs=1", "--set", "batch_size=32")
METHOD = make_method("finetune", {"epochs": 1, "batch_size": 32}, allow_code=True)
CODE = "import torch\n\n\ndef build():\n    return torch.nn.Linear(6, 3)\n"


def write_data(folder: Path, rows: Sequence[int] = range(COUNT)) -> None:
    rng = np.random.default_rng(0)
    labels = np.arange(COUNT) % 3
    inputs = (rng.normal(size=(COUNT, 6)) + 2 * labels[:, None]).astype(np.float32)
    person = np.array([name[5:8] for name in IDS])
    kept = np.array(rows)
    arrays = {"x": inputs, "y": labels, "id": np.array(IDS), "person": person}
    classes = np.array(["ant", "bee", "cow"])
    np.savez(folder / "data.npz", classes=classes, **{n: one[kept] for n, one in arrays.items()})


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An original and two deletions, the second of which asks for some of the first again."""
    folder = tmp_path_factory.mktemp("chain")
    write_data(folder)
    (folder / "tiny_of_chains.py").write_text(CODE)
    words = ("--epochs", "1", "--lr", "0.05", "--batch-size", "32", "--out", "original")
    done = expunge("train", "--data", "data.npz", "--model", "mlp", *words, cwd=folder)
    (folder / "trained.txt").write_text(done.stdout)
    split = load(folder / "original").split
    retained = [name for name in split.retain if name[5:8] not in ("p01", "p02")]
    words = ("--forget", "group:person=p01", *EPOCH, "--out", "first")
    expunge("unlearn", "original", *words, cwd=folder)
    tested = load(folder / "original").data.test.ids.tolist()
    (folder / "asked.txt").write_text(
        "\n".join(["# Mrs Lee", "p01_*", retained[0], tested[0], split.validation[0], "nobody"])
    )
    words = ("--forget", "ids:asked.txt", *EPOCH, "--with-reference", "--report", "page")
    done = expunge("unlearn", "first", *words, "--out", "second", cwd=folder)
    (folder / "told.txt").write_text(done.stdout + done.stderr)
    return folder


def test_what_was_struck_earlier_is_named_with_the_request(chain: Path) -> None:
    told = (chain / "told.txt").read_text()
    first, second = load(chain / "first"), load(chain / "second")
    today = datetime.now(UTC).date().isoformat()
    struck = {*first.struck[0].forgotten, *first.struck[0].aside}
    assert {name[5:8] for name in struck} == {"p01"}
    assert (
        f"{len(struck)} struck before by request-1 on {today[:4]}" in told and "(finetune)" in told
    )
    assert "1 of the test set" in told and "1 unknown" in told and "'p01_*' is read as" in told
    step = second.record
    assert step.request == "request-2" and step.asked == "ids:asked.txt"
    assert step.log["answer"]["unknown"] == 1 and step.log["answered_ids"]["unknown"] == ["nobody"]
    assert any("1 of the" in one and "unknown" in one for one in step.warnings)
    assert second.struck[0] == first.struck[0]
    assert second.struck[1].forgotten == second.split.forget
    assert [one.request for one in second.struck] == ["request-1", "request-2"]


@pytest.mark.parametrize("request_", ["group:person=p01", "ids:again.txt"])
def test_nothing_but_what_was_struck_is_refused_with_when(chain: Path, request_: str) -> None:
    (chain / "again.txt").write_text("\n".join(load(chain / "first").split.forget))
    told = refused("unlearn", "second", "--forget", request_, *EPOCH, "--out", "x", cwd=chain)
    assert "struck before by request-1 on 20" in told and not (chain / "x").exists()
    with pytest.raises(SplitError, match=r"struck before by request-1 on 20\S+ \(finetune\)"):
        load(chain / "second").asked([load(chain / "first").split.forget[0]])


def test_a_page_has_the_whole_chain(chain: Path) -> None:
    page = (chain / "page/report.html").read_text(encoding="utf-8")
    assert "Requests to this model so far" in page
    for name in ("report.html", "table.md"):
        text = (chain / "page" / name).read_text(encoding="utf-8")
        assert "request-1" in text and "request-2" in text
        assert "group:person=p01" in text.replace("\\", "") and "ids:asked.txt" in text


def test_all_that_was_ever_forgotten_is_audited_against_one_retrained_model(chain: Path) -> None:
    beside = {"original": chain / "original", "retrained": chain / "second-retrained"}
    found = audit_folder(chain / "second", all_forgotten=True, **beside)
    second = load(chain / "second")
    every = {name for one in second.struck for name in one.forgotten}
    assert set(found.panel.split.forget) == every and len(every) > len(second.split.forget)
    assert found["UA"].reference is not None and "original" in found["UA"].detail
    # the obvious way: a split of all of it, of the original's own
    asked = load(chain / "original").asked(sorted(every))
    assert set(asked.retain) - set(second.split.retain) <= set(second.split.excluded)
    with pytest.raises(SplitError, match="did not learn from the samples"):
        audit_folder(chain / "second", all_forgotten=True, original=chain / "first")
    words = ("audit", "second", "--all-forgotten")
    assert "leave --forget out" in refused(*words, "--forget", "class:ant", cwd=chain)
    done = expunge("audit", "second", "--all-forgotten", "--original", "original", cwd=chain)
    assert "2 requests forgot" in " ".join(done.stdout.split())


def test_struck_samples_that_are_gone_are_told_of_an_audit_of_all(
    chain: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(chain, tmp_path / "here"))
    gone = set(load(here / "first").split.forget[:2])
    write_data(here, [row for row, name in enumerate(IDS) if name not in gone])
    data = str(here / "data.npz")
    found = audit_folder(here / "second", all_forgotten=True, original=here / "original", data=data)
    assert any("2 more are not in the data" in note for note in found.notes)
    assert not gone & set(found.panel.split.forget)


def test_an_earlier_version_did_not_say_what_was_struck(chain: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(chain / "second", tmp_path / "second"))
    plain = json.loads((here / "split.json").read_text())
    del plain["struck"]
    (here / "split.json").write_text(json.dumps(plain))
    with pytest.raises(SplitError, match=r"2 of the requests .* earlier version"):
        audit_folder(here, all_forgotten=True, data=str(chain / "data.npz"))
    (when,) = load(here, data=str(chain / "data.npz")).struck_by([plain["excluded"][0]])
    assert "does not say when" in when


@pytest.mark.parametrize("first", ["original", "closed"])
def test_a_redacted_chain_is_audited_though_what_it_struck_is_gone(
    first: str, chain: Path, tmp_path: Path
) -> None:
    """Of samples that are gone a redacted folder has pseudonyms alone, and the original has ids."""
    here = Path(shutil.copytree(chain, tmp_path / "here"))
    load(here / "original").save(here / "closed", redact_ids=True)
    for source, out, asked in (
        (first, "one", "group:person=p03"),
        ("one", "two", "group:person=p04"),
    ):
        words = ("--forget", asked, *EPOCH, "--redact-ids", "--out", out)
        expunge("unlearn", source, *words, cwd=here)
    struck = load(here / "two").struck
    gone = {*struck[0].forgotten, struck[1].forgotten[0]}
    write_data(here, [row for row, name in enumerate(IDS) if name not in gone])
    words = ("audit", "two", "--all-forgotten", "--original", first, "--data", "data.npz")
    said = " ".join(expunge(*words, cwd=here).stdout.split())
    assert f"{len(gone):,} more are not in the data any more" in said
    assert f"2 requests forgot: {len(struck[1].forgotten) - 1:,} samples" in said
    assert "ward/" not in said


@pytest.mark.parametrize(
    "struck", [7, [7], [{"request": "a"}], [{"request": 1, "forgotten": [], "aside": []}]]
)
def test_an_odd_record_of_what_was_struck_costs_one_line(
    struck: object, chain: Path, tmp_path: Path
) -> None:
    here = Path(shutil.copytree(chain / "second", tmp_path / "second"))
    plain = json.loads((here / "split.json").read_text()) | {"struck": struck}
    (here / "split.json").write_text(json.dumps(plain))
    with pytest.raises(SplitError, match="copy the whole folder again"):
        load(here)


def test_what_was_struck_must_have_been(chain: Path, tmp_path: Path) -> None:
    here = Path(shutil.copytree(chain / "second", tmp_path / "second"))
    plain = json.loads((here / "split.json").read_text())
    plain["struck"][0]["forgotten"].append(plain["retain"][0])
    (here / "split.json").write_text(json.dumps(plain))
    with pytest.raises(SplitError, match="did not strike"):
        load(here, data=str(chain / "data.npz"))


def test_pruning_keeps_what_each_request_struck_and_redaction_opens_it_again(
    chain: Path, tmp_path: Path
) -> None:
    second = load(chain / "second")
    sparse = ("--sparsity", "0.5", "--epochs", "1", "--out", str(tmp_path / "sparse"))
    expunge("prune", "second", *sparse, cwd=chain)
    pruned = load(tmp_path / "sparse")
    assert pruned.struck == second.struck and not pruned.split.forget
    second.save(tmp_path / "closed", redact_ids=True)
    assert b"p01_" not in b"".join(
        file.read_bytes() for file in (tmp_path / "closed").rglob("*") if file.is_file()
    )
    assert load(tmp_path / "closed").struck == second.struck
    assert audit_folder(tmp_path / "sparse", all_forgotten=True).panel.split.forget


@pytest.mark.parametrize(
    ("steps", "claim"),
    [
        ([], ""),
        ([("retrain", "exact")], "exact"),
        ([("retrain", "")], "exact"),  # an earlier version, which did not record it
        ([("finetune", "none")], "none"),
        ([("finetune", "")], "none"),
        ([("sisa", "exact"), ("finetune", "none")], "none"),
        ([("finetune", "none"), ("retrain", "exact")], "exact"),
        ([("finetune", "none"), ("euk", "exact")], "exact"),  # k=all
        ([("finetune", "none"), ("euk", "none")], "none"),
        ([("finetune", "none"), ("theirs", "exact")], "none"),
        ([("euk", "exact"), ("finetune", "none")], "none"),
        ([("theirs", "certified(1, 0.1)"), ("sisa", "exact")], "certified(1, 0.1), then exact"),
        ([("theirs", "none (seeded)"), ("sisa", "exact")], "none (seeded)"),
    ],
)
def test_what_is_proved_of_a_chain_is_what_its_weakest_step_proves(
    steps: list[tuple[str, str]], claim: str
) -> None:
    records = [Record(step="train"), *(Record(step=s, guarantee=g, forgotten=3) for s, g in steps)]
    assert proved(records) == claim


def test_what_a_method_proves_is_said_where_its_scores_are_shown(chain: Path) -> None:
    told = audit_folder(chain / "second").proof()
    assert told == "Empirical evidence, no formal guarantee."
    found = audit_folder(chain / "second-retrained")
    assert found.proof().startswith("The method's own guarantee: exact; the scores are empirical")
    assert found.to_dict()["guarantee"] == "exact"


def test_names_of_requests(chain: Path, tmp_path: Path) -> None:
    first = load(chain / "first")
    assert first.next_request() == "request-2" and first.next_request("A-7") == "A-7"
    for odd in ("request-1", "", " ", "a\nb", "x" * 200):
        with pytest.raises(ConfigError, match="choose another"):
            first.next_request(odd)
    taken = replace(first, history=(first.history[0].model_copy(update={"request": "request-2"}),))
    assert taken.next_request() == "request-1"
    done = unlearn_folder(
        chain / "first", "random:0.1", METHOD, tmp_path / "x", beside=Beside(request_id="A-7")
    )
    assert load(tmp_path / "x").struck[-1].request == done.result.record.request == "A-7"


def test_a_struck_record_names_its_samples_otherwise() -> None:
    made = Struck("r", ("a", "b"), ("c",)).named(str.upper)
    assert made == Struck("r", ("A", "B"), ("C",))


# --- what is printed to be done next can be done


def hint_of(said: str) -> list[str]:
    (line,) = [line for line in said.splitlines() if line.startswith("next: ")]
    words = shlex.split(line.removeprefix("next: "))
    assert words[0] == "expunge"
    return words[1:]


MAKE = {
    "train": ("train", "--data", "data.npz", "--model", "tiny_of_chains:build", "--epochs", "1"),
    "prune": ("prune", "original", "--sparsity", "0.5", "--epochs", "1"),
    "import": ("import", "--data", "data.npz", "--model", "mlp", "--weights", "old.safetensors"),
    "unlearn": ("unlearn", "first", "--forget", "random:0.1", *EPOCH),
    "redact": ("unlearn", "first", "--forget", "group:person=p05", *EPOCH, "--redact-ids"),
}


@pytest.mark.parametrize("how", MAKE)
def test_what_is_printed_to_be_done_next_works_as_printed(
    how: str, chain: Path, tmp_path: Path
) -> None:
    if how == "import":
        shutil.copy(chain / "original/model.safetensors", chain / "old.safetensors")
    done = expunge(*MAKE[how], "--out", str(tmp_path / "out with spaces"), cwd=chain)
    said = expunge(*hint_of(done.stdout), cwd=chain).stdout
    assert "written" in said or "UA" in said
    if how in ("train", "import"):  # and so does the next one
        said += "\n" if "next: " in said else "\nnext: expunge list\n"
        expunge(*hint_of(said), cwd=chain)
