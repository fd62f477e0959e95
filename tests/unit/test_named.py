"""Tables of things with names: what is in them, in which order, and what is said of what is not."""

from __future__ import annotations

import re
from types import MappingProxyType
from typing import Any

import pytest

from expunge.errors import ConfigError, DataError, ModelError, UserError
from expunge.names.tables import by_name, pick

TABLE = by_name("pruner", [("synflow", 1), ("omp", 2), ("imp", 3)])


def told(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        pick(*arguments, **options)
    return str(caught.value)


def test_the_order_is_that_of_the_entries() -> None:
    assert list(TABLE.items()) == [("synflow", 1), ("omp", 2), ("imp", 3)]
    assert list(by_name("pruner", reversed(TABLE.items()))) == ["imp", "omp", "synflow"]
    assert not by_name("pruner", [])


def test_entries_are_read_once() -> None:
    assert dict(by_name("digit", ((str(i), i) for i in range(3)))) == {"0": 0, "1": 1, "2": 2}


@pytest.mark.parametrize("second", [5, 2])
def test_a_name_that_occurs_twice_raises(second: int) -> None:
    """The same thing twice, too: a table that is written down holds each once."""
    with pytest.raises(ValueError, match=r"^two pruners are called 'omp'$"):
        by_name("pruner", [("omp", 2), ("imp", 3), ("omp", second)])


def test_a_table_is_read_only() -> None:
    table: Any = TABLE
    assert isinstance(table, MappingProxyType)
    with pytest.raises(TypeError):
        table["omp"] = 5
    with pytest.raises(TypeError):
        del table["omp"]
    assert dict(TABLE) == {"synflow": 1, "omp": 2, "imp": 3}


def test_what_comes_after_does_not_reach_the_table() -> None:
    entries = [("omp", 2)]
    table = by_name("pruner", entries)
    entries.append(("imp", 3))
    assert dict(table) == {"omp": 2}


def test_pick_gives_the_entry() -> None:
    assert [pick("pruner", TABLE, name) for name in TABLE] == [1, 2, 3]
    assert pick("pruner", by_name("pruner", [("none", None)]), "none") is None


def test_an_unknown_name_hears_what_there_is_and_the_nearest() -> None:
    assert told("pruner", TABLE, "ompp") == (
        "no pruner 'ompp', did you mean 'omp'?; there are: synflow, omp, imp"
    )


def test_far_from_all_names_nothing_is_suggested() -> None:
    assert told("pruner", TABLE, "zzz") == "no pruner 'zzz'; there are: synflow, omp, imp"
    assert told("pruner", TABLE, "") == "no pruner ''; there are: synflow, omp, imp"


def test_case_counts_but_not_for_the_suggestion() -> None:
    assert told("pruner", TABLE, "SynFlow") == (
        "no pruner 'SynFlow', did you mean 'synflow'?; there are: synflow, omp, imp"
    )


def test_what_else_could_have_been_typed_comes_last_and_is_no_entry() -> None:
    also = ("all", "a path to weights")
    assert pick("pruner", TABLE, "omp", also=also) == 2
    assert told("pruner", TABLE, "zzz", also=also) == (
        "no pruner 'zzz'; there are: synflow, omp, imp, all, a path to weights"
    )


@pytest.mark.parametrize("error", [ConfigError, ModelError, DataError])
def test_the_error_is_of_the_class_asked_for(error: type[UserError]) -> None:
    with pytest.raises(error, match=re.escape("no architecture 'x'; there are: mlp")) as caught:
        pick("architecture", {"mlp": 1}, "x", error=error)
    assert type(caught.value) is error


def test_the_error_is_a_config_error_unless_asked() -> None:
    with pytest.raises(ConfigError):
        pick("pruner", TABLE, "x")
