"""Membership audits and KLoM against what published tools make of the same numbers.

The tools were run on the inputs below, which are sixty-fourths and so the same on every machine; of
them only their outputs are here. Where ours departs on purpose the departure is undone first:

lira-pytorch (orientino/lira-pytorch, commit 50dc2a3): score.load_one, plot.generate_ours and
    generate_ours_offline. The median stands for the mean, and squares are divided by n, not by n - 1;
    offline it scores a density, so that phi far below the law counts as membership too.
TensorFlow Privacy (tensorflow/privacy, 03035d5): advanced_mia.compute_score_lira, the same with means.
Privacy Meter (privacytrustlab/ml_privacy_meter, e384af8): modules.mia.attacks.rmia.run_rmia,
    attacks.tune_offline_a, audit.compute_attack_results. Of never seen samples it averages those half
    of the models that are surest.
LeakPro (aidotse/LeakPro, c47752f): AttackRMIA._run_attack, for the online mean, gamma and temperature.
EasyDUB (easydub/EasyDUB-code, 5de3c4c): easydub.eval.klom_from_margins; its forerunner
    (RoyRin/data-unlearning-bench, eb261f9): eval.kl_from_margins.
"""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from expunge.audits.klom import klom, tail
from expunge.audits.klom_fixed import constant_share, judged
from expunge.audits.laws import laws, pair_left_out
from expunge.audits.lira import Lira, ratios
from expunge.audits.log_odds import log_odds
from expunge.audits.low_fpr import LowFpr
from expunge.audits.never_seen import spared
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.audits.panel import Panel
from expunge.audits.rmia import Rmia, chosen_a, mean_confidence, share_below
from expunge.audits.shadows import Shadows
from expunge.audits.told_apart import auc
from expunge.audits.u_lira import ask_pairs
from expunge.scores.margins import STATED

Floats = NDArray[np.float64]
MODELS, FORGET, NEVER, CLASSES = 16, 24, 16, 10
IDS = np.array([f"f{i}" for i in range(FORGET)] + [f"t{i}" for i in range(NEVER)])


def made() -> tuple[Shadows, Floats]:
    """A bank, and the logits of a judged model; the last samples nobody learned from."""
    draws = np.random.default_rng(0)
    n = FORGET + NEVER
    rows, labels = np.arange(n), draws.integers(0, CLASSES, n)
    even = draws.integers(0, 2, (MODELS // 2, n)) == 1
    learned = np.stack([even, ~even], axis=1).reshape(MODELS, n)
    learned[:, FORGET:] = False
    logits = draws.integers(-100, 101, (MODELS + 1, n, CLASSES)) / 64
    logits[:, rows, labels] += draws.integers(0, 256, n) / 64
    logits[:-1, rows, labels] += learned * draws.integers(0, 128, n) / 64
    return Shadows(IDS, labels, logits[:-1].astype(np.float32), learned), logits[-1]


def panel(shadows: Shadows | None, target: Floats, labels: NDArray[np.int64], cut: int) -> Panel:
    """A judged model's logits: of samples to forget, and from the cut on of never seen ones."""
    ids = tuple(IDS.tolist()) if shadows else tuple(map(str, range(len(labels))))
    logits, own = torch.from_numpy(target.astype(np.float32)), torch.from_numpy(labels)
    forget, test = (
        PartOutputs(logits[some], own[some], ids[some]) for some in (slice(cut), slice(cut, None))
    )
    told: dict[str, Any] = {
        "outputs": Outputs(forget, None, test),
        "shadows": shadows,
        "split": SimpleNamespace(forget=ids[:cut]),
        "forget": lambda: forget,
        "drawn": True,
        "margins": STATED,
    }
    return cast(Panel, SimpleNamespace(**told))


# ---- phi and LiRA

PHI = [-2.15755049147, 1.31080971493, -2.1913524474, 0.194964130849, -1.32020199764]  # load_one
PHI_SUMS = 77.75772209430, 1375.36034204  # of the bank, and of its squares
ONLINE = [  # generate_ours and compute_score_lira with medians, which agree
    [6.23355445536, -0.764619210583, -0.053878939577, -0.380215731241, 5.44430385786],
    [0.765229560526, 2.274752442, 1.46521117353, -1.07290486687, 4.0406676701],
    [0.515070116862, -0.191849867384, -0.135593975245, -0.315062905369, -0.983007894899],
    [-1.24222806738, 8.87077401434, -0.289762029072, 0.23614678143, -0.699280183052],
    [0.4408721297, -0.748989039047, -0.96376524386, 0.72511888472],
]
ONLINE_MEANS = [  # compute_score_lira with means
    [6.88644924489, -0.624453973575, -0.691351606355, -0.259243364839, 5.28618096085],
    [0.753354307697, 3.07251909744, 1.08047123862, -1.15124962373, 4.33133894991],
    [0.338427050579, 0.0374153898335, 0.00236643510785, -0.368304396692, -0.595902425244],
    [-0.894243931437, 8.65569112231, -0.206393374711, 0.179754017492, -0.477531270064],
    [0.434766801507, -1.08494053559, -0.852181663253, 0.595610381021],
]
ONE_SPREAD_MEANS = [  # compute_score_lira with means, fix_variance: one deviation of each kind
    [5.50793598325, -0.75880799931, -0.765462865511, 0.0131542418543, 2.92546203552],
    [0.918413589328, 3.88274657298, 0.896800608807, -1.02186351569, 1.59419201356],
    [0.311269514143, 0.0269980176823, -0.110422389813, -0.514033840297, -0.67078161606],
    [-1.1060596973, 2.59015024129, -0.242656931877, -0.0255367281969, -0.545113515138],
    [-0.0186761857286, -0.243749568617, -0.722366412953, 1.02716333121],
]
ONE_SPREAD = [  # generate_ours, fix_variance
    [2.36000254747, -0.366013036539, 0.00062718171279, -0.0296442150562, 1.42223875586],
    [0.441372007065, 1.34198494432, 0.57369597918, -0.465221385813, 0.745722600512],
    [0.202243867209, -0.0825255098996, -0.168926245175, -0.204952957588, -0.469808542316],
    [-0.678316709977, 1.40783400905, -0.157757672487, 0.0128005550624, -0.368888234101],
    [0.0377326220837, -0.0322190713666, -0.365056323139, 0.622739224074],
]
OFFLINE = [  # generate_ours_offline
    [-1.51637683514, -1.60217203294, -2.22783532017, -0.80356042661, -0.784070320689],
    [-1.20830161817, -0.890357508014, -0.779497509881, -1.85038611011, -1.06343339857],
    [-0.750762429553, -1.61254019308, -1.31868917959, -1.59407521475, -2.00568472704],
    [-4.06471425976, -1.94392315152, -1.16596147895, -0.801312672852, -1.64438006745],
    [-1.62475601625, -2.35771890127, -2.16137006954, -2.14040938613],
]


def flat(rows: list[list[float]]) -> list[float]:
    return [value for row in rows for value in row]


def as_they_count(shadows: Shadows, middle: Any = np.median) -> Shadows:
    """A bank of which our mean and deviation of each kind are their middle and deviation of this one."""
    phi, learned = shadows.phi.copy(), shadows.learned
    for i in range(FORGET):
        for kind in (learned[:, i], ~learned[:, i]):
            own, n = shadows.phi[kind, i], kind.sum()
            phi[kind, i] = middle(own) + (own - own.mean()) * np.sqrt((n - 1) / n)
    logits = cast(Any, np.stack([phi, np.zeros_like(phi)], axis=2))  # not rounded
    return replace(shadows, labels=np.zeros(len(IDS), dtype=np.int64), logits=logits)


def test_phi_is_the_published_statistic() -> None:
    shadows, target = made()
    assert log_odds(target, shadows.labels)[:5] == pytest.approx(PHI, abs=1e-9)
    sums = shadows.phi.sum(), (shadows.phi**2).sum()
    assert sums == pytest.approx(PHI_SUMS, rel=1e-9)
    # beyond what is told apart theirs ends at -log 1e-45, ours at 100
    far = np.array([[200.0, 0.0], [-200.0, 0.0]])
    assert log_odds(far, np.zeros(2, dtype=np.int64)).tolist() == [100.0, -100.0]


@pytest.mark.parametrize(("middle", "theirs"), [(np.median, ONLINE), (np.mean, ONLINE_MEANS)])
def test_online_lira_is_the_published_one(middle: Any, theirs: list[list[float]]) -> None:
    shadows, target = made()
    phi = log_odds(target, shadows.labels)[:FORGET]
    found = ratios(as_they_count(shadows, middle), IDS[:FORGET].tolist(), phi, "own")[0]
    assert (-found).tolist() == pytest.approx(flat(theirs), abs=1e-9)  # theirs is low for members
    plain = ratios(shadows, IDS[:FORGET].tolist(), phi, "own")[0]
    apart = np.abs(plain + flat(theirs)).max()
    assert 0.1 < apart < 3, "the departure is seen, and is one of scale"


def test_a_spread_of_all_samples_is_the_published_one() -> None:
    shadows, target = made()
    phi, learned = log_odds(target, shadows.labels)[:FORGET], shadows.learned[:, :FORGET]
    n = MODELS // 2
    kinds = [laws(shadows.phi[:, :FORGET], told, "pooled") for told in (learned, ~learned)]
    # ours is of n - 1, and of a further model, of whose mean n models are not sure
    kinds = [replace(one, scale=one.scale * np.sqrt((n - 1) / (n + 1))) for one in kinds]
    found = kinds[1].log_density(phi) - kinds[0].log_density(phi)
    assert found.tolist() == pytest.approx(flat(ONE_SPREAD_MEANS), abs=1e-9)

    # lira-pytorch takes one deviation of all that learned, which holds how far samples lie apart, for
    # those that did not learn too; ours are of each kind, within samples, and here a third smaller
    spread = np.std(shadows.phi[:, :FORGET][learned])
    assert [one.scale[0] / spread for one in kinds] == pytest.approx([0.68, 0.67], abs=0.02)
    middle = [
        np.nanmedian(np.where(k, shadows.phi[:, :FORGET], np.nan), 0) for k in (learned, ~learned)
    ]
    kinds = [
        replace(one, mean=mean, scale=np.full(FORGET, spread))
        for one, mean in zip(kinds, middle, strict=True)
    ]
    found = kinds[1].log_density(phi) - kinds[0].log_density(phi)
    assert found.tolist() == pytest.approx(flat(ONE_SPREAD), abs=1e-9)


def test_offline_lira_is_the_published_one_but_for_its_sides() -> None:
    shadows, target = made()
    bank = as_they_count(shadows)
    asked = panel(shadows, target, shadows.labels, FORGET)
    z = Lira(online=False, spread="own").offline(asked, bank)[0]
    scale = laws(bank.phi[:, :FORGET], ~bank.learned[:, :FORGET], "own").scale
    density = -(z**2) / 2 - np.log(scale) - np.log(2 * np.pi) / 2
    assert density.tolist() == pytest.approx(flat(OFFLINE), abs=1e-9)


# ---- U-LiRA: compute_score_lira, means, each pair judged by the other seven, their values stretched so
# that its deviation of n is ours of n - 1

LEFT_OUT_FIRST = [-5.0456424713, 0.0854451407, 0.042067003, -0.4603479299, -4.9248158165]
LEFT_OUT_SUMS = [
    [-2.884925884, 20.764784136, 19.398726145, -18.532834054],
    [10.149661618, -7.452167283, -20.058557192, -12.226575822],
    [-15.394773495, -15.30161817, 3.503893574, -0.210656254],
    [10.453322642, -4.287825731, -1.985590397, 14.416453393],
]
CALLED = 0.625, 0.40625  # shares above 0, of those that learned and of those that did not


def test_pairs_are_asked_as_the_published_statistic_asks_them() -> None:
    shadows, _ = made()
    phi, learned = shadows.phi[:, :FORGET], shadows.learned[:, :FORGET]
    found = pair_left_out(phi, learned, ~learned, "own")
    assert found[0, :5] == pytest.approx(LEFT_OUT_FIRST, abs=1e-9)
    assert found.sum(axis=1).tolist() == pytest.approx(flat(LEFT_OUT_SUMS), abs=1e-8)
    asked = ask_pairs(phi, learned, ~learned, "own")
    assert (asked.tpr, asked.fpr) == pytest.approx(CALLED, abs=1e-12)
    assert asked.accuracy == pytest.approx((CALLED[0] + 1 - CALLED[1]) / 2, abs=1e-12)


# ---- RMIA, in sixteenths: of so many never seen samples

NATIVE = [
    1,
    16,
    1,
    12,
    4,
    6,
    0,
    16,
    8,
    3,
    13,
    6,
    16,
    16,
    16,
    5,
    4,
    6,
    11,
    12,
    16,
    4,
    5,
    6,
]  # run_rmia
ONE_OF_EACH = [1, 16, 1, 6, 4, 6, 0, 13, 6, 1, 7, 6, 15, 16, 15, 4, 4, 6, 6, 6, 15, 4, 4, 4]
"""run_rmia given 0 for the models that we do not ask of a never seen sample; LeakPro agrees."""
LEAKPRO = {  # by online and gamma; temperature 2 where gamma is 1.2; its epsilon of 1e-6 changes none
    (False, 1.2): [0, 12, 0, 6, 2, 4, 0, 11, 4, 0, 6, 4, 10, 10, 12, 4, 4, 4, 6, 6, 6, 4, 4, 4],
    (True, 1.0): [
        1,
        16,
        3,
        13,
        4,
        6,
        1,
        16,
        16,
        4,
        16,
        6,
        15,
        16,
        16,
        4,
        4,
        15,
        15,
        16,
        16,
        4,
        6,
        4,
    ],
    (True, 1.2): [
        4,
        16,
        4,
        14,
        6,
        6,
        4,
        16,
        16,
        6,
        16,
        14,
        15,
        16,
        16,
        6,
        4,
        15,
        15,
        16,
        16,
        6,
        9,
        6,
    ],
}


@pytest.mark.parametrize(
    ("online", "gamma", "theirs"),
    [(False, 1.0, ONE_OF_EACH), *((*key, told) for key, told in LEAKPRO.items())],
)
def test_robust_membership_is_the_published_one(
    online: bool, gamma: float, theirs: list[int]
) -> None:
    how = Rmia(online=online, gamma=gamma, a=0.3, temperature=2 if gamma > 1 else 1)
    shadows, target = made()
    found = how.compared(panel(shadows, target, shadows.labels, FORGET))
    assert found is not None
    assert (found.ours * NEVER).tolist() == theirs


def test_robust_membership_with_the_surest_half_is_the_published_one() -> None:
    shadows, target = made()
    p, own = shadows.confidence(), 1 / (1 + np.exp(-log_odds(target, shadows.labels)))
    half = np.sort(p[:, FORGET:], axis=0)[MODELS // 2 :]
    x = own[:FORGET] / mean_confidence(p[:, :FORGET], shadows.learned[:, :FORGET], 0.3)
    z = own[FORGET:] / mean_confidence(half, np.zeros(half.shape, dtype=bool), 0.3)
    assert (share_below(x, z) * NEVER).tolist() == NATIVE
    assert spared(shadows, np.arange(FORGET, FORGET + NEVER)).sum(axis=0).tolist() == [8] * NEVER


def test_a_is_chosen_as_the_published_tool_chooses_it() -> None:
    """tune_offline_a of models 6, 7, 14, 15: .5, by AUC .7036; .4 and .6 have .6821 and .7000.

    The two models that are asked say the same of never seen samples, so that all ask alike.
    """
    shadows, _ = made()
    some = [6, 7, 14, 15]
    logits = cast(NDArray[np.float32], shadows.logits)[some].copy()
    logits[3, FORGET:] = logits[2, FORGET:]
    few = replace(shadows, logits=logits, learned=shadows.learned[some])
    assert chosen_a(few, (), 1.0, 1.0) == 0.5


# ---- area and rates: compute_attack_results, which leaves out points in the midst of a straight piece
# of the curve, and so says too little where the rate that is asked for lies there; here it does not

RATES = {False: (70.147, 23.0, 22.0), True: (69.421, 22.0, 21.0)}  # AUC, TPR at 1 % and at 0.1 %


def test_area_and_rates_are_the_published_ones() -> None:
    draws = np.random.default_rng(8)
    for ties, theirs in RATES.items():
        order = draws.permutation(700).astype(np.float64)
        ours, null = order[:200] + 150, order[200:]
        if ties:
            ours, null = np.floor(ours / 8), np.floor(null / 8)
        phi = np.concatenate([ours, null]) / 16
        asked = panel(
            None, np.stack([phi, 0 * phi], axis=1), np.zeros(len(phi), dtype=np.int64), len(ours)
        )
        one, tenth = LowFpr(by="loss").scores(asked)
        assert (auc(ours, null)[0], one.value) == pytest.approx(theirs[:2], abs=1e-9)
        # theirs names a rate of 0.1 % that 500 samples do not reach: it is that of none above
        assert np.isnan(tenth.value)
        assert 100 * (ours > null.max()).mean() == pytest.approx(theirs[2])


# ---- KLoM

EASYDUB = [0.430085254281, 0.27324627861, 0.388682968239, 0.392423933454]
EASYDUB += [0.714818281518, 0.584845636129, 0.259273643369, 0.0]
EASYDUB_TAIL = 0.6693278556318
FORERUNNER = [0.430095254231, 0.27324627861, 0.388702968039, 0.392433933404]
FORERUNNER += [0.714848281068, 0.58486563593, 0.259273643369]  # nan of the last: it has no counts


def margins() -> tuple[Floats, Floats]:
    """Of 100 models a side: sample 6 goes beyond the clip, of the last ours say one thing alike."""
    draws = np.random.default_rng(1)
    ours, retrained = draws.integers(-300, 301, (2, 2, 100, 8)).sum(axis=1) / 64
    ours += np.arange(8) / 2
    ours[:, 6] *= 40
    retrained[:, 6] *= 25
    ours[:, 7] = retrained.max() + 1
    return ours, retrained


def test_klom_is_the_published_one_and_the_mended_one_is_not_won_by_constants() -> None:
    ours, retrained = margins()
    found = klom(ours, retrained)
    assert found.tolist() == pytest.approx(EASYDUB, abs=1e-9)
    assert tail(found) == pytest.approx(EASYDUB_TAIL, abs=1e-9)
    # the forerunner makes the retrained counts sum to 1 again after it raised k empty bins to 1e-5
    raised = np.expm1(np.array(FORERUNNER) - found[:7]) / 1e-5
    assert raised == pytest.approx([1, 0, 2, 1, 3, 2, 0], abs=1e-5)

    assert found[7] == 0, "the published score of a constant that no retrained model says"
    assert klom(ours, retrained, closed=True)[7] == pytest.approx(-np.log(1e-5))
    assert constant_share(ours, retrained) == 1 / 8
    assert judged(ours, retrained, None, 0.5).word == "outside"
