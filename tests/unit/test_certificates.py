"""Certificates: the tree against a slow one, the envelope against another reader, all tampering."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from certificate_facts import FILES, D, T, facts, told
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_pem_public_key,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from securesystemslib.dsse import Envelope as TheirEnvelope
from securesystemslib.exceptions import VerificationError
from securesystemslib.signer import SSlibKey

from expunge.errors import CertificateError
from expunge.requests.claims import claimed_too_much, may_be_said
from expunge.requests.dsse import (
    PAYLOAD_TYPE,
    SignatureError,
    key_id,
    pre_auth_encoding,
    read_envelope,
    sign_payload,
    signed_payload,
)
from expunge.requests.facts import ForgettingFacts
from expunge.requests.merkle import (
    InclusionPath,
    MerkleTree,
    id_leaf,
    is_included,
    leaf_hash,
    new_nonce,
)
from expunge.requests.proof import prove, read_proof, write_proof
from expunge.requests.signing import (
    PRIVATE_KEY,
    PUBLIC_KEY,
    make_signing_key,
    open_private,
    open_public,
)
from expunge.requests.statement import (
    check_no_id,
    make_statement,
    read_statement,
    statement_payload,
)
from expunge.requests.verify import Checked, check_certificate

# --- the tree


def slow_root(leaves: list[bytes]) -> bytes:
    """MTH of RFC 6962, section 2.1, as it is written there."""
    if not leaves:
        return hashlib.sha256().digest()
    if len(leaves) == 1:
        return leaves[0]
    k = max(2**power for power in range(10) if 2**power < len(leaves))
    return hashlib.sha256(b"\x01" + slow_root(leaves[:k]) + slow_root(leaves[k:])).digest()


def slow_path(index: int, leaves: list[bytes]) -> list[bytes]:
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = max(2**power for power in range(10) if 2**power < len(leaves))
    if index < k:
        return [*slow_path(index, leaves[:k]), slow_root(leaves[k:])]
    return [*slow_path(index - k, leaves[k:]), slow_root(leaves[:k])]


def test_the_tree_is_that_of_the_rfc_at_every_size() -> None:
    for size in range(41):
        leaves = [leaf_hash(bytes([row])) for row in range(size)]
        tree = MerkleTree(leaves)
        assert tree.root == slow_root(leaves)
        for index, leaf in enumerate(leaves):
            found = tree.path(index)
            assert list(found.path) == slow_path(index, leaves)
            assert is_included(leaf, found, root=tree.root, size=size)
            wrong = (index + 1) % size
            if wrong != index:
                assert not is_included(leaves[wrong], found, root=tree.root, size=size)
                moved = InclusionPath(wrong, size, found.path)
                assert not is_included(leaf, moved, root=tree.root, size=size)
        for index in (-1, size):
            with pytest.raises(IndexError):
                tree.path(index)


def test_a_path_of_another_height_shows_nothing() -> None:
    """Though its hashes meet in the root: a node is no leaf, and a size of 1 has no neighbours."""
    leaves = [leaf_hash(bytes([row])) for row in range(4)]
    four, two = MerkleTree(leaves), MerkleTree(leaves[:2])
    node = InclusionPath(0, 4, four.path(0).path[1:])
    assert not is_included(two.root, node, root=four.root, size=4)
    assert is_included(two.root, InclusionPath(0, 2, node.path), root=four.root, size=2), (
        "it does meet"
    )
    long = InclusionPath(0, 1, (leaves[0],))
    assert not is_included(leaves[1], long, root=two.root, size=1)


def test_the_tree_gives_the_known_numbers() -> None:
    """Of certificate-transparency's own tests: eight leaves, the roots of the first n, and two paths."""
    data = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657"]
    leaves = [leaf_hash(bytes.fromhex(one)) for one in [*data, bytes(range(0x60, 0x70)).hex()]]
    roots = {
        0: "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        5: "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        6: "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        8: "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    }
    assert {size: MerkleTree(leaves[:size]).root.hex() for size in roots} == roots
    assert [one.hex() for one in MerkleTree(leaves[:3]).path(2).path] == [roots[2]]
    assert [one.hex() for one in MerkleTree(leaves).path(0).path] == [
        "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7",
        "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e",
        "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4",
    ]


def test_a_leaf_is_a_keyed_hash_of_an_id() -> None:
    nonce = bytes(range(32))
    inner = hmac.new(nonce, "Zoë/7.png".encode(), "sha256").digest()
    assert id_leaf(nonce, "Zoë/7.png") == hashlib.sha256(b"\x00" + inner).digest()
    for odd in (b"", bytes(31), bytes(33)):
        with pytest.raises(CertificateError, match="a nonce has 32 bytes"):
            id_leaf(odd, "a")
    with pytest.raises(CertificateError, match="is no UTF-8"):
        id_leaf(nonce, "a\udcff")
    assert new_nonce() != new_nonce()


@given(st.integers(1, 12), st.data())
def test_no_changed_path_leads_to_the_root(size: int, data: st.DataObject) -> None:
    tree = MerkleTree.over(leaf_hash(bytes([row])) for row in range(size))
    index = data.draw(st.integers(0, size - 1))
    leaf, good = tree.leaves[index], tree.path(index)
    path = list(good.path)
    change = data.draw(st.sampled_from(["index", "size", "one", "longer", "shorter", "swapped"]))
    other = data.draw(st.integers(0, 12))
    if change == "index":
        bad = InclusionPath(other, size, good.path)
    elif change == "size":
        bad = InclusionPath(index, other, good.path)
    elif change == "one" and path:
        row = data.draw(st.integers(0, len(path) - 1))
        path[row] = bytes([path[row][0] ^ 1]) + path[row][1:]
        bad = InclusionPath(index, size, tuple(path))
    elif change == "shorter":
        bad = InclusionPath(index, size, tuple(path[1:]))
    elif change == "swapped":
        bad = InclusionPath(index, size, tuple(path[::-1]))
    else:
        bad = InclusionPath(index, size, (*path, leaf))
    assert is_included(leaf, bad, root=tree.root, size=size) == (bad == good)


# --- keys and envelopes


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("keys") / "signing"
    make_signing_key(folder)
    return folder


def test_a_key_pair_is_two_files_and_one_is_for_its_owner_alone(keys: Path) -> None:
    assert sorted(os.listdir(keys)) == [PRIVATE_KEY, PUBLIC_KEY]
    assert (keys / PRIVATE_KEY).stat().st_mode & 0o777 == 0o600
    assert key_id(open_private(keys).public_key()) == key_id(open_public(keys / PUBLIC_KEY))
    before = (keys / PRIVATE_KEY).read_bytes()
    with pytest.raises(CertificateError, match="is there already"):
        make_signing_key(keys)
    assert (keys / PRIVATE_KEY).read_bytes() == before


def test_odd_key_files_are_refused(keys: Path, tmp_path: Path) -> None:
    with pytest.raises(CertificateError, match="No such file"):
        open_private(tmp_path)
    loose = tmp_path / PRIVATE_KEY
    loose.write_bytes((keys / PRIVATE_KEY).read_bytes())
    for mode in (0o640, 0o604):
        loose.chmod(mode)
        with pytest.raises(CertificateError, match=r"chmod 600 .*private-signing-key\.pem"):
            open_private(tmp_path)
    loose.write_text("-----BEGIN PRIVATE KEY-----\nno\n-----END PRIVATE KEY-----\n")
    loose.chmod(0o600)
    with pytest.raises(CertificateError, match="cannot read"):
        open_private(tmp_path)
    with pytest.raises(CertificateError, match="is a private key"):
        open_public(keys / PRIVATE_KEY)
    other = tmp_path / "other.pem"
    public = generate_private_key(SECP256R1()).public_key()
    other.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    with pytest.raises(CertificateError, match="is no ed25519 key"):
        open_public(other)


def test_what_is_signed_is_what_the_protocol_prints() -> None:
    kind, payload = "http://example.com/HelloWorld", b"hello world"
    expected = b"DSSEv1 29 http://example.com/HelloWorld 11 hello world"
    assert pre_auth_encoding(kind, payload) == expected
    assert pre_auth_encoding("é", "é".encode()) == b"DSSEv1 2 \xc3\xa9 2 \xc3\xa9"


@settings(max_examples=30)
@given(st.binary(max_size=80))
def test_another_reader_agrees(payload: bytes) -> None:
    """securesystemslib, which has its own encoding, reads what is signed, and no other key's."""
    key, stranger = (Ed25519PrivateKey.from_private_bytes(bytes([n]) * 32) for n in (1, 2))
    content = sign_payload(payload, key)
    assert content == sign_payload(payload, key)
    theirs = TheirEnvelope.from_dict(json.loads(content))
    assert (theirs.payload, theirs.payload_type) == (payload, PAYLOAD_TYPE)
    public = key.public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    known = SSlibKey.from_crypto(load_pem_public_key(pem), keyid=key_id(public))
    assert list(theirs.verify([known], threshold=1)) == [key_id(public)]
    wrong = SSlibKey.from_crypto(stranger.public_key(), keyid=key_id(public))
    with pytest.raises(VerificationError):
        theirs.verify([wrong], threshold=1)
    envelope = read_envelope(content)
    assert signed_payload(envelope, [stranger.public_key(), public]) == payload
    for keys in ([], [stranger.public_key()]):
        with pytest.raises(SignatureError, match="no signature is by"):
            signed_payload(envelope, keys)


def test_what_may_differ_between_envelopes_may() -> None:
    """Other signs of base64, no keyid or a wrong one, another signature, fields of later versions."""
    key = Ed25519PrivateKey.from_private_bytes(bytes(32))
    payload = b"\xfb\xff" * 9
    content = json.loads(sign_payload(payload, key))
    content["payload"] = base64.urlsafe_b64encode(payload).decode()
    assert "-" in content["payload"]
    content["later"] = 1
    sig = content["signatures"][0]["sig"]
    for signatures in ([{"sig": sig}], [{"keyid": "x", "sig": ""}, {"keyid": "x", "sig": sig}]):
        envelope = read_envelope(json.dumps({**content, "signatures": signatures}).encode())
        assert signed_payload(envelope, [key.public_key()]) == payload
    other = {**content, "payloadType": "application/json"}
    with pytest.raises(SignatureError, match="no signature is by"):
        signed_payload(read_envelope(json.dumps(other).encode()), [key.public_key()])
    signed = base64.b64encode(key.sign(pre_auth_encoding("application/json", payload))).decode()
    other["signatures"] = [{"sig": signed}]
    with pytest.raises(SignatureError, match=r"'application/json', not application/vnd\.in-toto"):
        signed_payload(read_envelope(json.dumps(other).encode()), [key.public_key()])


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"\xff", "no UTF-8"),
        (b"[]", "does not hold an object"),
        (b"{}", "signatures"),
        (b'{"signatures":[]}', "1 to 16 signatures"),
        (b'{"signatures":[1]}', "is no object"),
        (b'{"signatures":[{"sig":"x"}],"payload":"eA=="}', "payloadType is no text"),
        (b'{"signatures":[{"sig":"eA=="}],"payloadType":"t"}', "payload is no text"),
        (b'{"signatures":[{"sig":"!"}],"payloadType":"t","payload":""}', "sig is no base64"),
        (b"[" * 100_000, "nested too deeply"),
        (b" " * (4 * 2**20 + 1), "larger than 4 MiB"),
    ],
)
def test_what_is_no_envelope_is_refused(content: bytes, why: str) -> None:
    with pytest.raises(CertificateError, match=why):
        read_envelope(content)


# --- the statement

IDS = [f"person-{row}.png" for row in range(5)]


def test_the_same_facts_give_the_same_bytes_in_one_way_of_writing() -> None:
    statement = make_statement(FILES, facts())
    payload = statement_payload(statement)
    turned = ForgettingFacts.model_validate_json(json.dumps(dict(reversed(told().items()))))
    backwards = make_statement(dict(reversed(FILES.items())), turned)
    assert statement_payload(backwards) == payload
    assert read_statement(payload) == statement
    plain = json.loads(payload)
    assert json.dumps(plain, sort_keys=True, separators=(",", ":")).encode() == payload
    assert plain["_type"] == "https://in-toto.io/Statement/v1"
    assert plain["subject"][1] == {"name": "model.safetensors", "digest": {"sha256": D}}
    assert plain["predicateType"] == "urn:expunge:forgetting:v1"
    kept = {name: plain["predicate"][name] for name in told()}
    assert kept == told(), "nothing is lost, a setting that is null neither"
    assert plain["predicate"].keys() - told().keys() == {"said", "limits"}


def rewritten(payload: bytes, change: Callable[[dict[str, Any]], object]) -> bytes:
    content = json.loads(payload)
    change(content)
    return json.dumps(content, sort_keys=True, separators=(",", ":")).encode()


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda c: c.update(extra=1), "it has the field 'extra'"),
        (lambda c: c["predicate"]["gate"].update(x=1), r"it has the field 'predicate\.gate\.x'"),
        (lambda c: c.pop("_type"), "_type: field required"),
        (lambda c: c["predicate"].pop("chain"), r"predicate\.chain: field required"),
        (lambda c: c.update(predicateType="https://slsa.dev/provenance/v1"), "predicateType"),
        (lambda c: c["predicate"]["data"].update(size="5"), r"predicate\.data\.size"),
        (lambda c: c["predicate"]["data"].update(size=2**41), r"predicate\.data\.size"),
        (lambda c: c["predicate"]["models"].update(after="3" * 64), r"predicate\.models\.after"),
        (lambda c: c["subject"].append(c["subject"][0]), "names a file twice"),
        (lambda c: c["subject"].pop(0), r"lacks model\.json"),
        (lambda c: c["subject"][0].update(name="../model.json"), r"subject\.0\.name"),
        (lambda c: c["subject"][0]["digest"].update(sha256="ab" * 8), r"subject\.0\.digest"),
        (lambda c: c["predicate"].update(said=["It is guaranteed."]), "said holds 'guaranteed'"),
        (lambda c: c["predicate"].update(said=["a"] * 1001), r"predicate\.said"),
        (lambda c: c["predicate"]["timeline"].update(due="2026-02-30"), r"timeline\.due"),
        (lambda c: c["predicate"]["timeline"].update(struck_at="now"), r"timeline\.struck_at"),
        (lambda c: c["predicate"]["performer"].update(role="x" * 2001), r"performer\.role"),
    ],
)
def test_an_odd_statement_is_refused_by_the_name_of_its_field(
    change: Callable[[dict[str, Any]], object], why: str
) -> None:
    payload = statement_payload(make_statement(FILES, facts()))
    assert rewritten(payload, lambda _: None) == payload
    with pytest.raises(CertificateError, match=why):
        read_statement(rewritten(payload, change))


def test_another_way_of_writing_is_refused() -> None:
    payload = statement_payload(make_statement(FILES, facts()))
    twice = payload.replace(b'{"_type"', b'{"_type":"https://in-toto.io/Statement/v1","_type"')
    spaced = json.dumps(json.loads(payload), sort_keys=True).encode()
    for other in (twice, spaced, payload + b"\n", payload.replace(b"0.05", b"NaN")):
        assert other != payload
        with pytest.raises(CertificateError, match=r"not written as certificates are|not JSON"):
            read_statement(other)
    with pytest.raises(CertificateError, match="larger than 2 MiB"):
        read_statement(payload + b" " * 2**21)


@pytest.mark.parametrize(
    ("kind", "changes", "why"),
    [
        ("approximate", {"gate__results__0__passed": False}, "the gate was not passed"),
        ("approximate", {"gate__controls__1__passed": True}, "the control 'the original' came"),
        ("approximate", {"gate__controls": []}, "takes a control"),
        ("approximate", {"gate__results__0__check": "acceptance"}, "a qualification with a margin"),
        ("approximate", {"gate__verdict": "sanity check passed"}, "found equivalent alone"),
        (
            "approximate",
            {"fallback": {"method": "scrub", "verdict": "undecided", "at": T}},
            "is retraining",
        ),
        ("approximate", {"procedure__kind": "epsilon-delta"}, "privacy is told for the kind"),
        ("retraining", {"places": []}, "where old weights are"),
        ("retraining", {"data__found": 6}, "6 were found of a list of 5"),
        ("retraining", {"duplicates__1__added": 2}, "proposed is not"),
    ],
)
def test_facts_that_do_not_agree_are_refused(kind: str, changes: dict[str, Any], why: str) -> None:
    assert facts(kind)
    with pytest.raises(ValueError, match=why):
        facts(kind, **changes)


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"performer__organisation": "ask ann@example.org"}, "performer.organisation"),
        ({"places__1__where": "/home/ann/old"}, "places.1.where"),
        ({"procedure__settings": {"trigger": ["C:\\Users\\ann"]}}, "settings.trigger.0"),
    ],
)
def test_personal_data_are_refused(changes: dict[str, Any], why: str) -> None:
    with pytest.raises(CertificateError, match=f"{re.escape(why)} holds .* no personal data"):
        make_statement(FILES, facts(**changes))


def test_nothing_is_signed_that_reads_otherwise() -> None:
    whole = facts()
    odd = whole.procedure.model_copy(update={"settings": {"odd": float("nan")}})  # unchecked
    statement = make_statement(FILES, whole.model_copy(update={"procedure": odd}))
    with pytest.raises(CertificateError, match="something else when it is read again"):
        statement_payload(statement)
    with pytest.raises(CertificateError, match=r"could not be read again: .* 20 digits"):
        statement_payload(make_statement(FILES, facts(procedure__settings={"odd": 10**19})))


def test_no_id_stands_in_a_certificate() -> None:
    ours = [facts().procedure.method, "none", "models", "batch"]
    in_ours = facts(places__1__where="us/models/batch-0001-unlearned")
    check_no_id(make_statement(FILES, in_ours), [*IDS, "5", "41", *ours])
    shown = make_statement(FILES, facts(places__1__where=f"beside {IDS[2]}"))
    with pytest.raises(CertificateError, match=r"would name an id, in predicate\.places\.1\.where"):
        check_no_id(shown, IDS)


@pytest.mark.parametrize(
    ("kind", "said", "limit"),
    [
        ("retraining", "training on a recorded set of 995 samples", "never used"),
        ("sisa", "training in shards", "never used"),
        ("approximate", "alpha = 0.05: accuracy on test data, 1 points.", "other attacks"),
        ("epsilon-delta", "(1.5, 1e-05) in the sense of", "a lower bound"),
    ],
)
def test_what_is_said_follows_from_the_kind(kind: str, said: str, limit: str) -> None:
    told = make_statement(FILES, facts(kind)).predicate
    assert told.said[0] == (
        f"5 records are excluded from all training through this ledger since {T}."
    )
    assert len(told.said) == 2 and said in told.said[1] and limit in told.limits[-1]
    assert "deleted everywhere" in told.limits[0]
    single = may_be_said(facts(kind, data__size=1, data__found=1))
    assert single[0].startswith("One record is")


def test_a_model_that_learned_nothing_of_it_stays() -> None:
    """It says so in place of what is said of a method, and of no other kind."""
    passed = {"score": "learned", "check": "sanity check", "value": 0.0, "limit": 0.0}
    gate = {
        "digest": D,
        "fixed_at": T,
        "verdict": "sanity check passed",
        "results": [{**passed, "unit": "samples", "passed": True}],
        "controls": [],
    }
    same = {"models__before": D, "gate": gate, "data__size": 0, "data__found": 0}
    said = make_statement(FILES, facts("none", **same)).predicate.said
    assert said == (
        "None of the records asked for belongs to what is trained on through this ledger.",
        "The model had learned from none of them, and stays as it is.",
    )
    for kind, change in (("none", {}), ("retraining", {"models__before": D})):
        with pytest.raises(ValidationError, match="the model stays the same for the kind 'none'"):
            facts(kind, **{"gate": gate, **change})
    with pytest.raises(ValidationError, match="6 were found of a list of 5, and 5 asked for"):
        facts(data__found=6)


@pytest.mark.parametrize(
    "word", ["certified", "Guarantees", "anonymous", "compliant", "proven", "deleted everywhere"]
)
def test_what_nobody_can_say_is_found(word: str) -> None:
    assert claimed_too_much(["Fine.", f"It is {word}."]) == word
    assert claimed_too_much(["approved and improved"]) is None


# --- checking from outside


@pytest.fixture
def issued(keys: Path, tmp_path: Path) -> Path:
    """A folder with a model, a certificate of it, and each person's proof."""
    model = tmp_path / "model"
    model.mkdir()
    digests = {}
    for name in ("model.safetensors", "mask.safetensors", "model.json"):
        (model / name).write_text(name)
        digests[name] = hashlib.sha256(name.encode()).hexdigest()
    nonces = {name: new_nonce() for name in IDS}
    tree = MerkleTree.over(id_leaf(nonce, name) for name, nonce in nonces.items())
    after = digests["model.safetensors"]
    content = facts(data__root=tree.root.hex(), models__after=after)
    payload = statement_payload(make_statement(digests, content))
    (tmp_path / "certificate.json").write_bytes(sign_payload(payload, open_private(keys)))
    for name, nonce in nonces.items():
        write_proof(tmp_path / f"{name}.json", prove(tree, nonce, name))
    with pytest.raises(CertificateError, match="is not among the items"):
        prove(tree, nonces[IDS[0]], IDS[1])
    return tmp_path


def checked(issued: Path, keys: Path, proof: str = f"{IDS[0]}.json") -> dict[str, Checked]:
    lines = check_certificate(
        issued / "certificate.json",
        key=keys / PUBLIC_KEY,
        model=issued / "model",
        proof=issued / proof,
    )
    return {one.what: one for one in lines}


def test_a_stranger_checks_everything(issued: Path, keys: Path) -> None:
    for name in IDS:
        lines = checked(issued, keys, f"{name}.json")
        assert {what: one.passed for what, one in lines.items()} == {
            "signature": True,
            "statement": True,
            "mask.safetensors": True,
            "model.json": True,
            "model.safetensors": True,
            "proof": True,
            "ledger": None,
        }
        assert (issued / f"{name}.json").stat().st_mode & 0o777 == 0o600
    key = open_public(keys / PUBLIC_KEY)
    assert lines["signature"].result == f"by the key {key_id(key)}"
    alone = check_certificate(issued / "certificate.json", key=keys / PUBLIC_KEY)
    assert [(one.what, one.passed) for one in alone] == [
        ("signature", True),
        ("statement", True),
        ("model", None),
        ("proof", None),
        ("ledger", None),
    ]


@pytest.mark.parametrize(
    ("field", "change"),
    [
        ("id", lambda value: value + " "),
        ("nonce", lambda value: value[::-1]),
        ("index", lambda value: (value + 1) % 5),
        ("size", lambda value: value + 1),
        ("path", lambda value: value[:-1]),
        ("path", lambda value: [value[0][::-1], *value[1:]]),
        ("root", lambda value: value[::-1]),
    ],
)
def test_a_changed_proof_shows_nothing(
    issued: Path, keys: Path, field: str, change: Callable[[Any], Any]
) -> None:
    file = issued / f"{IDS[0]}.json"
    content = json.loads(file.read_text())
    file.write_text(json.dumps({**content, field: change(content[field])}))
    assert checked(issued, keys)["proof"].passed is False
    file.write_text(json.dumps({**content, "more": 1}))
    with pytest.raises(CertificateError, match="cannot read"):
        read_proof(file)


def test_changed_files_are_found(issued: Path, keys: Path) -> None:
    (issued / "model/model.safetensors").write_text("others")
    (issued / "model/mask.safetensors").unlink()
    lines = checked(issued, keys)
    assert "is another file, of sha256" in lines["model.safetensors"].result
    assert "No such file" in lines["mask.safetensors"].result
    passed = [lines[f"m{name}"].passed for name in ("odel.safetensors", "ask.safetensors")]
    assert passed == [False, False] and lines["model.json"].passed


def test_a_mask_that_was_not_certified_is_found(keys: Path, issued: Path) -> None:
    names = ("model.safetensors", "model.json")
    digests = {name: hashlib.sha256(name.encode()).hexdigest() for name in names}
    content = facts(models__after=digests["model.safetensors"])
    payload = statement_payload(make_statement(digests, content))
    certificate = issued / "certificate.json"
    certificate.write_bytes(sign_payload(payload, open_private(keys)))
    lines = checked(issued, keys)
    assert lines["mask.safetensors"].passed is False
    assert lines["proof"].passed is False, "it is of another certificate"


def test_a_changed_certificate_is_found(issued: Path, keys: Path) -> None:
    file = issued / "certificate.json"
    whole = json.loads(file.read_text())
    payload = base64.b64decode(whole["payload"]).replace(b'"retained":995', b'"retained":994')
    changed = {**whole, "payload": base64.b64encode(payload).decode()}
    assert changed != whole
    for content in (changed, {**whole, "payloadType": "text/plain"}):
        file.write_text(json.dumps(content))
        lines = checked(issued, keys)
        assert {what: one.passed for what, one in lines.items()} == {"signature": False}
    other = issued / "other"
    make_signing_key(other)
    file.write_bytes(sign_payload(base64.b64decode(whole["payload"]), open_private(other)))
    assert checked(issued, keys)["signature"].passed is False
    assert checked(issued, other)["signature"].passed is True
    file.write_bytes(sign_payload(b"{}", open_private(keys)))
    assert checked(issued, keys)["statement"].passed is False
    file.write_text("no")
    with pytest.raises(CertificateError, match=r"cannot read|ask for the certificate again"):
        checked(issued, keys)
