"""Digests are whole, and those that earlier versions cut are known again."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers import CPU, digits
from hypothesis import given
from hypothesis import strategies as st

from expunge import load, train
from expunge.data.parts import SPLIT_PARTS
from expunge.data.pseudonyms import Key, is_kept, open_key
from expunge.data.split import Split
from expunge.errors import DataError, SplitError
from expunge.names.digests import earlier_digest, same_digest
from expunge.shadows.card import BankCard
from expunge.study.cells import is_key, key_of
from expunge.training.recipe import Recipe

A, B = (hashlib.sha256(one).hexdigest() for one in (b"a", b"b"))


@pytest.mark.parametrize(
    ("whole", "earlier"),
    [
        (A, A[:32]),
        (f"{A}/{B}/{A}+{B}", f"{A[:32]}/{B[:16]}/{A[:16]}+{B[:16]}"),
        (f"{A}-{B}", f"{A[:32]}-{B[:8]}"),
        (f"v2:{A}", f"v2:{A[:32]}"),
        ("a user's own/1", "a user's own/1"),
        ("", ""),
    ],
)
def test_what_an_earlier_version_wrote_is_the_same(whole: str, earlier: str) -> None:
    assert earlier_digest(whole) == earlier == earlier_digest(earlier)
    assert same_digest(whole, earlier) and same_digest(whole, whole)
    assert same_digest(earlier, whole) == (whole == earlier), "what is found is whole"
    for other in (A[:31], A[:33], B, f"{A[:32]}/", f"{earlier}0", f"{earlier}/{A[:16]}", B[:32]):
        assert not same_digest(whole, other)


@given(st.text("ab/+:-", max_size=8), st.text("ab/+:-", max_size=8))
def test_what_was_never_cut_is_compared_as_it_is(one: str, other: str) -> None:
    assert same_digest(one, other) == (one == other)


def test_a_users_own_digest_was_never_cut_what_was_added_to_it_was() -> None:
    assert same_digest(f"{A}/{B}", f"{A}/{B[:16]}")


def test_a_keyed_digest_of_a_cut_one_is_known() -> None:
    key = Key(bytes(32))
    assert re.fullmatch("keyed:[0-9a-f]{64}", key.digest(A))
    for kept in (key.digest(A), key.digest(A[:32]), key.digest(A[:32])[:38]):
        assert is_kept(A, kept, key)
    for kept in (key.digest(B), key.digest(B[:32])[:38], key.digest(A)[:37], A):
        assert not is_kept(A, kept, key)


def test_a_cell_and_a_bank_of_earlier_versions_keep_their_names() -> None:
    config = {"fingerprint": [A, f"{A}/{B}"], "content": B, "label": "x", "seed": 0}
    earlier = {**config, "fingerprint": [A[:32], f"{A[:32]}/{B[:16]}"], "content": B[:32]}
    text = json.dumps(
        ["retrain", {k: v for k, v in earlier.items() if k != "label"}, []], sort_keys=True
    )
    key = hashlib.sha256(text.encode()).hexdigest()[:32]
    assert key_of("retrain", config, []) == key_of("retrain", earlier, []) == key
    assert is_key(key, "retrain", config, []) and is_key(key, "retrain", earlier, [])
    assert not is_key(key, "retrain", {**config, "content": A}, [])
    words = {name: "" for name in BankCard.model_fields}
    plain: dict[str, Any] = {
        **words,
        "format": 1,
        "seed": 0,
        "inputs": None,
        "code": (),
        "recipe": {},
    }
    card, old = (BankCard(**{**plain, "data": data, "test": B}) for data in (A, A[:32]))
    assert card.digest() == old.digest() != BankCard(**{**plain, "data": B, "test": B}).digest()
    assert card.is_named(old.digest()) and not card.is_named(None)


@pytest.mark.parametrize("redacted", [False, True])
def test_a_folder_with_cut_digests_is_read_and_one_with_others_is_not(
    redacted: bool, tmp_path: Path
) -> None:
    made = train(digits(), "mlp", recipe=Recipe(epochs=1, batch_size=64), place=CPU)
    made.save(tmp_path / "model", redact_ids=redacted)
    files = [tmp_path / "model" / name for name in ("model.json", "split.json")]
    card, split = (json.loads(file.read_text()) for file in files)
    key = open_key(split["pseudonyms"], tmp_path / "model") if redacted else None
    whole = [made.data.train.fingerprint, Split(*(split[name] for name in SPLIT_PARTS)).digest]

    def written(prints: list[str]) -> None:
        card["data"]["fingerprint"], split["digest"] = prints
        for file, content in zip(files, (card, split), strict=True):
            file.write_text(json.dumps(content))

    def kept(digest: str) -> str:
        return earlier_digest(digest) if key is None else key.digest(earlier_digest(digest))[:38]

    now = [card["data"]["fingerprint"], split["digest"]]
    assert now == (whole if key is None else [key.digest(one) for one in whole])
    earlier = [kept(one) for one in whole]
    written(earlier)
    assert load(tmp_path / "model", place=CPU).split == made.split
    for prints, error in (([kept(B), earlier[1]], DataError), ([earlier[0], kept(B)], SplitError)):
        written(prints)
        with pytest.raises(error, match="changed"):
            load(tmp_path / "model", place=CPU)
