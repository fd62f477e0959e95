"""Small files that come from elsewhere, read whole: regular ones, in their folder, of a limited size.

Everything that Expunge reads of a folder, a study or a list of ids goes through here, so that no link
leads out of a folder, no device or pipe is waited for, and no text grows when it is read.
"""

from __future__ import annotations

import io
import json
import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, BinaryIO

import yaml

from expunge.errors import UserError
from expunge.names.text import clean, clean_all

MIB = 2**20
JSON_BYTES, YAML_BYTES = 16 * MIB, MIB // 8
MOST_PARTS, MOST_COMMAS, MOST_KEYS = 2_000_000, 5_000_000, 500_000
"""Of a JSON text: brackets and braces that open, commas, and keys; each costs more than its bytes."""
_KEY = re.compile(r'"\s*:')
MOST_NODES = 100_000
"""Of a YAML text, aliases and merge keys written out."""
DEEPEST = 60
"""Levels of a YAML text."""
MOST_DIGITS = 18
"""Of a whole number: what fits into 64 bits."""


class UnreadableError(ValueError):
    """Why a file is not read."""


@contextmanager
def reading(file: str | Path, remedy: str, error: type[UserError]) -> Iterator[None]:
    """Whatever goes wrong inside becomes one line that names the file.

    file: in words. remedy: what to do about it. error: the type that is raised; a UserError passes as
    it is.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as cause:  # whatever a file can do to its reader
        raise error(f"cannot read {file} ({reason(cause)}); {remedy}") from cause


def reason(cause: BaseException) -> str:
    """Why something failed, in a few words."""
    if isinstance(cause, RecursionError):
        return "it is nested too deeply"
    if isinstance(cause, MemoryError):
        return "it does not fit into memory"
    if isinstance(cause, UnicodeDecodeError):
        return "it is no UTF-8"
    if isinstance(cause, OSError) and cause.strerror:
        return cause.strerror
    told = clean(" ".join(str(cause).split()))
    if not isinstance(cause, ValueError | yaml.YAMLError):
        told = f"{type(cause).__name__}: {told}" if told else type(cause).__name__
    return told if len(told) <= 300 else f"{told[:300]} ..."


def check_regular(file: Path, *, within: Path | None = None) -> os.stat_result:
    """The file's status. Raises UnreadableError for what is no regular file, or lies outside a folder.

    within: the folder that it belongs to; a link must not lead out of it.
    """
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UnreadableError(
            "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no regular file"
        )
    if within is not None and not file.resolve().is_relative_to(within.resolve()):
        raise UnreadableError("it is a link that leads out of its folder")
    return status


@contextmanager
def open_regular(file: Path, *, within: Path | None = None) -> Iterator[io.BufferedReader]:
    """A regular file, to be read as a stream. Raises UnreadableError or OSError."""
    check_regular(file, within=within)
    # between the look and the opening it may have become a pipe, which nobody waits for
    handle = os.open(file, os.O_RDONLY | os.O_CLOEXEC | getattr(os, "O_NONBLOCK", 0))
    with os.fdopen(handle, "rb") as stream:
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            raise UnreadableError("it is no regular file")
        yield stream


def read_bytes(file: Path, *, most: int, within: Path | None = None) -> bytes:
    """All bytes of a regular file of at most so many. Raises UnreadableError or OSError."""
    with open_regular(file, within=within) as stream:
        return read_stream(stream, most=most)


def read_stream(stream: BinaryIO, *, most: int) -> bytes:
    """All bytes of a stream of at most so many. Raises UnreadableError or OSError."""
    content = stream.read(most + 1)
    if len(content) > most:
        raise UnreadableError(f"it is larger than {_size(most)}")
    return content


def read_json(file: Path, *, most: int = JSON_BYTES, within: Path | None = None) -> Any:
    """Plain data of a JSON file, its texts cleaned. Raises ValueError, RecursionError or OSError."""
    return parse_json(read_bytes(file, most=most, within=within))


def parse_json(content: bytes | str) -> Any:
    """Plain data of a JSON text, its texts cleaned. Raises ValueError or RecursionError."""
    text = content.decode("utf-8") if isinstance(content, bytes) else content
    del content  # may be large
    if (
        text.count("[") + text.count("{") > MOST_PARTS
        or text.count(",") > MOST_COMMAS
        or (text.count(":") > MOST_KEYS and _keys(text) > MOST_KEYS)
    ):
        raise UnreadableError("it has too many parts")
    return clean_all(json.loads(text, parse_int=_whole))


def _keys(text: str) -> int:
    """How many keys a JSON text has, or one more than the most."""
    return sum(1 for _ in islice(_KEY.finditer(text), MOST_KEYS + 1))


def read_yaml(file: Path, *, within: Path | None = None) -> tuple[Any, Any]:
    """Plain data of a YAML file, its texts cleaned, and the node that says where each part stands.

    Dates stay text. Raises yaml.YAMLError, ValueError, RecursionError or OSError.
    """
    return parse_yaml(read_bytes(file, most=YAML_BYTES, within=within).decode("utf-8"))


def parse_yaml(text: str) -> tuple[Any, Any]:
    """As `read_yaml`, of a text."""
    if len(text) > YAML_BYTES:
        raise UnreadableError(f"it is longer than {_size(YAML_BYTES)}")
    loader = _Loader(text)
    try:
        node = loader.get_single_node()
        if _nodes(node, {}, set()) > MOST_NODES:
            raise UnreadableError("its aliases, written out, are too many")
        # merge keys are written out where a document is made, and the node is to be as it was written
        content = None if node is None else loader.construct_document(_twin(node, {}))
    finally:
        loader.dispose()
    return clean_all(content), node


class _Loader(yaml.SafeLoader):
    """Plain data alone: no dates, no bytes, no sets, no numbers that only YAML can hold, and nothing
    nested deeper than people write.
    """

    def fetch_flow_collection_start(self, token: Any) -> None:
        """`[` and `{`; what looks ahead takes the square of their depth."""
        if self.flow_level >= DEEPEST:
            raise UnreadableError("it is nested too deeply")
        super().fetch_flow_collection_start(token)

    def add_indent(self, column: int) -> bool:
        """One level of lines that stand further in."""
        if len(self.indents) >= DEEPEST:
            raise UnreadableError("it is nested too deeply")
        return bool(super().add_indent(column))


_Loader.yaml_implicit_resolvers = {
    sign: [(tag, rule) for tag, rule in rules if not tag.endswith(":timestamp")]
    for sign, rules in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def _refused(_: Any, node: Any) -> Any:
    raise UnreadableError(
        f"line {node.start_mark.line + 1}: no {node.tag.rpartition(':')[2]} is known here"
    )


def _yaml_whole(loader: Any, node: Any) -> int:
    if len(str(node.value)) > MOST_DIGITS + 4:
        raise UnreadableError(
            f"line {node.start_mark.line + 1}: a number of {len(node.value)} digits"
        )
    return int(yaml.SafeLoader.construct_yaml_int(loader, node))


for _tag in ("timestamp", "binary", "set", "omap", "pairs"):
    _Loader.add_constructor(f"tag:yaml.org,2002:{_tag}", _refused)
_Loader.add_constructor("tag:yaml.org,2002:int", _yaml_whole)


def _nodes(node: Any, known: dict[int, int], above: set[int]) -> int:
    """How many nodes there are under a node, each alias counted as what it stands for; of a long text,
    one for each 64 letters.
    """
    if id(node) in above:
        raise UnreadableError("a part of it holds itself")
    if isinstance(node, yaml.ScalarNode):
        return 1 + len(node.value) // 64
    if node is None or id(node) in known:
        return known.get(id(node), 0)
    above.add(id(node))
    parts = (
        [one for pair in node.value for one in pair]
        if isinstance(node, yaml.MappingNode)
        else node.value
    )
    known[id(node)] = 1 + sum(_nodes(one, known, above) for one in parts)
    above.remove(id(node))
    return known[id(node)]


def _twin(node: Any, made: dict[int, Any]) -> Any:
    """A copy of a node, in which an alias is one node too."""
    if isinstance(node, yaml.ScalarNode):
        return node
    if id(node) not in made:
        if isinstance(node, yaml.MappingNode):
            value = [(_twin(key, made), _twin(one, made)) for key, one in node.value]
        else:
            value = [_twin(one, made) for one in node.value]
        made[id(node)] = type(node)(node.tag, value, node.start_mark, node.end_mark)
    return made[id(node)]


def _whole(text: str) -> int:
    if len(text) > MOST_DIGITS + 1:
        raise UnreadableError(f"a number of {len(text)} digits")
    return int(text)


def _size(number: int) -> str:
    return f"{number // MIB} MiB" if number >= MIB else f"{number // 1024} KiB"
