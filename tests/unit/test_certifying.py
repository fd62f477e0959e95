"""From a ledger to a certificate: what it tells, who can check it, and that it names nobody."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from commands import expunge
from helpers import CPU
from ledger_helpers import KILLED, dying_at, forked
from sqlalchemy import delete, insert, select, update

from expunge.api import train
from expunge.data.load import load_data
from expunge.errors import CertificateError, RequestError
from expunge.methods import Method, make_method
from expunge.requests import certifying, collecting, running
from expunge.requests.batches import frozen_batch, run_batch
from expunge.requests.certifying import (
    files_of,
    issue,
    prove_id,
    revoke,
    uncertified,
)
from expunge.requests.checking import check_ledger
from expunge.requests.dsse import key_id, read_envelope, sign_payload
from expunge.requests.facts import Fallback
from expunge.requests.ledger import Ledger
from expunge.requests.nonces import listed_items, nonce_of
from expunge.requests.planning import next_batch_lines
from expunge.requests.release import live_folder
from expunge.requests.running import run_waiting
from expunge.requests.signers import signing_key
from expunge.requests.signing import PRIVATE_KEY, PUBLIC_KEY, make_signing_key
from expunge.requests.statement import performer_of
from expunge.requests.tables import events, nonces, requests, steps
from expunge.requests.verify import check_certificate
from expunge.shadows.bank import open_bank
from expunge.shadows.folders import BankWanted, build_folder
from expunge.trained.card import MASK
from expunge.training.recipe import Recipe

ORGANISATION = "<script>alert(1)</script> & Söhne"
PERSON = "zebedee"
"""Begins every id; no text holds it by chance."""
SAMPLES = 120


def twin(name: str) -> str:
    """The id of its copy."""
    return f"{PERSON}-{(int(name[-3:]) + SAMPLES // 2) % SAMPLES:03d}"


@dataclass
class Held:
    """A folder with a ledger. asked: the ids of its first request."""

    folder: Path
    ledger: Ledger
    asked: tuple[str, ...] = ()

    def ask(self, *names: str) -> str:
        (self.folder / "ids.txt").write_text("".join(f"{one}\n" for one in names))
        return str(expunge("request", "add", "--ids", "ids.txt", cwd=self.folder).stdout)

    def payload(self, batch: int = 1) -> dict[str, Any]:
        envelope = read_envelope(files_of(self.ledger, batch).certificate.read_bytes())
        told: dict[str, Any] = json.loads(envelope.payload)
        return told

    def part(self, name: str) -> list[str]:
        """Ids of a part of the original's split."""
        found: list[str] = json.loads((self.folder / "original/split.json").read_text())[name]
        return found

    def states(self) -> list[str]:
        with self.ledger.read() as connection:
            return list(connection.scalars(select(requests.c.state).order_by(requests.c.id)))

    @property
    def model(self) -> Path:
        return self.ledger.folder / "models/batch-0001-retrain"


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """A batch of one request was run: two learned samples, and one that nobody knows."""
    folder = tmp_path_factory.mktemp("certifying")
    rng = np.random.default_rng(0)
    labels = np.arange(SAMPLES) % 3
    inputs = (rng.normal(size=(SAMPLES, 6)) + 3 * labels[:, None]).astype(np.float32)
    inputs[60:] = inputs[:60]  # each has a copy
    names = [f"{PERSON}-{row:03d}" for row in range(SAMPLES)]
    np.savez(folder / "data.npz", x=inputs, y=labels, id=names, classes=["ant", "bee", "cow"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EXPUNGE_KEYS", str(folder / "keys"))
        patch.chdir(folder)
        recipe = Recipe(epochs=4, lr=0.05, batch_size=32)
        original = train(load_data(str(folder / "data.npz")), "mlp", recipe=recipe, place=CPU)
        original.save(folder / "original")
        build_folder(folder / "original", wanted=BankWanted(models=2), place=CPU)
        expunge("ledger", "init", "original", "--organisation", ORGANISATION, cwd=folder)
        held = Held(folder, Ledger.open(folder / "original-ledger"))
        held.asked = (*held.part("retain")[:2], f"{PERSON}-unheard")
        held.ask(*held.asked)
        said = expunge("batch", "run", "--device", "cpu", cwd=folder).stdout
        assert "check it: expunge certify verify" in said
        yield held


def test_a_run_ends_with_a_certificate_that_tells_what_was_done(held: Held) -> None:
    told = held.payload()["predicate"]
    assert [told["data"][one] for one in ("asked", "size", "found")] == [3, 3, 2]
    assert told["data"]["name"] == "data.npz" and told["procedure"]["method"] == "retrain"
    assert told["data"]["retained"] == len(held.part("retain")) - 2
    assert told["samples_read"]["forget"] == 0 < told["samples_read"]["retain"]
    assert [one["where"] for one in told["places"]][:1] == ["original"]
    exact, *others = told["duplicates"]
    assert exact["undecided"] == exact["proposed"] > 0 == exact["unclear"]
    assert [(one["name"], one["requests"]) for one in others] == [
        ("perceptual", 0),
        ("embeddings", 0),
    ]
    assert (
        "and not looked for by a hash of pictures or by what the model sees." in told["limits"][-1]
    )
    assert told["gate"]["controls"][0]["name"].endswith("of which 2 samples were struck")
    assert held.states()[0] == "closed" and uncertified(held.ledger) == []
    key = held.ledger.folder / "signing-key.pub.pem"
    (private,) = (held.folder / "keys").glob(f"*/{PRIVATE_KEY}")
    assert private.stat().st_mode & 0o777 == 0o600
    lines = check_certificate(files_of(held.ledger, 1).certificate, key=key, model=held.model)
    assert {line.what: line.passed for line in lines} == {
        "signature": True,
        "statement": True,
        "model.json": True,
        "model.safetensors": True,
        "proof": None,
        "ledger": None,
    }


def test_another_key_a_changed_byte_and_another_weight_file_fail(
    held: Held, tmp_path: Path
) -> None:
    """At the terminal, from another folder, without the ledger."""
    key = shutil.copy(held.ledger.folder / "signing-key.pub.pem", tmp_path / "key.pem")
    content = files_of(held.ledger, 1).certificate.read_bytes()
    file = tmp_path / "certificate.json"
    file.write_bytes(content)
    said = expunge("certify", "verify", file.name, "--key", key.name, cwd=tmp_path)
    assert "yes  signature: by the key" in said.stdout

    make_signing_key(tmp_path / "other")
    other = f"other/{PUBLIC_KEY}"
    said = expunge("certify", "verify", file.name, "--key", other, cwd=tmp_path, ok=False)
    assert said.returncode == 2 and "another key signed it" in said.stderr

    copied = shutil.copytree(held.model, tmp_path / "model")
    with (copied / "model.safetensors").open("r+b") as stream:
        stream.seek(-1, 2)
        last = stream.read(1)
        stream.seek(-1, 2)
        stream.write(bytes([last[0] ^ 1]))
    wanted = {
        line.what for line in check_certificate(file, key=key, model=copied) if not line.passed
    }
    assert "model.safetensors" in wanted and "model.json" not in wanted

    at = content.index(b'"payload":"') + 400
    file.write_bytes(
        content[:at] + (b"A" if content[at : at + 1] != b"A" else b"B") + content[at + 1 :]
    )
    assert [line.passed for line in check_certificate(file, key=key)] == [False]


def test_one_person_gets_a_proof_and_no_other_is_told_in_it(held: Held, tmp_path: Path) -> None:
    own, other, _ = held.asked
    file = tmp_path / "proof.json"
    assert prove_id(held.ledger, own, file) == 1
    files = files_of(held.ledger, 1)
    said = expunge(
        *("certify", "verify", str(files.certificate), "--key", str(files.key)),
        *("--proof", str(file)),
        cwd=tmp_path,
    )
    assert "yes  proof: its id is one of the 3" in said.stdout and other not in file.read_text()
    file.write_text(file.read_text().replace(own, other))
    lines = check_certificate(files.certificate, key=files.key, proof=file)
    assert [line.passed for line in lines if line.what == "proof"] == [False]
    with pytest.raises(CertificateError, match="no certificate lists 'nobody'"):
        prove_id(held.ledger, "nobody", tmp_path / "none.json")
    with pytest.raises(CertificateError, match="exists; name another file"):
        prove_id(held.ledger, own, file)


def test_a_nonce_is_kept_under_the_ledgers_key_and_cuts_the_link_when_it_goes(
    held: Held, tmp_path: Path
) -> None:
    with held.ledger.read() as connection:
        listed = listed_items(connection, 1)
    one = next(one for one in listed if one.id_hmac == held.ledger.key.hmac(held.asked[1]))
    prove_id(held.ledger, held.asked[1], tmp_path / "proof.json")
    told = json.loads((tmp_path / "proof.json").read_text())["nonce"]
    assert one.nonce is not None and one.nonce != told
    assert nonce_of(one.nonce, held.ledger.key, one.item).hex() == told
    with held.ledger.write() as writing:
        gone = update(nonces).where(nonces.c.item == one.item).values(nonce=None)
        writing.connection.execute(gone)
    with pytest.raises(CertificateError, match="was destroyed"):
        prove_id(held.ledger, held.asked[1], tmp_path / "again.json")
    prove_id(held.ledger, held.asked[0], tmp_path / "again.json")  # the other one's still stands


def test_issuing_again_gives_the_same_bytes_wherever_it_was_killed(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = files_of(held.ledger, 1)
    before = files.certificate.read_bytes(), files.page.read_bytes()
    for lost in ([files.certificate], [files.page], [files.certificate, files.page]):
        for file in lost:
            file.unlink()
        assert issue(held.ledger, 1, place=CPU) == files
        assert (files.certificate.read_bytes(), files.page.read_bytes()) == before
    held.ask(held.part("retain")[2])
    monkeypatch.setattr(certifying, "_close", lambda *_: (_ for _ in ()).throw(OSError("killed")))
    with pytest.raises(OSError, match="killed"):
        run_waiting(held.ledger, place=CPU)
    (batch,) = uncertified(held.ledger)
    first = files_of(held.ledger, batch).certificate.read_bytes()
    assert held.states()[-1] == "released"
    monkeypatch.undo()
    monkeypatch.setenv("EXPUNGE_KEYS", str(held.folder / "keys"))
    assert any(f"batch-{batch:04d}" in line for line in run_waiting(held.ledger, place=CPU))
    assert files_of(held.ledger, batch).certificate.read_bytes() == first
    assert held.states()[-1] == "closed"
    assert [one["where"] for one in held.payload(batch)["predicate"]["places"]][:2] == [
        "original",
        "original-ledger/models/batch-0001-retrain",
    ]


def test_killed_after_any_transaction_it_goes_on(held: Held) -> None:
    pair = next(one for one in held.part("retain")[3:] if twin(one) in held.part("retain")[3:])
    assert "exact copies" not in held.ask(pair, twin(pair)), "they do not stay"
    batch = frozen_batch(held.ledger)
    assert batch is not None and run_batch(held.ledger, batch, place=CPU).state == "released"
    codes = []
    for turn in range(1, 20):

        def issued(turn: int = turn) -> None:
            with pytest.MonkeyPatch.context() as patch, dying_at(turn, patch):
                issue(Ledger.open(held.ledger.folder), batch, place=CPU)

        codes.append(forked(issued)()[0])
        if codes[-1] == 0:
            break
    assert len(codes) > 2 and codes == [KILLED] * (len(codes) - 1) + [0]
    assert uncertified(held.ledger) == [] and held.states()[-1] == "closed"
    assert check_ledger(held.ledger).faults == []
    layer = held.payload(batch)["predicate"]["duplicates"][0]
    assert (layer["proposed"], layer["added"]) == (0, 0), "both are asked for, and no copies"
    with held.ledger.read() as connection:
        told = connection.scalars(
            select(events.c.payload).where(events.c.kind == "certificate issued")
        )
        assert sum(json.loads(one)["batch"] == batch for one in told) == 1


def test_every_command_of_a_ledger_answers(held: Held) -> None:
    """Those of the docs that change nothing."""
    for words in (
        "ledger status",
        "ledger verify",
        "ledger export --to events.jsonl",
        "request list",
        "request show 1",
        "batch status",
        "release list",
        "certify issue 1",
    ):
        assert expunge(*words.split(), cwd=held.folder).stdout.strip(), words
    names = ("--id", held.asked[0], "--batch", "1", "--to", "own.json")
    assert "of batch 1" in expunge("certify", "prove", *names, cwd=held.folder).stdout


def test_no_id_stands_in_what_is_kept(held: Held) -> None:
    kept = [file for file in held.ledger.folder.iterdir() if file.is_file()]
    kept += (held.ledger.folder / "certificates").iterdir()
    assert {"ledger.db", "batch-0001.html"} <= {file.name for file in kept}
    for file in kept:
        assert PERSON.encode() not in file.read_bytes(), file
    assert PERSON not in json.dumps(held.payload())  # base64 hides it from a search of the file
    assert PERSON.encode() in (held.folder / "ids.txt").read_bytes(), (
        "the search finds what is there"
    )


def test_the_page_escapes_every_text_and_says_how_to_check(held: Held) -> None:
    page = files_of(held.ledger, 1).page.read_text()
    assert "&lt;script&gt;alert(1)&lt;/script&gt; &amp; Söhne" in page
    assert "<script" not in page and "http" not in page.replace("http-equiv", "")
    assert "expunge certify verify batch-0001.dsse.json --key signing-key.pub.pem" in page
    assert "1 of the samples on the list are not among those trained on" in page
    for sentence in held.payload()["predicate"]["said"]:
        assert sentence in page


@pytest.mark.parametrize("method", [None, make_method("euk", {"k": "all"}, allow_code=False)])
def test_a_batch_that_names_nothing_learned_ends_with_the_same_model(
    method: Method | None, held: Held
) -> None:
    held.ask(held.part("validation")[0 if method is None else 1])
    told = run_waiting(held.ledger, method, place=CPU)
    batch = max(int(file.stem[6:10]) for file in files_of(held.ledger, 1).page.parent.iterdir())
    predicate = held.payload(batch)["predicate"]
    assert predicate["procedure"]["kind"] == "none" and predicate["data"]["size"] == 1
    assert "fallback" not in predicate
    assert predicate["models"]["before"] == predicate["models"]["after"]
    assert "had learned from none of them" in predicate["said"][1]
    assert told[0].startswith(f"batch {batch}: released; live: ") and held.states()[-1] == "closed"
    assert not (held.ledger.folder / f"models/batch-{batch:04d}-retrain").exists()
    page = files_of(held.ledger, batch).page.read_text()
    assert "no model was made" in page and "it read" not in page


def test_what_no_certificate_can_tell_is_said_in_a_line_and_stops_no_other(
    held: Held, monkeypatch: pytest.MonkeyPatch
) -> None:
    last = max(int(file.stem[6:10]) for file in files_of(held.ledger, 1).page.parent.iterdir())
    dropped = Fallback(method="euk", verdict="invalid", at="2026-11-27T09:00:00Z")
    monkeypatch.setattr(collecting, "_fallback", lambda _: dropped)
    with pytest.raises(CertificateError, match=f"tell of batch {last}: .* is retraining; see"):
        collecting.collect(held.ledger, last, place=CPU)
    monkeypatch.setattr(running, "uncertified", lambda _: [last, 1])
    monkeypatch.setattr(
        running,
        "issue",
        lambda *of, place: issue(*of, place=place) if of[1] == 1 else collecting.collect(*of),
    )
    told: list[str] = []
    with pytest.raises(CertificateError, match=f"batch {last} has no certificate: no certificate"):
        run_waiting(held.ledger, place=replace(CPU, tell=told.append))
    assert told[0].startswith("certificate: ") and "batch-0001" in told[0]


def test_places_are_all_that_a_ledger_made_and_files_are_those_that_were_released(
    held: Held,
) -> None:
    made = held.ledger.folder / "models/control-01"
    made.mkdir()
    places = collecting.collect(held.ledger, 1, place=CPU).facts.places
    derived = [one.where for one in places if one.what == "derived models"]
    assert derived == ["original-ledger/models/control-01"]
    made.rmdir()
    (held.model / MASK).write_bytes(b"mask")
    with pytest.raises(CertificateError, match="are not those that were released"):
        collecting.collect(held.ledger, 1, place=CPU)
    assert [one for one in check_ledger(held.ledger).faults if "was changed" in one]
    (held.model / MASK).unlink()


def test_a_changed_file_and_a_lost_key_are_found(held: Held) -> None:
    assert check_ledger(held.ledger).faults == []
    files = files_of(held.ledger, 1)
    content = files.certificate.read_bytes()
    files.certificate.write_bytes(content.replace(b'"sig":"', b'"sig":"AAAA', 1))
    (fault,) = check_ledger(held.ledger).faults
    assert "batch-0001.dsse.json" in fault and "no signature is by the key" in fault
    files.certificate.write_bytes(sign_payload(b"{}", signing_key(held.ledger)))
    assert ["tells something else" in one for one in check_ledger(held.ledger).faults] == [True]
    files.certificate.write_bytes(content)
    (folder,) = (held.folder / "keys").glob("signing-*")
    folder.rename(folder.with_name("away"))
    with pytest.raises(CertificateError, match="bring the key back"):
        issue(held.ledger, 1, place=CPU)
    make_signing_key(folder)
    with pytest.raises(CertificateError, match="another key than the one that signed before"):
        issue(held.ledger, 1, place=CPU)
    shutil.rmtree(folder)
    folder.with_name("away").rename(folder)


def test_a_new_key_signs_and_the_old_one_is_kept_for_what_it_signed(held: Held) -> None:
    first, old = files_of(held.ledger, 1), signing_key(held.ledger)
    before = first.certificate.read_bytes(), first.key.read_bytes()
    expunge("ledger", "rotate-key", "--reason", "a year", cwd=held.folder)
    with held.ledger.read() as connection:
        kind = events.c.kind == "signing key changed"
        told = json.loads(connection.scalar(select(events.c.payload).where(kind)) or "")
    new = signing_key(held.ledger)
    keys = [key_id(one.public_key()) for one in (old, new)]
    assert [told["before"], told["after"]] == keys and keys[0] != keys[1]
    first.certificate.unlink()
    assert issue(held.ledger, 1, place=CPU) == first, "by the key that signed it"
    assert (first.certificate.read_bytes(), first.key.read_bytes()) == before
    held.ask(held.part("validation")[2])
    run_waiting(held.ledger, place=CPU)
    files = files_of(held.ledger, last_batch(held))
    assert files.key.name == "signing-key-2.pub.pem"
    for one, passed in ((first, [True, False]), (files, [False, True])):
        lines = [check_certificate(one.certificate, key=by.key)[0] for by in (first, files)]
        assert [line.passed for line in lines] == passed
    checked = check_ledger(held.ledger)
    assert checked.faults == []
    assert any(line.endswith("signed by signing-key-2.pub.pem") for line in checked.lines)
    signed = files.certificate.read_bytes()
    files.certificate.write_bytes(sign_payload(read_envelope(signed).payload, old))
    (fault,) = check_ledger(held.ledger).faults
    assert "no signature is by the key" in fault, "an old key signs nothing more"
    files.certificate.write_bytes(signed)


def test_one_is_revoked_once(held: Held) -> None:
    revoke(held.ledger, 1, "the wrong list")
    with pytest.raises(RequestError, match=r"is revoked since .* \(the wrong list\)"):
        revoke(held.ledger, 1, "again")
    with pytest.raises(RequestError, match="batch 99 has no certificate"):
        revoke(held.ledger, 99, "none")
    checked = check_ledger(held.ledger)
    assert checked.faults == [] and any(", revoked 20" in line for line in checked.lines)


@pytest.mark.parametrize("name", ["erika@example.org", "/home/erika", "two\nlines", ""])
def test_an_organisation_that_no_certificate_can_name_is_refused(name: str) -> None:
    with pytest.raises(CertificateError, match=r"holds no personal|can name"):
        performer_of(name, "controller")


def test_a_plan_tells_what_waits_and_until_when_it_must_start(held: Held) -> None:
    assert next_batch_lines(held.ledger) == [
        "no request waits; `expunge request add --ids FILE` receives one"
    ]
    held.ask(held.part("retain")[-1])
    told = expunge("batch", "plan", "--review", "2h", cwd=held.folder).stdout
    assert "1 request waits, of 1 sample;" in told
    assert "start by " in told and "the latest safe start" in told
    later = expunge("batch", "run", "--due", cwd=held.folder).stdout
    assert (
        "nothing is begun yet; the next batch starts 20" in later
        and "Europe/Berlin: the l" in later
    )
    assert uncertified(held.ledger) == [] and held.states()[-1] == "struck"
    policies = held.ledger.folder / "policies.yaml"
    policies.write_text("gdpr: {window: day}\n")
    assert "the end of the calendar window" in expunge("batch", "plan", cwd=held.folder).stdout
    policies.unlink()
    with held.ledger.write() as writing:
        timed = {"input_digest": "x", "attempt": 1, "lease_until": writing.at, "fencing": 1}
        row = {"batch": 1, "name": "unlearn", "worker": "w", "output": "{}", "seconds_ms": 100}
        writing.connection.execute(insert(steps).values(**timed, **row))
    assert "Recommended: retrain" in "\n".join(next_batch_lines(held.ledger, batches=20))
    with held.ledger.write() as writing:
        writing.connection.execute(delete(steps).where(steps.c.input_digest == "x"))
        soon = update(requests).where(requests.c.state == "struck")
        writing.connection.execute(soon.values(due_at=writing.at))
    waits = ("batch", "run", "--due", "--no-promote", "--device", "cpu")
    (number,) = re.findall(r"release promote (\d+)", expunge(*waits, cwd=held.folder).stdout)
    assert held.states()[-1] == "in_batch" and uncertified(held.ledger) == []
    assert f"{number}  candidate: " in expunge("release", "list", cwd=held.folder).stdout
    said = expunge("release", "promote", number, "--device", "cpu", cwd=held.folder).stdout
    assert "released; live: " in said and "check it: " in said and held.states()[-1] == "closed"


def test_going_back_shows_on_the_pages_until_a_batch_has_retrained(held: Held) -> None:
    page = files_of(held.ledger, 1).page
    before, signed = page.read_text(), files_of(held.ledger, 1).certificate.read_bytes()
    due = re.findall(r">(20\S+ 23:59 Europe/Berlin)</td>", before)
    assert len(due) == 1 and "live: contains" not in before
    many = sum(one == "closed" for one in held.states())
    back = (
        "release",
        "rollback",
        "1",
        "--by",
        "Erika",
        "--reason",
        "it fails in the shop",
        "--yes",
    )
    assert f"contains {many + 1} struck" not in before
    said = expunge(*back, cwd=held.folder).stdout
    assert "is open, and retrains; next: expunge batch run" in said
    told = page.read_text()
    assert "(rolled back by Erika: it fails in the shop)" in told and "live: contains " in told
    assert files_of(held.ledger, 1).certificate.read_bytes() == signed
    assert "rolled back by Erika" in expunge("ledger", "status", cwd=held.folder).stdout
    expunge("batch", "run", "--device", "cpu", cwd=held.folder)
    assert "forgotten again in a later batch" in page.read_text()
    assert {*held.states()} == {"closed"} and check_ledger(held.ledger).faults == []
    assert "contains" not in expunge("release", "list", cwd=held.folder).stdout


def test_what_knows_the_struck_is_deleted_and_taken_out_of_banks(held: Held) -> None:
    live, bank = live_folder(held.ledger), held.folder / "original-bank"
    name = held.part("retain")[-2]
    held.ask(name)
    again = ("request", "add", "--ids", "ids.txt", "--source", "letter")
    of = len(held.states())
    said = expunge(*again, cwd=held.folder).stdout
    assert f"a duplicate of request {of}, and answered with it" in said
    expunge("batch", "run", "--device", "cpu", cwd=held.folder)
    page = files_of(held.ledger, last_batch(held)).page.read_text()
    assert f"<td>{of + 1} (a duplicate of {of})</td>" in page
    assert "duplicate answered" in expunge("request", "show", str(of + 1), cwd=held.folder).stdout
    places = held.payload(last_batch(held))["predicate"]["places"]
    days = {one["where"]: one.get("until") for one in places}
    assert days["original"] is None and days["original-bank"] == days[f"{MODELS}/{live.name}"]
    assert (
        f"<td>{days[f'{MODELS}/{live.name}']}</td>"
        in files_of(held.ledger, last_batch(held)).page.read_text()
    )
    asked = ("release", "purge", "--now", "--yes", "--reason", "a complaint")
    dry = expunge("release", "purge", "--now", "--dry-run", cwd=held.folder).stdout
    assert name in open_bank(bank).ids
    said = expunge(*asked, cwd=held.folder).stdout
    assert dry.count("would go: ") == said.count("deleted: ") + said.count("taken out of: ") > 2
    assert f"taken out of: bank {bank}" in said and "kept: old weights" in said
    left = {one.name for one in live.parent.iterdir()}
    assert left == {f"batch-{last_batch(held):04d}-retrain"}
    assert name not in open_bank(bank).ids and check_ledger(held.ledger).faults == []
    assert (held.folder / "original").is_dir(), "the ledger did not make it"
    assert "deleted: " not in expunge(*asked, cwd=held.folder).stdout


MODELS = "original-ledger/models"


def last_batch(held: Held) -> int:
    return max(int(file.stem[6:10]) for file in files_of(held.ledger, 1).page.parent.glob("*.html"))
