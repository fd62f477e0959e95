"""Commands as Typer has them, made from the table: each when it is asked for, with its module."""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator
from typing import Any

import typer
from typer.core import TyperCommand
from typer.main import get_command, get_group

from expunge.cli.table import COMMANDS

LOOKS: dict[str, Any] = {
    "add_completion": False,
    "rich_markup_mode": "rich",
    "context_settings": {"help_option_names": ["-h", "--help"]},
}
"""What help looks like and answers to, everywhere."""


class Listed(TyperCommand):
    """A command or a group, as the group that holds it lists it: by its line of the table alone."""

    def __init__(self, path: str) -> None:
        super().__init__(path.rpartition(" ")[2], short_help=COMMANDS[path].says)
        self.path = path

    def make_context(self, *given: Any, **more: Any) -> Any:
        """The context of the command itself, which is parsed, shows its help and runs from here on."""
        return made(self.path).make_context(*given, **more)


def made(path: str) -> Any:
    """A command or a group with all that it takes. path: its full name; "" is `expunge` itself.

    Of what a group holds nothing is imported.
    """
    line, name, work = COMMANDS[path], path.rpartition(" ")[2], work_of(path)
    shown: dict[str, Any] = {
        "help": inspect.getdoc(work) if work else line.says,
        "epilog": f"Example: expunge {path} {line.example}".strip() if path and work else None,
    }
    held = [one for one in COMMANDS if one and one.rpartition(" ")[0] == path]
    if work is not None and not held:
        alone = typer.Typer(**LOOKS)
        alone.command(name, **shown)(work)
        return get_command(alone)
    group = get_group(
        typer.Typer(
            name=name,
            callback=work,
            invoke_without_command=work is not None,
            no_args_is_help=work is None,
            **shown,
            **LOOKS,
        )
    )
    for one in held:
        group.add_command(Listed(one))
    return group


def work_of(path: str) -> Callable[..., Any] | None:
    """The function of a command, imported; None of a group that does nothing by itself."""
    module, _, name = COMMANDS[path].work.partition(":")
    return getattr(importlib.import_module(f"expunge.cli.{module}"), name) if module else None


def every_command() -> Iterator[tuple[str, Any]]:
    """The commands that do something by themselves, by full name, in the order of `--help`."""
    return ((path, made(path)) for path, line in COMMANDS.items() if path and line.work)
