"""Laws of phi over models, counts beyond a threshold, and U-LiRA, which rests on both."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import special, stats

from expunge.audits.counts import chance_of_count, clopper_pearson, threshold
from expunge.audits.laws import laws, pair_left_out, spread_used
from expunge.audits.low_fpr import tpr_finding
from expunge.audits.never_seen import spared
from expunge.audits.quantile_mia import share_finding
from expunge.audits.rmia import asked, mean_confidence
from expunge.audits.shadows import Shadows
from expunge.audits.swap import found as swap_found
from expunge.audits.u_lira import Judged, ask_pairs, two_way_error, u_lira_finding

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]


def halves(generator: np.random.Generator, models: int, n: int) -> Bools:
    """(models, n): complementary in pairs."""
    even = generator.random((models // 2, n)) < 0.5
    return np.stack([even, ~even], axis=1).reshape(models, n)


def test_laws_are_the_sample_by_sample_formulas() -> None:
    generator = np.random.default_rng(0)
    values = generator.normal(size=(9, 6)) * np.arange(1, 7) + 3
    told = generator.random((9, 6)) < 0.7
    told[:, 0] = [True] * 3 + [False] * 6
    own, pooled = laws(values, told, "own"), laws(values, told, "pooled")
    squares, freedom = 0.0, 0
    for i in range(6):
        seen = values[told[:, i], i].tolist()
        mean = math.fsum(seen) / len(seen)
        squares += math.fsum((one - mean) ** 2 for one in seen)
        freedom += len(seen) - 1
        sd = math.sqrt(math.fsum((one - mean) ** 2 for one in seen) / (len(seen) - 1))
        want = stats.norm.logpdf(1.5, mean, sd)
        assert own.log_density(np.full(6, 1.5))[i] == pytest.approx(want, rel=1e-10)
    for i in range(6):
        n = int(told[:, i].sum())
        scale = math.sqrt(squares / freedom * (1 + 1 / n))
        want = stats.norm.logpdf(1.5, values[told[:, i], i].mean(), scale)
        assert pooled.log_density(np.full(6, 1.5))[i] == pytest.approx(want, rel=1e-10)


def test_a_shrunk_spread_has_students_law() -> None:
    generator = np.random.default_rng(1)
    values = generator.normal(size=(5, 40)) * generator.uniform(0.2, 4, 40)
    found = laws(values, np.ones((5, 40), dtype=bool), "shrunk")
    own = values.std(axis=0, ddof=1)
    weight = found.freedom[0] - 4
    assert 0 < weight < math.inf
    assert (found.freedom == found.freedom[0]).all()
    # the spreads are drawn together, and keep their order
    told = found.scale / math.sqrt(1 + 1 / 5)
    assert (np.argsort(told) == np.argsort(own)).all()
    assert told.max() < own.max()
    assert told.min() > own.min()
    x = generator.normal(size=40)
    want = [
        stats.t.logpdf(x[i], weight + 4, values[:, i].mean(), found.scale[i]) for i in range(40)
    ]
    np.testing.assert_allclose(found.log_density(x), want, rtol=1e-9)
    want = stats.norm.ppf(stats.t.cdf(x, weight + 4, values.mean(axis=0), found.scale))
    np.testing.assert_allclose(found.standard(x), want, rtol=1e-7)


@pytest.mark.parametrize("alike", [True, False])
def test_few_models_say_rightly_what_a_further_one_would(alike: bool) -> None:
    generator = np.random.default_rng(2)
    spread = np.ones(4000) if alike else np.sqrt(4 / generator.chisquare(4, 4000))
    values = generator.normal(size=(5, 4000)) * spread
    told = np.ones((4, 4000), dtype=bool)
    shares = {
        kind: (np.abs(laws(values[:4], told, kind).standard(values[4])) > 1.96).mean()
        for kind in ("own", "shrunk", "pooled")
    }
    assert shares["shrunk"] == pytest.approx(0.05, abs=0.012)
    assert shares["own"] > 0.12, "a spread that four models tell is not known so well"


def test_models_that_tell_nothing_leave_a_law_unknown() -> None:
    values = np.array([[1.0, np.nan], [3.0, 2.0], [2.0, np.nan]])
    told = np.array([[True, True], [True, False], [True, True]])
    for kind in ("own", "shrunk", "pooled"):
        found = laws(values, told, kind).log_density(np.zeros(2))
        assert math.isfinite(found[0])
        assert math.isnan(found[1])
    assert np.isnan(laws(values[:1], told[:1], "shrunk").log_density(np.zeros(2))).all()
    assert [spread_used("auto", k) for k in (63, 64)] == ["shrunk", "own"]


def test_the_exact_interval_of_a_share() -> None:
    for successes, n in ((0, 7), (3, 40), (12, 12), (500, 10_000)):
        low, high = clopper_pearson(successes, n)
        assert low <= successes / n <= high
        if successes:
            assert special.bdtrc(successes - 1, n, low) == pytest.approx(0.025)
        if successes < n:
            assert special.bdtr(successes, n, high) == pytest.approx(0.025)
    assert clopper_pearson(0, 0) == (0, 1)


def test_a_threshold_lets_no_more_than_its_share_through() -> None:
    null = np.random.default_rng(3).permutation(1000).astype(np.float64)
    assert threshold(null, 0.01) == (989, 11)
    assert threshold(null, 0.001) == (998, 2)
    assert threshold(null, 0.0009) == (999, 1)
    assert (null > threshold(null, 0.013)[0]).sum() == 13


def test_counts_beyond_a_threshold_have_the_law_that_is_said() -> None:
    n, place, m = 20, 3, 50
    law = chance_of_count(n, place, m)
    assert law.sum() == pytest.approx(1)
    assert (law * np.arange(n + 1)).sum() == pytest.approx(n * place / (m + 1))
    generator = np.random.default_rng(4)
    ours, null = generator.random((20_000, n)), generator.random((20_000, m))
    limit = np.sort(null, axis=1)[:, -place]
    counts = np.bincount((ours > limit[:, None]).sum(axis=1), minlength=n + 1) / 20_000
    assert np.abs(counts - law).max() < 0.015


def test_a_true_retraining_is_seldom_found_outside() -> None:
    n, m, repeats = 800, 4000, 400
    generator = np.random.default_rng(5)
    tpr, share, rates = [], [], []
    for _ in range(repeats):
        ours, null = generator.random(n), generator.random(m)
        limit, place = threshold(null, 0.01)
        above = int((ours > limit).sum())
        rates.append(above / n)
        tpr.append(tpr_finding(above, n, place, m, 0.01, 0.0).word)
        limit, place = threshold(null[:100], 0.1)
        above = int((ours[:150] > limit).sum())
        share.append(share_finding(above, 150, place, 100, 0.0).word)
    assert np.mean(rates) == pytest.approx(0.01, abs=0.001), "TPR = FPR"
    assert share.count("outside") < 0.08 * repeats
    assert tpr.count("outside") < 0.08 * repeats


def test_few_never_seen_samples_are_said_to_be_few() -> None:
    assert tpr_finding(50, 500, 2, 1000, 0.001, 1).word == "not measurable"
    assert tpr_finding(50, 500, 11, 999, 0.01, 2).word == "not measurable"
    assert "10,000" in tpr_finding(50, 500, 2, 1000, 0.001, 1).why
    assert tpr_finding(50, 500, 11, 1000, 0.01, 2).word == "outside"
    assert tpr_finding(5, 500, 11, 1000, 0.01, 2).word == "within"
    assert tpr_finding(0, 40, 11, 1000, 0.01, 2).word == "undecided", "forty samples say little"
    assert share_finding(0, 500, 10, 100, 5).word == "outside", "over-forgetting"


def accuracy(phi: Floats, forgot: Bools) -> Judged:
    return ask_pairs(phi, forgot, ~forgot, "pooled")


def test_forgetting_as_good_as_retraining_gives_fifty() -> None:
    generator = np.random.default_rng(6)
    values, found = [], []
    for _ in range(40):
        phi = generator.normal(size=(16, 120)) + 3 * generator.normal(size=120)
        judged = accuracy(phi, halves(generator, 16, 120))
        values.append(judged.accuracy)
        found.append(u_lira_finding(judged, 0.0).word)
    binomial = 0.5 / math.sqrt(40 * 16 * 120)
    assert abs(np.mean(values) - 0.5) < 4 * binomial
    assert found.count("outside") <= 6
    assert np.std(values) < 1.5 * judged.error


def test_leaving_out_the_target_alone_is_not_enough() -> None:
    generator = np.random.default_rng(7)
    models, n = 16, 8000
    phi, forgot = generator.normal(size=(models, n)), halves(generator, models, n)
    paired = accuracy(phi, forgot).accuracy
    right = []
    for k in range(models):
        others = np.arange(models) != k
        first = laws(phi[others], forgot[others], "pooled").log_density(phi[k])
        second = laws(phi[others], ~forgot[others], "pooled").log_density(phi[k])
        right.append(((first > second) == forgot[k]).mean())
    assert np.mean(right) < 0.492, "its other half has the opposite law, and draws it there"
    assert abs(paired - 0.5) < 0.006


def test_doing_nothing_is_plain_likelihood_ratios() -> None:
    generator = np.random.default_rng(8)
    forgot = halves(generator, 8, 30)
    phi = generator.normal(size=(8, 30)) + 1.5 * forgot
    ratios = pair_left_out(phi, forgot, ~forgot, "own")
    right = []
    for k in range(8):
        for i in range(30):
            kept = [j for j in range(8) if j // 2 != k // 2]
            told = [[phi[j, i] for j in kept if forgot[j, i] == kind] for kind in (True, False)]
            one, two = (stats.norm.logpdf(phi[k, i], np.mean(x), np.std(x, ddof=1)) for x in told)
            assert ratios[k, i] == pytest.approx(one - two, rel=1e-9)
            right.append((one > two) == forgot[k, i])
    assert ask_pairs(phi, forgot, ~forgot, "own").accuracy == pytest.approx(np.mean(right))


def test_what_is_left_of_the_forgotten_is_found() -> None:
    generator = np.random.default_rng(9)
    forgot = halves(generator, 32, 300)
    for shift in (0.8, -0.8):
        phi = generator.normal(size=(32, 300)) + shift * forgot
        judged = accuracy(phi, forgot)
        # of two normal laws so far apart
        assert judged.accuracy == pytest.approx(special.ndtr(0.4), abs=0.03)
        assert u_lira_finding(judged, 3.5).word == "outside"
    nothing = accuracy(generator.normal(size=(32, 300)), forgot)
    assert u_lira_finding(nothing, 3.5).word == "within"


def test_constants_and_few_models_are_not_measurable() -> None:
    generator = np.random.default_rng(10)
    forgot = halves(generator, 16, 50)
    constant = accuracy(np.tile(generator.normal(size=50), (16, 1)), forgot)
    assert constant.accuracy == 0.5, "which would look like retraining"
    assert u_lira_finding(constant, 3.5).word == "not measurable"
    few = accuracy(generator.normal(size=(14, 50)), forgot[:14])
    assert u_lira_finding(few, 3.5).word == "not measurable"
    one_pair = accuracy(generator.normal(size=(2, 50)), forgot[:2])
    assert math.isnan(one_pair.accuracy)


def test_what_was_learned_and_not_forgotten_is_not_asked_about() -> None:
    generator = np.random.default_rng(11)
    learned = halves(generator, 16, 60)
    forgot = learned & (np.arange(60) < 40)
    phi = generator.normal(size=(16, 60)) + 9 * (learned & ~forgot)
    phi[:, 7] = np.nan  # struck
    judged = ask_pairs(phi, forgot, ~learned, "pooled")
    assert judged.n == 39
    assert abs(judged.accuracy - 0.5) < 0.1


def test_errors_of_rows_and_columns_both_count() -> None:
    generator = np.random.default_rng(12)
    cells = generator.normal(size=(20, 30))
    alone = 1 / math.sqrt(600)
    assert two_way_error(cells) == pytest.approx(alone, rel=0.5)
    by_row = cells + 2 * generator.normal(size=(20, 1))
    assert two_way_error(by_row) == pytest.approx(2 / math.sqrt(20), rel=0.4)
    by_column = cells + 2 * generator.normal(size=(1, 30))
    assert two_way_error(by_column) == pytest.approx(2 / math.sqrt(30), rel=0.4)
    assert math.isnan(two_way_error(cells[:1]))


def test_what_could_never_be_within_leaves_nothing_open() -> None:
    few, many = share_finding(3, 30, 100, 999, 5), share_finding(100, 1000, 100, 999, 5)
    assert (few.word, few.decidable, many.word) == ("undecided", False, "within")
    low = tpr_finding(0, 40, 11, 1000, 0.01, 2)
    assert (low.word, low.decidable) == ("undecided", False)
    judged = Judged(0.5, 0.02, 0.5, 0.5, 8, 100, constant=False)
    assert not u_lira_finding(judged, 3.5).decidable
    at_its_edge = Judged(0.53, 0.01, 0.5, 0.5, 8, 100, constant=False)
    assert u_lira_finding(at_its_edge, 3.5).decidable, "another value would have been within"
    assert not swap_found(0.0, 0.06, 1.0, 40, 5).decidable


def test_never_seen_samples_are_asked_about_as_the_forgotten_are() -> None:
    """Of a true retraining no more forgotten than never seen samples are among the largest."""
    generator = np.random.default_rng(13)
    n, m, models = 4000, 4000, 4
    hard = generator.normal(size=n + m)
    learned = np.zeros((models, n + m), dtype=bool)
    learned[:, :n] = halves(generator, models, n)
    phi = hard + generator.normal(size=(models, n + m))
    ids = np.array([f"s{i}" for i in range(n + m)])
    logits = np.stack([phi, np.zeros_like(phi)], axis=2).astype(np.float32)
    shadows = Shadows(ids, np.zeros(n + m, dtype=np.int64), logits, learned)
    rows = np.arange(n + m)
    spares = spared(shadows, rows)
    assert (spares[0::2] ^ spares[1::2]).all(), "one of each pair"
    assert not (spares & learned).any()
    assert (spared(shadows, rows[::-1]) == spares[:, ::-1]).all(), "by the id alone"
    own = special.expit(hard + generator.normal(size=n + m))
    ratio = own / mean_confidence(asked(shadows, rows), learned, 1.0)
    limit = np.quantile(ratio[n:], 0.99)
    assert (ratio[:n] > limit).mean() == pytest.approx(0.01, abs=0.005)
    plain = own / mean_confidence(shadows.confidence(), learned, 1.0)
    assert (plain[:n] > np.quantile(plain[n:], 0.99)).mean() > 0.017
