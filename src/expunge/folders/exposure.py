"""What the pictures of membership show, gathered from what an audit has observed."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from expunge.audits.log_odds import part_log_odds
from expunge.errors import ConfigError
from expunge.report.exposure_figures import (
    AUDITED,
    ORIGINAL,
    RETRAINED,
    Exposure,
    exposure_figures,
)

if TYPE_CHECKING:
    from expunge.audits.outputs import PartOutputs
    from expunge.audits.panel import Panel
    from expunge.audits.scores import Scores
    from expunge.audits.shadows import Shadows

PLAIN = "log-odds of the own class"
BESIDE_OTHERS = "log-odds, over those of models that never saw the sample"


def draw_exposure(scores: Scores, out: Path, *, overwrite: bool = False) -> list[Path]:
    """Draw what the audited model gives away of single samples; the paths written.

    One process of several draws. Raises ConfigError where there is nothing to draw.
    """
    run = scores.panel.run
    paths = []
    if run.rank == 0:
        paths = exposure_figures(exposure_of(scores.panel), out, overwrite=overwrite)
    run.accelerator.wait_for_everyone()
    return paths


def exposure_of(panel: Panel, *, hidden: bool = False) -> Exposure:
    """Log-odds of the forgotten, the never seen and the retained samples.

    With a bank each is what the model has over the mean of models that never saw the sample, so that
    easy samples do not look like learned ones. hidden: whether ids stay unsaid, as those of a redacted
    model do. Raises ConfigError for a model without a test set.
    """
    panels = {AUDITED: panel}
    for name, other in ((ORIGINAL, panel.original), (RETRAINED, panel.retrained)):
        beside = panel.beside(other)
        if beside is not None:
            panels[name] = beside
    if panel.outputs.test_kept is None or panel.outputs.forget is None:
        raise ConfigError(
            "pictures of membership need forgotten samples and a test set that nobody learned from"
        )
    forget, unseen = {}, {}
    for name, one in panels.items():
        forget[name] = _over(one.outputs.forget, panel.shadows)
        unseen[name] = _over(one.outputs.test_kept, panel.shadows, test=True)
    retained, ids = {}, ()
    part = panel.outputs.retain
    if part is not None:
        retained = {
            name: _over(panels[name].outputs.retain, panel.shadows)
            for name in (AUDITED, ORIGINAL)
            if name in panels
        }
        known = _known(part, panel.shadows)
        hidden = hidden or panel.subject.redacted
        ids = () if hidden else tuple(np.asarray(part.ids)[known].tolist())
    return Exposure(
        forget, unseen, retained, ids, PLAIN if panel.shadows is None else BESIDE_OTHERS
    )


def _known(part: PartOutputs, shadows: Shadows | None, *, test: bool = False) -> NDArray[np.bool_]:
    """(n,): whether some model of the bank never saw the sample; without a bank, of all.

    test: the part is of the test set.
    """
    if shadows is None:
        return np.ones(part.n, dtype=np.bool_)
    rows = shadows.rows(part.ids, test=test)
    out = ~shadows.learned[:, rows] & np.isfinite(shadows.phi[:, rows])
    return np.asarray((rows >= 0) & out.any(axis=0), dtype=np.bool_)


def _over(
    part: PartOutputs | None, shadows: Shadows | None, *, test: bool = False
) -> NDArray[np.float64]:
    """What the model says of each sample over what those say that never saw it: (known,)."""
    if part is None:
        return np.empty(0)
    own = part_log_odds(part)
    if shadows is None:
        return own
    known = _known(part, shadows, test=test)
    rows = shadows.rows(part.ids, test=test)[known]
    phi = np.where(shadows.learned[:, rows], np.nan, shadows.phi[:, rows])
    return np.asarray(own[known] - np.nanmean(phi, axis=0), dtype=np.float64)
