"""A bank of data whose test set has ids that the training set has too: both count from 0."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from expunge.api import train
from expunge.audits import make_audit
from expunge.audits.beside import FurtherModels
from expunge.audits.log_odds import part_log_odds
from expunge.data.load import load_data
from expunge.folders.exposure import exposure_of
from expunge.report.exposure_figures import AUDITED
from expunge.shadows.bank import Bank, open_bank
from expunge.shadows.build import begun
from expunge.shadows.purge import purge_bank
from expunge.testing.red_team import bench
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe

FORGET = ("0", "1", "2", "3")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    draw = np.random.default_rng(0)
    file = tmp_path_factory.mktemp("numbered") / "data.npz"
    arrays = {}
    for part, n in (("train", 60), ("test", 40)):
        arrays[f"x_{part}"] = draw.random((n, 1, 8, 8), dtype=np.float32)
        arrays[f"y_{part}"] = np.arange(n) % 2
    np.savez(file, **arrays)
    return train(load_data(str(file)), "mlp", recipe=Recipe(epochs=1, batch_size=32))


@pytest.fixture
def bank(original: Trained, tmp_path: Path) -> Bank:
    """Sixteen models that are sure of what they learned, of nothing else."""
    bank = begun(original, tmp_path / "bank")
    draw = np.random.default_rng(1)
    for model in range(16):
        sure = np.where(bank.half(model), 4.0, 0.0) + draw.normal(size=len(bank.ids))
        sure[-bank.tested :] -= 3
        logits = np.where(np.arange(2) == bank.labels[:, None], sure[:, None], 0)
        bank.write_logits(model, logits.astype(np.float32), {"seconds": "1"})
    return bank


def test_each_part_of_the_data_is_looked_up_by_itself(original: Trained, bank: Bank) -> None:
    shadows, names = bank.shadows, [str(one) for one in range(40)]
    own, test = shadows.rows(names), shadows.rows(names, test=True)
    assert test.tolist() == list(range(len(bank.ids) - 40, len(bank.ids)))
    assert not {*own.tolist()} & {*test.tolist()}
    labels = original.data.train.labels[original.data.train.rows_of(names)]
    there = own >= 0
    assert there.sum() > 20 and (shadows.labels[own][there] == labels[there]).all()
    assert shadows.learned[:, shadows.rows(FORGET)].any() and shadows.never[test].all()


def test_audits_and_pictures_see_what_was_learned(original: Trained, bank: Bank) -> None:
    shadows = bank.shadows
    made = replace(shadows, forgot=shadows.learned)
    split = original.asked("random:0.2")
    beside = FurtherModels(shadows=shadows, unlearned=lambda: made)
    panel = bench(original, [original], split, beside=beside)
    for name in ("rmia", "lira", "u_lira"):
        (score,) = make_audit(name, allow_code=False).scores(panel)
        assert score.n == len(split.forget) and np.isfinite(score.value), name
    part, drawn = panel.outputs.test_kept, exposure_of(panel).unseen[AUDITED]
    assert part is not None
    others = shadows.phi[:, -bank.tested :].mean(axis=0)[[int(name) for name in part.ids]]
    np.testing.assert_allclose(drawn, part_log_odds(part) - others)


def test_a_purge_strikes_what_was_named_alone(bank: Bank) -> None:
    there = [name for name in FORGET if name in bank.ids[: bank.learned]]
    assert purge_bank(bank, there).samples == len(there)
    assert "0" in open_bank(bank.folder).ids[-bank.tested :]
