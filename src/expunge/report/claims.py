"""What became of a claim, as pages, tables and the screen say it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class ShownClaim:
    """A claim as it is shown: numbers as text, empty where there are none."""

    text: str
    verdict: str
    difference: str
    interval: str
    n: str
    why: str
    holm: str = ""
    further: str = ""


def shown_claim(found: Any) -> ShownClaim:
    """A claim of a mapping or of an object, such as `expunge.study.verdicts.Found`."""

    def of(name: str, otherwise: Any = None) -> Any:
        if isinstance(found, Mapping):
            return found.get(name, otherwise)
        return getattr(found, name, otherwise)

    text = of("text") or of("claim").text
    difference, low, high = (float(of(name)) for name in ("difference", "low", "high"))
    n, whole = int(of("n")), of("of")
    holm = float(of("holm", math.nan))
    adjusted = "< 0.001" if holm < 0.001 else f"{holm:.3f}"
    further = []
    if of("look") is not None:
        further.append(f"decided at {of('look')} seeds")
    if of("verdict") == "equivalent":
        further.append(f"within {of('margin'):g}")
    if of("capped"):
        further.append(f"{of('capped')} values at the cap")
    return ShownClaim(
        text=str(text),
        verdict=str(of("verdict")),
        difference=f"{difference:+.2f}" if difference == difference else "",
        interval=f"[{low:+.2f}, {high:+.2f}]" if low == low else "",
        n=str(n) if whole is None else f"{n} of {whole}",
        why=str(of("why")),
        holm=f"{adjusted}, {of('after_holm')}" if holm == holm else "",
        further=", ".join(further),
    )


def sentence(found: Any) -> str:
    """A claim and what became of it, in one line."""
    claim = shown_claim(found)
    if not claim.interval:
        return f"{claim.text}: {claim.verdict} ({claim.why})"
    told = (
        f"{claim.text}: {claim.verdict}, difference {claim.difference} {claim.interval}, "
        f"n = {claim.n}"
    )
    told += f", {claim.further}" if claim.further else ""
    told += f", Holm's p {claim.holm}" if claim.holm else ""
    return f"{told} ({claim.why})" if claim.why else told
