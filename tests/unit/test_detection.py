"""Is it poisoned: each detector against a slow obvious way, and on poison that was planted."""

from __future__ import annotations

import pytest
import torch

from expunge.backdoor.spectral import projections, spectral_scores
from expunge.errors import DataError


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


def test_too_few_samples_score_nothing_and_no_features_are_refused() -> None:
    assert spectral_scores(drawn(5, 4), torch.tensor([0, 0, 1, 1, 2])).tolist() == [0] * 5
    assert projections(torch.ones(9, 4)).tolist() == [0] * 9, "all alike"
    with pytest.raises(DataError, match="finite"):
        projections(torch.full((4, 2), torch.nan))
    with pytest.raises(DataError, match="one of each"):
        spectral_scores(drawn(5, 4), torch.zeros(4))
