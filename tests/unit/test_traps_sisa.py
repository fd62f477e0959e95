"""SISA: what is promised of it, and the mistakes of public code, each with a test of its name."""

from __future__ import annotations

import copy
import functools
import json
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import CPU, changed, run_on_cpu, same_state, toy, view_of
from torch import Tensor, nn

from expunge.api import audit, train, unlearn
from expunge.data.keyed import hashes_of, mixed
from expunge.data.labels import whole_text
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.transform import Normalisation
from expunge.errors import ConfigError, DivergenceError, ModelError, SplitError
from expunge.folders.export import told_inputs
from expunge.methods.shared.stages import Stages
from expunge.methods.sisa import Sisa
from expunge.models.checkpoint import load_weights
from expunge.models.ensemble import Ensemble
from expunge.names.seeds import seed_for
from expunge.place import Place
from expunge.trained.card import read_card
from expunge.trained.opening import load
from expunge.trained.trained import Trained
from expunge.training import fit as fitting
from expunge.training.recipe import Recipe

COUNT = 60
SHARDS, SLICES = 3, 2
SISA = Sisa(shards=SHARDS, slices=SLICES)
RECIPE = Recipe(epochs=3, batch_size=8, lr=0.05, momentum=0.9, augmentation="crop_flip")
IDS = [f"s{row:02d}" for row in range(COUNT)]
CONSTANTS = Normalisation((0.4,), (0.3,))


class Small(nn.Module):
    """A network in float64 with BatchNorm and dropout: all that keeps statistics or draws."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, 3, 3),
            nn.BatchNorm2d(3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Dropout(0.2),
            nn.Linear(12, 3),
        ).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layers(inputs.double())
        return logits


@functools.cache
def data_of(gone: tuple[str, ...] = ()) -> Data:
    """Sixty pictures of three classes, some of them missing from the data altogether."""
    generator = torch.Generator().manual_seed(0)
    inputs = torch.rand(COUNT, 1, 4, 4, generator=generator)
    rows = [row for row, name in enumerate(IDS) if name not in gone]
    made = toy(
        [row % 3 for row in rows],
        inputs=inputs[rows],
        ids=[IDS[row] for row in rows],
        columns={"person": np.array([f"p{row // 4}" for row in rows], dtype=object)},
    )
    return made.with_normalisation(CONSTANTS)


def without(
    gone: tuple[str, ...], *, missing: bool, method: Sisa = SISA, **options: Any
) -> Trained:
    """SISA trained without some samples, which are excluded or not in the data at all."""
    data = data_of(gone if missing else ())
    whole = Split.whole(data, validation=0)
    split = Split.ids(data, gone, base=whole).settled() if gone and not missing else whole
    recipe = options.pop("recipe", RECIPE)
    return train(data, Small, recipe=recipe, split=split, method=method, place=CPU, **options)


@functools.cache
def sisa() -> Trained:
    return without((), missing=False)


def forgotten(model: Trained, *names: str, **options: Any) -> Trained:
    return unlearn(model, list(names), options.pop("method", SISA), place=CPU, **options)


def kept(model: Trained) -> dict[str, dict[str, Tensor]]:
    return {name: model.kept.read(name) for name in sorted(model.kept.names())}


def same_kept(one: Trained, other: Trained) -> bool:
    mine, theirs = kept(one), kept(other)
    return mine.keys() == theirs.keys() and all(
        torch.equal(tensor, theirs[name][key])
        for name, group in mine.items()
        for key, tensor in group.items()
    )


def places(method: Sisa = SISA) -> dict[str, tuple[int, int]]:
    """Shard and slice of each sample, by the formula: the upper and the lower half of its hash."""
    hashes = [int(one) for one in hashes_of(IDS, "original", 0, "shards")]
    return {
        name: ((one >> 32) * method.shards >> 32, (one & 0xFFFFFFFF) * method.slices >> 32)
        for name, one in zip(IDS, hashes, strict=True)
    }


def in_place(shard: int, slice_: int) -> list[str]:
    return [name for name, place in places().items() if place == (shard, slice_)]


# --- the point: a deletion is exact


@pytest.mark.parametrize("missing", [False, True])
@pytest.mark.parametrize("where", [(0, 0), (1, 1)])
def test_every_shard_is_that_of_sisa_without_them(where: tuple[int, int], missing: bool) -> None:
    gone = tuple(in_place(*where)[:2])
    result, direct = forgotten(sisa(), *gone), without(gone, missing=missing)
    assert same_state(result.model, direct.model)
    assert same_kept(result, direct)
    assert not same_state(result.model, sisa().model)
    assert result.record.guarantee == "exact"


def test_requests_in_either_order_agree() -> None:
    a, b = in_place(0, 0)[0], in_place(2, 1)[0]
    one, other = (forgotten(forgotten(sisa(), first), second) for first, second in ((a, b), (b, a)))
    both = forgotten(sisa(), a, b)
    assert same_state(one.model, other.model) and same_state(one.model, both.model)
    assert same_kept(one, other) and same_kept(one, both)


def test_a_second_request_does_not_bring_back_the_first() -> None:
    a, b = in_place(0, 1)[0], in_place(0, 0)[0]  # the same shard, an earlier slice
    second = forgotten(forgotten(sisa(), a), b)
    assert same_state(second.model, without((a, b), missing=True).model)


def test_untouched_shards_and_stages_are_the_very_same() -> None:
    gone = in_place(1, 1)[0]
    result = forgotten(sisa(), gone)
    before, after = sisa().model, result.model
    assert {name.split(".")[1] for name in changed(before, after)} == {"1"}
    mine, theirs = kept(sisa()), kept(result)
    same = [n for n in mine if all(torch.equal(t, theirs[n][k]) for k, t in mine[n].items())]
    assert same == [f"shard-{shard}-stage-1" for shard in (1, 2, 3)]


def test_untouched_shards_keep_their_digest(tmp_path: Path) -> None:
    sisa().save(tmp_path / "m")
    opened = load(tmp_path / "m", data=data_of(), fresh=Small, place=CPU)
    forgotten(opened, in_place(0, 0)[0]).save(tmp_path / "n")
    digests = [_digests(tmp_path / name) for name in ("m", "n")]
    changed = {name for name in digests[0] if digests[0][name] != digests[1][name]}
    assert changed == {"samples", "shard-1-stage-1"}
    again = load(tmp_path / "n", data=data_of(), fresh=Small, place=CPU)
    second = forgotten(again, in_place(0, 1)[0])
    assert same_state(
        second.model, without((in_place(0, 0)[0], in_place(0, 1)[0]), missing=True).model
    )


def _digests(folder: Path) -> dict[str, str]:
    from expunge.trained.card import read_card

    return {name: one.digest for name, one in read_card(folder).kept.items()}


def test_stages_that_saw_a_struck_sample_are_kept_no_longer() -> None:
    struck = in_place(2, 0)[0]
    old, new = kept(sisa()), kept(forgotten(sisa(), struck))
    clean = kept(without((struck,), missing=True))
    assert any(
        not torch.equal(t, new["shard-3-stage-1"][k]) for k, t in old["shard-3-stage-1"].items()
    )
    assert all(
        torch.equal(t, new["shard-3-stage-1"][k]) for k, t in clean["shard-3-stage-1"].items()
    )


def test_a_whole_shard_may_go_and_is_not_asked() -> None:
    gone = tuple(in_place(1, 0) + in_place(1, 1))
    result = forgotten(sisa(), *gone)
    assert result.model.taught.tolist() == [True, False, True]
    assert same_state(result.model, without(gone, missing=True).model)


def test_an_empty_slice_is_passed() -> None:
    gone = tuple(in_place(0, 0))
    assert same_state(forgotten(sisa(), *gone).model, without(gone, missing=True).model)
    many = without((), missing=False, method=Sisa(shards=24, slices=1))  # most of these are empty
    assert not many.model.taught.all() and all(
        one.isfinite().all() for one in many.model.parameters()
    )


def test_its_reference_is_sisa_without_them_from_another_seed() -> None:
    gone = tuple(in_place(0, 0)[:1])
    reference = unlearn(sisa(), list(gone), "retrain", seed=4, place=CPU)
    assert isinstance(reference.model, Ensemble) and reference.trained_by == SISA
    assert reference.record.names == ("retrain", 4)
    paired = unlearn(sisa(), list(gone), "retrain:paired", place=CPU)
    assert same_state(paired.model, forgotten(sisa(), *gone).model)
    further = forgotten(reference, IDS[5])
    assert further.record.names == ("retrain", 4)
    scores = audit(forgotten(sisa(), *gone), retrained=reference, place=CPU)
    assert scores["TA"].reference is not None and not scores.exact()


# --- the traps


def test_momentum_is_not_carried_from_slice_to_slice(monkeypatch: pytest.MonkeyPatch) -> None:
    starts: list[int] = []
    made = fitting.prepared

    def watched(model: Any, *rest: Any) -> Any:
        context = made(model, *rest)

        class Watching:
            def __enter__(self) -> Any:
                loop = context.__enter__()
                starts.append(len(loop.optimizer.state))
                return loop

            def __exit__(self, *error: Any) -> Any:
                return context.__exit__(*error)

        return Watching()

    monkeypatch.setattr(fitting, "prepared", watched)
    without((), missing=False)
    assert starts == [0] * (SHARDS * SLICES)


def test_remainders_are_not_dropped() -> None:
    record = sisa().record
    counts = Counter(places().values())
    epochs = [2 * 3 // 3, 2 * 2 * 3 // 3 - 2 * 3 // 3]
    wanted = sum(
        epochs[stage] * sum(counts[shard, one] for one in range(stage + 1))
        for shard in range(SHARDS)
        for stage in range(SLICES)
    )
    assert record.cost.reads["retain"] == wanted


def test_a_deletion_moves_no_boundary() -> None:
    stages = Stages(4, 3)
    hashes = hashes_of(IDS, "key")
    whole = np.stack(stages.place(hashes))
    left = np.stack(stages.place(hashes[7:]))
    assert (whole[:, 7:] == left).all()
    assert set(whole[0].tolist()) == {0, 1, 2, 3} and set(whole[1].tolist()) == {0, 1, 2}


def test_shards_and_slices_are_drawn_evenly_and_apart() -> None:
    stages = Stages(4, 5)
    counts = stages.counts(*stages.place(hashes_of([str(n) for n in range(20_000)], "key")))
    assert abs(counts - 1000).max() < 5 * 1000**0.5
    ends = stages.place(np.array([0, 2**64 - 1], dtype=np.uint64))
    assert [one.tolist() for one in ends] == [[0, 3], [0, 4]]


def test_another_seed_draws_other_shards() -> None:
    one, other = (Stages(4, 3).place(hashes_of(IDS, "original", seed)) for seed in (0, 1))
    assert (one[0] != other[0]).any()


def test_validation_samples_decide_nothing() -> None:
    with pytest.raises(ConfigError, match=r"^sisa: schedule 'plateau' watches validation samples"):
        without((), missing=False, recipe=RECIPE.but(schedule="plateau"))
    assert sisa().record.cost.reads["validation"] == 0


def test_normalisation_by_the_data_is_told() -> None:
    told: list[str] = []
    place = Place(device="cpu", tell=told.append)
    own = replace(data_of(), fixed_normalisation=None, normalise=True)
    split = Split.whole(own, validation=0)
    made = train(own, Small, recipe=RECIPE, split=split, method=SISA, place=place)
    assert any("normalised by statistics of all samples" in line for line in told)
    assert told == made.record.log["told"]
    assert not any("normalised" in line for line in sisa().record.log["told"])


def test_a_person_lies_in_one_slice() -> None:
    method = Sisa(shards=SHARDS, slices=SLICES, group="person")
    made = without((), missing=False, method=method)
    result = unlearn(made, "group:person=p3", method, place=CPU)
    assert result.record.log["shards_hit"] == 1
    gone = tuple(result.split.forget)
    assert len(gone) == 4
    assert same_state(result.model, without(gone, missing=True, method=method).model)
    with pytest.raises(SplitError, match=r"no column 'persn'.*person"):
        without((), missing=False, method=Sisa(shards=2, slices=1, group="persn"))


def test_a_missing_value_is_a_person_of_its_own() -> None:
    data = data_of()
    odd = np.array(["", None, float("nan"), "p"] + ["q"] * (COUNT - 4), dtype=object)
    samples = replace(data.train, columns={"person": odd})
    view = view_of(replace(data, train=samples), Split.whole(data, validation=0))
    assert view.keys(Part.RETAIN, "person")[:5].tolist() == ["s00", "s01", "s02", "p", "q"]


def with_persons(persons: list[Any], kind: Any = object) -> Data:
    data = data_of()
    columns = {"person": np.array(persons, dtype=kind)}
    return replace(data, train=replace(data.train, columns=columns))


def test_values_of_a_group_that_change_places_are_refused(tmp_path: Path) -> None:
    """As many samples as before, and others: the stages that saw them would count as clean."""
    method = Sisa(shards=SHARDS, slices=SLICES, group="person")
    persons = [f"p{row // 4}" for row in range(COUNT)]
    data = with_persons(persons)
    split = Split.whole(data, validation=0.2)
    made = train(data, Small, recipe=RECIPE, split=split, method=method, place=CPU)
    done = unlearn(made, "group:person=p3", method, place=CPU)
    unlearn(done, "group:person=p5", method, place=CPU)  # one request after another
    places = {
        name: hashes_of([name], "original", 0, "shards")[0] >> np.uint64(63) for name in persons
    }
    one, other = next(n for n in persons if not places[n]), next(n for n in persons if places[n])
    exchanged = [{one: other, other: one}.get(name, name) for name in persons]
    edited = replace(made, data=with_persons(exchanged))
    with pytest.raises(ModelError, match=r"column 'person' does not read as it did"):
        unlearn(edited, [split.retain[0]], method, place=CPU)
    open_, closed = (made.save(tmp_path / n, redact_ids=n == "r") for n in ("m", "r"))
    assert "of-ids" in _digests(open_.path) and "of-ids" not in _digests(closed.path)
    again = unlearn(closed, "group:person=p3", method, place=CPU).save(tmp_path / "s")
    assert "of-ids" not in _digests(again.path) and not list((tmp_path / "s").glob("*/*of-ids*"))
    assert same_state(again.model, done.model)


def test_a_column_whose_only_missing_value_is_deleted(tmp_path: Path) -> None:
    """Whole numbers are decimals while one is missing, and are written without a point afterwards."""
    numbers = [float(row // 4) for row in range(COUNT)]
    ways = (
        with_persons([*numbers[:-1], float("nan")], np.float64),
        with_persons([*map(str, numbers[:-1]), ""]),
        with_persons([int(one) for one in numbers], np.int64),
    )
    keys = [
        view_of(data, Split.whole(data, validation=0)).keys(Part.RETAIN, "person")[:-1].tolist()
        for data in ways
    ]
    assert keys[0] == keys[1] == keys[2]
    assert [
        whole_text(one) for one in ("1.5", "007", "1.0.0", "1e+16", "-2.0", "v1.0", "1e999")
    ] == ["1.5", "007", "1.0.0", "1" + 16 * "0", "-2", "v1.0", "1e999"]


# --- what it costs is told


def test_epochs_of_stages_are_integers_that_add_up() -> None:
    stages = Stages(2, 5)
    recipe = Recipe(epochs=30, schedule="step", milestones=(15, 24))
    each = [stages.recipe(recipe, stage) for stage in range(5)]
    assert [one.epochs for one in each] == [10] * 5
    assert each[0].milestones == (5, 8)
    uneven = [
        stages.recipe(recipe.but(epochs=7, milestones=(1,)), stage).epochs for stage in range(5)
    ]
    assert uneven == [2, 2, 3, 2, 2]


def test_slices_that_would_never_be_learned_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^sisa: 6 slices share 3 epochs.*train for 4 epochs or more"
    ):
        without((), missing=False, method=Sisa(shards=2, slices=6))
    Stages(2, 5).check(Recipe(epochs=3))


def test_the_expected_work_of_one_request() -> None:
    """The formula against the mean over slices of equal size, each as likely to be hit."""
    stages, epochs = Stages(20, 5), 60
    counts = np.full((20, 5), 10, dtype=np.int64)
    work = stages.work(counts, Recipe(epochs=epochs))
    redone = [work[0, start:].sum() / work.sum() for start in range(5)]
    assert np.isclose(np.mean(redone), stages.one_request())
    assert np.isclose(stages.one_request(), 11 / 15 / 20)
    assert np.isclose(stages.hit_by(1), 1) and 19 < stages.hit_by(59) < 20


def test_cost_is_told_before_the_work() -> None:
    told = sisa().record.log["told"]
    assert "3 shards in 2 stages each" in told[0] and "6 checkpoints" in told[0]
    result = forgotten(sisa(), in_place(0, 1)[0])
    log = result.record.log
    assert log["told"][0].startswith("sisa: the request hits 1 of 3 shards; 1 of 6 stages")
    assert "6 checkpoints: 0.0 MiB on the disk" in log["told"][0]
    assert (log["shards_hit"], log["stages_redone"], log["stages"]) == (1, 1, 6)
    assert 0 < log["share_redone"] < 0.4
    assert not any("hits all shards" in one for one in result.record.warnings)


def test_a_full_disk_is_told_before_models_are_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a training and of a deletion, both of which write all checkpoints."""
    made = sisa()
    monkeypatch.setattr(Sisa, "built", lambda *_: pytest.fail("built before the disk was checked"))
    monkeypatch.setattr(Sisa, "_taught", lambda *_: pytest.fail("begun on a full disk"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10**6, 10**6, 5))
    place = Place(device="cpu", room=tmp_path)
    split = Split.whole(data_of(), validation=0)
    with pytest.raises(ConfigError, match=r"has no room"):
        train(data_of(), Small, recipe=RECIPE, split=split, method=SISA, place=place)
    with pytest.raises(ConfigError, match=r"has no room"):
        unlearn(made, in_place(0, 1)[:1], SISA, place=place)


@pytest.mark.parametrize("shards", [10**7, 999, 2])
def test_a_strangers_card_builds_no_more_than_its_weights(tmp_path: Path, shards: int) -> None:
    sisa().save(tmp_path / "m")
    card = json.loads((tmp_path / "m" / "model.json").read_text())
    card["trained_by"]["settings"]["shards"] = shards
    (tmp_path / "m" / "model.json").write_text(json.dumps(card))
    made: list[int] = []

    def build() -> nn.Module:
        made.append(1)
        return Small()

    with pytest.raises(ModelError, match=r"model\.json: trained_by: .*(shards|1000)"):
        load(tmp_path / "m", data=data_of(), fresh=build, place=CPU)
    assert len(made) <= 1


def test_a_header_of_many_small_members_is_no_ensemble() -> None:
    shapes = {f"members.{n}.x": (1,) for n in range(1000)}
    with pytest.raises(ModelError, match="fewer weights than the model"):
        Sisa(shards=1000).check_stored(shapes, Small)


def test_where_nothing_is_saved_it_warns() -> None:
    result = forgotten(sisa(), *(in_place(shard, 0)[0] for shard in range(SHARDS)))
    assert any(
        one.startswith("the request hits all shards, and sisa") for one in result.record.warnings
    )
    assert result.record.log["share_redone"] == 1


def test_a_divergence_names_the_stage_and_the_rate() -> None:
    recipe = RECIPE.but(lr=1e8)
    with pytest.raises(
        DivergenceError, match=r"stage \d\) diverged in epoch .*lower lr \(now 1e\+08\)"
    ):
        without((), missing=False, recipe=recipe)


def test_half_precision_is_exact_too() -> None:
    recipe, gone = RECIPE.but(precision="bfloat16", epochs=2), tuple(in_place(0, 0)[:1])
    result = forgotten(without((), missing=False, recipe=recipe), *gone)
    assert same_state(result.model, without(gone, missing=True, recipe=recipe).model)


# --- the ensemble


def members(*rows: list[float]) -> list[nn.Module]:
    made = []
    for row in rows:
        layer = nn.Linear(1, len(row)).double()
        with torch.no_grad():
            layer.weight.zero_()
            layer.bias.copy_(torch.tensor(row).log())
        made.append(layer)
    return list(made)


def test_the_mean_is_of_probabilities_and_not_of_logits() -> None:
    model = Ensemble(members([0.9, 0.1], [0.5, 0.5]), lambda out: out)
    out = model(torch.ones(1, 1, dtype=torch.float64))
    assert torch.allclose(out.exp(), torch.tensor([[0.7, 0.3]], dtype=torch.float64))
    model.taught[0] = False
    assert torch.allclose(
        model(torch.ones(1, 1, dtype=torch.float64)).exp(), torch.tensor(0.5).double()
    )


def test_votes_are_counted_and_ties_go_to_the_larger_mean() -> None:
    three = members([0.9, 0.1, 0.0001], [0.4, 0.6, 0.0001], [0.4, 0.6, 0.0001])
    one = torch.ones(1, 1, dtype=torch.float64)
    assert Ensemble(three, lambda out: out)(one).argmax() == 0
    voted = Ensemble(three, lambda out: out, vote=True)(one)
    assert voted.argmax() == 1 and voted.isfinite().all()
    assert torch.allclose(voted.exp().sum(), torch.tensor(1.0).double())
    assert Ensemble(three[:2], lambda out: out, vote=True)(one).argmax() == 0


def test_an_untaught_member_has_no_gradient_and_does_no_harm() -> None:
    for vote in (False, True):
        model = Ensemble(members([0.9, 0.1], [0.5, 0.5]), lambda out: out, vote=vote)
        model.taught[1] = False
        model(torch.ones(1, 1, dtype=torch.float64)).log_softmax(1)[0, 0].backward()
        gradients = [one.bias.grad for one in model.members]
        assert gradients[0].abs().sum() > 0 and gradients[1].abs().sum() == 0
        assert all(one.isfinite().all() for one in gradients)


def test_voting_is_told_to_the_folder(tmp_path: Path) -> None:
    method = Sisa(shards=2, slices=1, predict="vote")
    made = without((), missing=False, method=method).save(tmp_path / "m")
    opened = load(tmp_path / "m", data=data_of(), fresh=Small, place=CPU)
    assert opened.trained_by == method and opened.model.vote
    inputs = torch.rand(5, 1, 4, 4)
    assert torch.equal(opened.model(inputs), made.model(inputs))


def test_an_export_is_no_dead_end(tmp_path: Path) -> None:
    sisa().save(tmp_path / "m")
    lines = list(told_inputs(read_card(tmp_path / "m")))
    assert "an ensemble of 3 models, members.0 to members.2" in lines[0]
    assert "mean of their softmax" in lines[0] and "cannot be imported whole" in lines[0]
    torch.save(sisa().model.state_dict(), tmp_path / "m.pt")
    with pytest.raises(ModelError, match=r"ensemble of 3 models .*cannot be imported whole"):
        load_weights(Small(), tmp_path / "m.pt")


# --- numbers by id


def test_numbers_of_an_id_depend_on_it_and_the_key_alone() -> None:
    hashes = hashes_of(IDS, "a", 1)
    assert (hashes[3:] == hashes_of(IDS[3:], "a", 1)).all()
    assert (hashes != hashes_of(IDS, "a", 2)).all()
    assert len(set(mixed(hashes, "e", 0).tolist())) == COUNT
    assert (mixed(hashes, "e", 0) != mixed(hashes, "e", 1)).all()
    by_hand = int(hashes[0]) ^ seed_for("e", 0)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        by_hand = ((by_hand ^ by_hand >> shift) * factor) % 2**64
    assert int(mixed(hashes, "e", 0)[0]) == by_hand ^ by_hand >> 31


def test_nothing_is_said_of_who_is_kept() -> None:
    """Counts alone: no digest of retained ids lies beside the model."""
    group = sisa().kept.read("samples")
    assert {name: tuple(one.shape) for name, one in group.items()} == {"count": (SHARDS, SLICES)}
    assert run_on_cpu().kept.names() == ()
    assert copy.deepcopy(SISA) == SISA


def test_which_stages_a_deletion_did_again_stands_in_no_log() -> None:
    """Shard and slice follow from an id, so they would tell who was struck."""
    log = forgotten(sisa(), in_place(2, 0)[0]).record.log
    assert "mean_loss_of_stages" in sisa().record.log and "mean_loss_of_stages" not in log
    for each in (log, sisa().record.log):  # a later folder has the record of the training, too
        assert "stage 1" not in str(each) and "shard 3" not in str(each)


@pytest.mark.parametrize("name", ["samples", "shard-1-stage-1"])
def test_what_another_training_kept_is_refused(name: str) -> None:
    kept = sisa().kept.copied(None)
    kept.write(name, {"count": torch.zeros(2, 2, dtype=torch.int64)})
    with pytest.raises(ModelError, match=r"copy the whole folder again"):
        forgotten(replace(sisa(), kept=kept), in_place(0, 1)[0])
