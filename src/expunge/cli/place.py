"""The options that say where a command works and what it may do: declared here, once for all."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from expunge.hardware import check_device
from expunge.place import Place

R = TypeVar("R")

DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Folder that holds cifar10/ and mnist/; else EXPUNGE_DATA."),
]
Device = Annotated[
    str | None,
    typer.Option("--device", callback=check_device, help="cpu or cuda; else the best there is."),
]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace folders that exist.")]
AllowCode = Annotated[
    bool,
    typer.Option("--allow-code", help="Run the code that a folder or a study file names."),
]
OPTIONS: dict[str, tuple[Any, Any]] = {
    "data_dir": (DataDir, None),
    "device": (Device, None),
    "overwrite": (Overwrite, False),
    "allow_code": (AllowCode, False),
}
"""Field of `Place` -> the option that fills it, and its default."""


def placed(*fields: str) -> Callable[[Callable[..., R]], Callable[..., R]]:
    """Give a command some of these options; it gets them as one `Place`, its parameter `place`.

    fields: of `Place`, those that the command has options for.
    """

    def decorate(command: Callable[..., R]) -> Callable[..., R]:
        signature = inspect.signature(command, eval_str=True)
        own = [one for name, one in signature.parameters.items() if name != "place"]
        added = [
            inspect.Parameter(
                name,
                inspect.Parameter.KEYWORD_ONLY,
                default=OPTIONS[name][1],
                annotation=OPTIONS[name][0],
            )
            for name in fields
        ]

        def run(*given: Any, **options: Any) -> R:
            place = Place(**{name: options.pop(name) for name in fields if name in options})
            return command(*given, place=place, **options)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__module__ = command.__module__
        told: Any = run
        told.__signature__ = signature.replace(parameters=[*own, *added])
        told.__annotations__ = {one.name: one.annotation for one in (*own, *added)}
        return run

    return decorate
