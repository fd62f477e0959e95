"""The contract suites: what every method and every pruner promises, for third parties too.

    from expunge.testing import check_method

    check_method(MyMethod, {"epochs": 1})

Each check is a function by itself, so that a test runner can name it: see `METHOD_CHECKS`,
`METHOD_CHECKS_PER_MODEL`, and the same of pruners.
"""

from __future__ import annotations

from expunge.testing.method_case import MethodCase
from expunge.testing.methods import METHOD_CHECKS, METHOD_CHECKS_PER_MODEL, check_method
from expunge.testing.promises import PromiseError
from expunge.testing.pruners import (
    PRUNER_CHECKS,
    PRUNER_CHECKS_PER_MODEL,
    PrunerCase,
    check_pruner,
)

__all__ = [
    "METHOD_CHECKS",
    "METHOD_CHECKS_PER_MODEL",
    "PRUNER_CHECKS",
    "PRUNER_CHECKS_PER_MODEL",
    "MethodCase",
    "PromiseError",
    "PrunerCase",
    "check_method",
    "check_pruner",
]
