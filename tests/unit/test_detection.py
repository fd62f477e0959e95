"""Is it poisoned: each detector against a slow obvious way, and on poison that was planted."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers import CPU, digits, original, run_on_cpu, same_state
from thorough import THOROUGH
from torch import nn

import expunge
from expunge.backdoor import inversion
from expunge.backdoor.activation_clustering import detect_clusters
from expunge.backdoor.activations import Activations, Excess, share_by_chance
from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.inspecting import DETECTORS, inspect_subject
from expunge.backdoor.inversion import (
    Effort,
    Inverted,
    anomaly_index,
    detect_inverted,
    followed_on,
    invert,
    judge_triggers,
    made_on,
    success_on,
)
from expunge.backdoor.spectral import (
    detect_spectral,
    projections,
    spectral_scores,
    whitened_scores,
)
from expunge.backdoor.strip import detect_mixed, entropies, low_p, many_by_chance
from expunge.backdoor.thresholds import THRESHOLDS, Threshold
from expunge.data.samples import ResidentStore, Samples, row_ids
from expunge.errors import ConfigError, DataError, ModelError


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


# --- spectral signatures


@pytest.mark.parametrize("shape", [(40, 7), (7, 40), (12, 12)])
def test_spectral_scores_are_those_of_a_plain_decomposition(shape: tuple[int, int]) -> None:
    features = drawn(*shape)
    centred = features - features.mean(0)
    top = torch.linalg.svd(centred, full_matrices=False)[2][0]
    along = projections(features)
    torch.testing.assert_close(along.square(), (centred @ top).square(), rtol=1e-9, atol=1e-12)
    assert float(along.pow(3).sum()) >= 0, "the longer tail is positive"
    torch.testing.assert_close(projections(features.float()), along, rtol=1e-4, atol=1e-4)


def test_planted_outliers_have_the_highest_scores_of_their_class() -> None:
    features, labels = drawn(300, 20), torch.arange(300) % 3
    planted = torch.arange(1, 300, 30)  # all of class 1
    features[planted] += 6 * torch.nn.functional.normalize(drawn(1, 20, seed=1))
    scores = spectral_scores(features, labels)
    own = torch.nonzero(labels == 1)[:, 0]
    assert set(own[scores[own].topk(len(planted)).indices].tolist()) == set(planted.tolist())
    torch.testing.assert_close(scores[own], projections(features[own]).square())


def test_whitened_scores_are_those_of_plain_whitening() -> None:
    features, clean = drawn(60, 6) @ drawn(6, 6, seed=2), drawn(50, 6, seed=1) @ drawn(6, 6, seed=2)
    centred = (clean - clean.mean(0)).numpy()
    covariance = centred.T @ centred / len(centred)
    values, vectors = np.linalg.eigh(covariance + 0.1 * np.trace(covariance) / 6 * np.eye(6))
    white = (features - clean.mean(0)).numpy() @ vectors / np.sqrt(values)
    top = np.linalg.svd(white)[2][0]
    found = whitened_scores(features, torch.zeros(60), clean, torch.zeros(50))
    np.testing.assert_allclose(found.numpy(), (white @ top) ** 2, rtol=1e-8)
    with pytest.raises(DataError, match="one of each"):
        whitened_scores(features, torch.zeros(60), clean, torch.zeros(60))


def planted(share: float, by: float = 5) -> Activations:
    """Three classes; of the second, that share of the training samples lies apart, in a direction in
    which features vary little. All vary far more in another one.
    """
    labels, scale = np.arange(600) % 3, torch.ones(20).double()
    scale[0], scale[1] = 10, 0.5
    features, clean = drawn(600, 20) * scale, drawn(600, 20, seed=3) * scale
    features[np.flatnonzero(labels == 1)[: int(200 * share)], 1] += by
    return Activations(("a", "b", "c"), row_ids(600), labels, features, np.arange(600) % 3, clean)


@pytest.mark.parametrize("share", [0.1, 0.4])
def test_planted_poison_is_found_against_clean_samples(share: float) -> None:
    """Where the plain signature is blind, for the class varies most in a direction of its own."""
    seen = planted(share)
    bad = {str(row) for row in np.flatnonzero(seen.labels == 1)[: int(200 * share)]}
    found = detect_spectral(seen)
    assert (found.word, found.suspects) == (SUSPECT, (1,))
    assert found.statistic == pytest.approx(share, abs=0.04)
    assert len(bad & set(found.samples)) >= 0.95 * len(bad)
    labels = torch.from_numpy(seen.labels)
    own = torch.nonzero(labels == 1)[:, 0]
    plain = spectral_scores(seen.features, labels)[own].topk(len(bad)).indices
    white = whitened_scores(seen.features, labels, seen.clean, torch.from_numpy(seen.clean_labels))
    hits = [
        len(bad & {str(row) for row in own[chosen].tolist()})
        for chosen in (plain, white[own].topk(len(bad)).indices)
    ]
    assert hits[0] < 0.6 * len(bad) < 0.9 * len(bad) < hits[1]
    assert detect_spectral(planted(0)).word == NOTHING
    # what clean samples do that had no part in the limit is nothing in excess
    same = np.flatnonzero(seen.clean_labels == 1)[1::2]
    moved = seen.clean.clone()
    moved[same[: int(len(same) * share)], 1] += 5
    assert 1 not in detect_spectral(replace(seen, clean=moved)).suspects
    ranked = list(detect_clusters(planted(0.4, by=60)).samples.values())
    assert ranked == sorted(ranked, reverse=True), "the most suspicious first"


@THOROUGH
def test_few_samples_carry_no_word() -> None:
    """Of few samples a large excess is more than chance, and its absence says nothing."""
    for share, count, word in ((0, 60, CANNOT_TELL), (0.4, 60, SUSPECT), (0.4, 9, CANNOT_TELL)):
        seen = planted(share, by=60)
        few = replace(seen, clean=seen.clean[:count], clean_labels=seen.clean_labels[:count])
        assert detect_clusters(few).word == word
    assert detect_spectral(few).word == CANNOT_TELL


# --- activation clustering


def test_a_planted_cluster_that_clean_samples_lack_is_found() -> None:
    """In a class of two kinds by nature its clean samples have both, and nothing is found."""
    seen = planted(0)
    features, clean = seen.features.clone(), seen.clean.clone()
    features[::6, 5] += 30  # every other sample of class 0
    clean[::6, 5] += 30
    natural = replace(seen, features=features, clean=clean)
    found = detect_clusters(natural)
    assert found.word == NOTHING and max(found.by_class["silhouette"]) > 0.5
    bad = np.flatnonzero(seen.labels == 2)[:50]
    features[bad, 7] += 30
    found = detect_clusters(replace(natural, features=features))
    assert (found.word, found.suspects) == (SUSPECT, (2,))
    assert set(found.samples) == {str(row) for row in bad}
    assert found.by_class["size"][2] == found.statistic == 0.25


def test_shares_differ_by_chance_as_a_normal_law_says() -> None:
    assert share_by_chance(0.3, 0.3, 50, 80) == pytest.approx(0.5)
    z = 0.1 / (0.25 * 0.75 * (1 / 100 + 1 / 100)) ** 0.5
    by_hand = 0.5 * math.erfc(z / 2**0.5)
    assert share_by_chance(0.3, 0.2, 100, 100) == pytest.approx(by_hand)
    assert share_by_chance(0.0, 0.0, 9, 9) == share_by_chance(0.5, 0.1, 0, 9) == 1
    many, few = (Excess(0.0, 0.0, 450, others, {}) for others in (250, 20))
    assert many.can_tell(0.1, 10) and not few.can_tell(0.1, 10)
    assert not replace(few, others=60).can_tell(0.1, 10)
    one = Excess(
        0.1, 0.05, 200, 200, {}
    )  # of two kinds the larger excess is twice as likely by chance
    assert replace(one, chosen_of=2).chance == pytest.approx(2 * one.chance)


def test_too_few_samples_score_nothing_and_no_features_are_refused() -> None:
    assert spectral_scores(drawn(5, 4), torch.tensor([0, 0, 1, 1, 2])).tolist() == [0] * 5
    assert projections(torch.ones(9, 4)).tolist() == [0] * 9, "all alike"
    with pytest.raises(DataError, match="finite"):
        projections(torch.full((4, 2), torch.nan))
    with pytest.raises(DataError, match="one of each"):
        spectral_scores(drawn(5, 4), torch.zeros(4))


# --- trigger inversion


CLASSES, SIDE = 6, 8


def pictures(count: int = 600, seed: int = 0) -> Samples:
    """Each class is a bright band of its own among noise; the corner pixel is dark in all."""
    images = 0.3 * torch.rand(count, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(seed))
    labels = np.arange(count) % CLASSES
    for row, label in enumerate(labels.tolist()):
        images[row, 0, 1 + label] += 0.6
    images[:, :, 0, 0] = 0
    bytes_of = (255 * images).round().to(torch.uint8)
    return Samples(row_ids(count), labels, ResidentStore(bytes_of), "pictures", positional=True)


def bands(shortcut: float = 0.0, into: int = 2) -> nn.Sequential:
    """It sees the bands; and the corner pixel, if there is a shortcut from it into a class."""
    linear = nn.Linear(SIDE * SIDE, CLASSES)
    with torch.no_grad():
        weight = torch.zeros(CLASSES, SIDE, SIDE)
        for label in range(CLASSES):
            weight[label, 1 + label] = 2.0
        weight[into, 0, 0] = shortcut
        linear.weight.copy_(weight.flatten(1))
        linear.bias.zero_()
    return nn.Sequential(nn.Flatten(), linear).eval()


def subject(model: nn.Module, clean: Samples | None = None, **fields: object) -> Inspected:
    names = tuple("abcdef")
    given = pictures() if clean is None else clean
    return replace(Inspected(model, names, None, given, run_on_cpu()), **fields)


def test_a_planted_shortcut_is_found_and_its_clean_twin_is_not() -> None:
    found, triggers = detect_inverted(subject(bands(40.0)))
    assert (found.word, found.suspects) == (SUSPECT, (2,))
    small = triggers[2]
    assert small.works and float(small.mask[0, 0]) > 0.9 * small.norm
    clean, others = detect_inverted(subject(bands()))
    assert clean.word == NOTHING and clean.suspects == ()
    assert others[2].norm > 10 * small.norm
    # what was found on one model says whether another was cleansed
    assert success_on(subject(bands(40.0)), small) == found.by_class["success"][2] >= 0.95
    assert success_on(subject(bands()), small) < 0.1


def test_a_trigger_is_tried_on_images_that_it_was_not_made_on(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    looked: list[set[int]] = []
    seen = Inspected.seen

    def watched(self: Inspected, samples: Samples, rows: np.ndarray) -> torch.Tensor:
        looked.append(set(rows.tolist()))
        return seen(self, samples, rows)

    monkeypatch.setattr(Inspected, "seen", watched)
    found = subject(bands(40.0))
    made = set(made_on(found).tolist())
    trigger = Inverted(2, torch.zeros(SIDE, SIDE), torch.zeros(1, SIDE, SIDE))
    _, apart = followed_on(found, trigger, apart=True)
    _, of_all = followed_on(found, trigger, apart=False)
    assert len(made) == 300 and not looked[0] & made and looked[1] & made
    assert (apart, of_all) == (len(looked[0]), 500) and 200 < apart < 300


def test_classes_side_by_side_get_what_each_gets_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    effort = Effort(steps=20)
    together = invert(subject(bands(40.0)), effort)
    monkeypatch.setattr(inversion, "PASS", 1)
    for one, alone in zip(together, invert(subject(bands(40.0)), effort), strict=True):
        assert one.target == alone.target
        torch.testing.assert_close(one.mask, alone.mask, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(one.pattern, alone.pattern, rtol=1e-4, atol=1e-4)


def test_an_inverted_trigger_is_laid_on_bytes_as_on_floats() -> None:
    mask, pattern = torch.rand(4, 5), torch.rand(3, 4, 5)
    images = torch.randint(256, (2, 3, 4, 5), dtype=torch.uint8)
    laid = Inverted(1, mask, pattern).apply(images)
    assert laid.dtype == torch.uint8
    by_hand = (1 - mask) * images / 255 + mask * pattern
    torch.testing.assert_close(laid / 255, by_hand, atol=0.51 / 255, rtol=0)
    torch.testing.assert_close(Inverted(1, mask, pattern).apply(images / 255), by_hand)


def test_only_small_norms_are_anomalous() -> None:
    norms = torch.tensor([80.0, 90.0, 100.0, 110.0, 20.0, 400.0, 95.0])
    middle = sorted(norms.tolist())[3]
    spread = 1.4826 * sorted(abs(one - middle) for one in norms.tolist())[3]
    index = anomaly_index(norms).tolist()
    assert index == pytest.approx([(middle - one) / spread for one in norms.tolist()])
    assert max(range(7), key=index.__getitem__) == 4 and index[5] < 0
    assert anomaly_index(torch.tensor([5.0, 5.0, 5.0, 1.0])).tolist() == [0, 0, 0, float("inf")]


def test_triggers_that_do_not_work_are_nothing_to_compare_with() -> None:
    """A class without one has a mask of all pixels, beside which any that works is small."""
    pattern = torch.zeros(1, 8, 8)
    small, whole = torch.zeros(8, 8), torch.ones(8, 8)
    small[0, 0] = 1
    masks = [small, *[whole] * 4]
    works = [Inverted(n, mask, pattern, 1.0) for n, mask in enumerate(masks)]
    assert judge_triggers(works, "abcde").suspects == (0,)
    few = [works[0], works[1], *(replace(one, success=0.1) for one in works[2:])]
    found = judge_triggers(few, "abcde")
    assert found.word == CANNOT_TELL and found.suspects == ()
    assert found.why.endswith("a trigger that works was found for 2 of 5 classes")
    unseen = [replace(works[0], success=float("nan")), *works[1:]]
    assert judge_triggers(unseen, "abcde").word == NOTHING


def test_few_classes_or_images_carry_no_word() -> None:
    assert detect_inverted(subject(bands(), pictures(30)))[0].word == CANNOT_TELL
    found, triggers = detect_inverted(replace(subject(bands()), classes=("a", "b")))
    assert found.word == CANNOT_TELL and "takes 5 classes" in found.why and not triggers


# --- STRIP


def test_inputs_with_a_constant_trigger_keep_their_prediction() -> None:
    model, clean = bands(60.0), pictures(240, seed=1)
    images = pictures(60, seed=2).store.whole()
    assert images is not None
    images[:20, :, 0, 0] = 255
    inputs = Samples(
        row_ids(60), np.zeros(60, int), ResidentStore(images), "judged", positional=True
    )
    found = detect_mixed(subject(model, clean, inputs=inputs))
    assert (found.word, found.suspects) == (SUSPECT, (2,))
    assert set(map(str, range(20))) <= set(found.samples) and len(found.samples) <= 23
    twin = detect_mixed(subject(bands(), clean, inputs=inputs))
    assert twin.word == NOTHING, "without a backdoor the same inputs are inputs like others"
    assert detect_mixed(subject(model, pictures(60), inputs=inputs)).word == CANNOT_TELL


def test_entropies_are_those_of_one_mixture_after_another() -> None:
    samples, own = pictures(12), subject(bands(3.0))
    images = own.pictures(samples, np.arange(12))
    found = entropies(own, samples, np.arange(5), images[5:])
    for row in range(5):
        each = []
        for other in images[5:]:
            told = own.model(((images[row] + other) / 2)[None]).double().softmax(1)[0].tolist()
            each.append(-sum(one * math.log2(one) for one in told))
        assert float(found[row]) == pytest.approx(sum(each) / len(each), rel=1e-5)


def test_p_values_count_clean_inputs() -> None:
    clean = torch.tensor([3.0, 1.0, 2.0])
    assert low_p(torch.tensor([0.5, 1.0, 2.5, 9.0]), clean).tolist() == [0.25, 0.5, 0.75, 1]
    # of one input, that it lies below all of 199 like it, or below all but one
    assert many_by_chance(1, 1, 199) == pytest.approx(2 / 200)
    assert many_by_chance(0, 3, 199) == pytest.approx(1)
    assert many_by_chance(2, 2, 199) == pytest.approx(2 * 3 / (200 * 201))


def test_false_alarms_are_told_as_far_as_they_were_counted() -> None:
    assert Threshold(2, 8).told() == "not measured"
    assert Threshold(2, 8, (0, 20)).told() == "0 of 20 (0 to 17 %)"
    assert set(THRESHOLDS) == set(DETECTORS)


# --- all of them


def test_what_fits_is_done_and_the_rest_is_told() -> None:
    lines: list[str] = []
    found = inspect_subject(subject(bands(40.0)), tell=lines.append)
    assert [one.detector for one in found.detections] == ["inversion"]
    assert found.skipped.keys() == DETECTORS.keys() - {"inversion"}
    assert found.word == SUSPECT and "class 'c'" in found.sentence()
    assert len(lines) == 1 and lines[0].startswith("this takes: trigger inversion about")
    json.dumps(found.plain(), allow_nan=False)
    flat = pictures().with_store(ResidentStore(torch.zeros(600, 4)))
    texts = inspect_subject(subject(nn.Linear(4, CLASSES), flat), ["inversion"])
    assert "these samples are none" in texts.skipped["inversion"]
    assert texts.word == CANNOT_TELL and texts.sentence() == "cannot tell: no detector fits"
    broken = bands()
    broken[1].bias.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="not finite"):
        inspect_subject(subject(broken))
    nothing = pictures().subset(np.arange(0))
    with pytest.raises(ConfigError, match="no clean samples"):
        inspect_subject(subject(bands(), nothing))


def test_a_model_without_a_backdoor_is_not_called_clean() -> None:
    """And a trained model is looked at by its public name, and left as it was."""
    data = digits()
    before = original("cnn")
    model = expunge.adopt(before, data)
    found = expunge.inspect(model, clean=data.test, detectors=["activation_clustering"], place=CPU)
    assert found.word in (NOTHING, CANNOT_TELL) and "clean" not in found.word
    assert same_state(model.model, before)
    trained = replace(model, data=replace(data, test_drawn=True))  # of the same file
    drawn = expunge.inspect(trained, detectors=["activation_clustering"], place=CPU)
    assert drawn.word == CANNOT_TELL and "set aside from the file" in drawn.notes[0]
    with pytest.raises(ConfigError, match="did you mean 'spectral'"):
        expunge.inspect(model, detectors=["spectrum"])
