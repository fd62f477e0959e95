"""Figures are made, and drawn only where a test looks at them: drawing takes a seventh of all tests."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

CONTENT = {
    "png": base64.b64decode(
        "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
    ),
    "svg": b'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 8 8"/>',
    "pdf": b"%PDF-1.4\n%%EOF\n",
}
"""The least picture of each kind."""


@contextmanager
def undrawn() -> Iterator[None]:
    """Each figure's file is the least that there is of its kind."""

    def savefig(_: object, file: Any, **settings: Any) -> None:
        if isinstance(file, io.BytesIO):
            file.write(CONTENT[settings["format"]])
        else:
            Path(file).write_bytes(CONTENT[Path(file).suffix[1:]])

    with mock.patch("matplotlib.figure.Figure.savefig", savefig):
        yield
