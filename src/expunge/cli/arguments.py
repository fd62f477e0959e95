"""What people type, as values: `key=value` pairs, recipe files, lists of numbers."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.disk.reading import parse_yaml, read_yaml, reading
from expunge.errors import ConfigError
from expunge.names.text import clean_name
from expunge.names.values import numbers

if TYPE_CHECKING:
    from expunge.training.recipe import Recipe


def read_pairs(settings: list[str] | None) -> dict[str, Any]:
    """`--set key=value`, values read as YAML: numbers, lists, true, null."""
    pairs: dict[str, Any] = {}
    for text in settings or []:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"--set {text!r:.200}: write key=value, as in --set lr=0.01")
        with reading(
            f"the value of --set {text!r:.200}", "write a number, a text or a list", ConfigError
        ):
            pairs[clean_name(key.strip())] = numbers(parse_yaml(value)[0])
    return pairs


def recipe_changes(
    epochs: int | None, lr: float | None, batch_size: int | None, settings: list[str] | None
) -> dict[str, Any]:
    """What was typed of a recipe, by field."""
    given = {"epochs": epochs, "lr": lr, "batch_size": batch_size}
    return {name: value for name, value in given.items() if value is not None} | read_pairs(
        settings
    )


def read_recipe(file: Path | None, changes: dict[str, Any]) -> Recipe:
    """A recipe file with some fields changed; the defaults without a file."""
    from expunge.training.recipe import Recipe

    if file is None:
        return Recipe(**changes)
    with reading(f"the recipe {file}", "write YAML or JSON", ConfigError):
        content = numbers(read_yaml(file)[0])
    if not isinstance(content, dict):
        raise ConfigError(
            f"the recipe {file} is not a list of settings; write lines like `lr: 0.1`"
        )
    return Recipe(**{**content, **changes})


def read_floats(text: str | None, option: str) -> list[float] | None:
    """`0.49,0.48,0.45` as numbers; None stays None."""
    if text is None:
        return None
    try:
        return [float(part) for part in text.split(",")]
    except ValueError as error:
        raise ConfigError(
            f"{option} {text!r}: write numbers, as in {option} 0.49,0.48,0.45"
        ) from error
