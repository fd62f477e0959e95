"""Scenarios: what a study asks to forget. A new one is a file here and a line in the table."""

from collections.abc import Mapping
from types import MappingProxyType

from expunge.study.scenarios.base import AsTyped, Given, Scenario
from expunge.study.scenarios.clean import CleanAlone
from expunge.study.scenarios.fresh import FreshClasses
from expunge.study.scenarios.harmful import HarmfulClasses

SCENARIOS: Mapping[str, Scenario] = MappingProxyType(
    {
        "class": FreshClasses(),
        "classes": FreshClasses(),
        "clean": CleanAlone(),
        "harmful": HarmfulClasses(),
    }
)
"""By the word before the colon; anything else is a request as `--forget` takes it."""


def scenario_of(text: str) -> Scenario:
    """The scenario that a study file's text means."""
    return SCENARIOS.get(text.partition(":")[0], AsTyped())


__all__ = ["SCENARIOS", "Given", "Scenario", "scenario_of"]
