"""Texts, and the tokens that a model reads of them: tokenised once, held as tensors, padded by batch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NoReturn, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from expunge.data.batch import Indices
from expunge.data.samples import Store
from expunge.errors import DataError

Tokens = dict[str, Tensor]
"""What a model of texts is called with, by the names of its arguments: (n, length) whole numbers."""
MOST_TOKENS = 512
"""Of a text, unless somebody says otherwise: what lies beyond is not read."""
AT_ONCE = 1024
"""Texts that are tokenised in one call."""


class Tokenizer(Protocol):
    """As much of a tokenizer of transformers as is asked for here."""

    pad_token_id: int | None
    model_max_length: int

    def __call__(self, text: list[str], **settings: Any) -> Mapping[str, list[list[int]]]:
        """Name -> one list of whole numbers for each text."""
        ...


class TextStore:
    """Texts, of which no model can read any before they are tokenised.

    texts: a pyarrow array of strings. chosen: rows of it.
    """

    def __init__(self, texts: Any, chosen: Indices) -> None:
        self.texts = texts
        self.chosen = chosen

    def read(self, start: int, stop: int) -> list[str]:
        """Some of the texts."""
        found: list[str] = self.texts.take(self.chosen[start:stop]).to_pylist()
        return found

    def rows(self, index: Indices) -> Store:
        """Some of the texts."""
        return TextStore(self.texts, self.chosen[index])

    def beside(self, other: TextStore) -> TextStore:
        """These texts and, after them, others of the same data."""
        return TextStore(self.texts, np.concatenate([self.chosen, other.chosen]))

    def fetch(self, index: Indices, device: torch.device) -> NoReturn:
        """Raises DataError: see above."""
        raise DataError(
            "the samples are texts, which only a model with a tokenizer reads: give a model of "
            "transformers (--model hf:FOLDER), or data.tokenised(tokenizer) in Python"
        )

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Any]:
        """Raises DataError: see above."""
        self.fetch(np.empty(0, np.int64), device)

    def whole(self) -> None:
        """There is no tensor of texts."""


class TokenStore:
    """The tokens of texts, held whole: in memory, and once on each device that asks for them.

    A batch is as wide as its longest text, for what is beyond is padding, which no model looks at.

    tokens: name -> (n, length), padded at the end. lengths: (n,) tokens of each that are no padding.
    pads: name -> what it is padded with. tokenizer: what made them, where that is known.
    most: tokens that are read of a text at most; None: nobody says. texts: what they were made of.
    """

    def __init__(
        self,
        tokens: Tokens,
        lengths: NDArray[np.int64],
        pads: Mapping[str, int],
        tokenizer: Tokenizer | None = None,
        most: int | None = None,
        texts: TextStore | None = None,
    ) -> None:
        self.tokens = tokens
        self.texts = texts
        self.lengths = lengths
        self.pads = pads
        self.tokenizer = tokenizer
        self.most = most
        self._copies: dict[torch.device, Tokens] = {torch.device("cpu"): tokens}

    @property
    def shape(self) -> tuple[int, ...]:
        """Of one input: the most tokens that one has."""
        return (next(iter(self.tokens.values())).shape[1],)

    @property
    def full(self) -> int:
        """How many texts have as many tokens as are read at most, or had more, which are not read."""
        return 0 if self.most is None else int((self.lengths >= self.most).sum())

    def notes(self) -> tuple[str, ...]:
        """What a person should know of what is not read, a sentence each."""
        if not self.full:
            return ()
        return (
            f"{self.full:,} of {len(self.lengths):,} texts to train on have {self.most} tokens or more, "
            "and what lies beyond is not read",
        )

    def _on(self, device: torch.device) -> Tokens:
        if device not in self._copies:
            self._copies[device] = {name: one.to(device) for name, one in self.tokens.items()}
        return self._copies[device]

    def fetch(self, index: Indices, device: torch.device) -> Tokens:
        """Tokens of some rows, each (len(index), width) int64."""
        width = int(self.lengths[index].max(initial=1))
        rows = torch.from_numpy(np.ascontiguousarray(index)).to(device, non_blocking=True)
        return {
            name: held[:, :width].index_select(0, rows).long()
            for name, held in self._on(device).items()
        }

    def stream(self, batches: Sequence[Indices], device: torch.device) -> Iterator[Tokens]:
        """Tokens of many batches, one after another."""
        for index in batches:
            yield self.fetch(index, device)

    def rows(self, index: Indices) -> Store:
        """A copy of some of the rows."""
        rows = torch.from_numpy(np.ascontiguousarray(index))
        some = {name: held[rows] for name, held in self.tokens.items()}
        texts = (
            None if self.texts is None else TextStore(self.texts.texts, self.texts.chosen[index])
        )
        return TokenStore(some, self.lengths[index], self.pads, self.tokenizer, self.most, texts)

    def beside(self, other: TokenStore) -> TokenStore:
        """These tokens and, after them, others of the same width."""
        both = {name: torch.cat([held, other.tokens[name]]) for name, held in self.tokens.items()}
        lengths = np.concatenate([self.lengths, other.lengths])
        ours, theirs = self.texts, other.texts
        texts = None if ours is None or theirs is None else ours.beside(theirs)
        return TokenStore(both, lengths, self.pads, self.tokenizer, self.most, texts)

    def whole(self) -> None:
        """A dictionary of tensors is not one tensor."""

    def blank(self, count: int, device: torch.device) -> Tokens:
        """So many texts of one token over and over, as long as the longest; no data are read.

        They end as every text does, for some models look for that.
        """
        values = {name: int(name == "attention_mask") for name in self.tokens}
        values["input_ids"] = int(self.pads["input_ids"] == 0)
        made = {
            name: torch.full((count, *self.shape), value, device=device)
            for name, value in values.items()
        }
        end = [] if self.tokenizer is None else self.tokenizer([""])["input_ids"][0][-1:]
        if end:
            made["input_ids"][:, -1] = end[0]
        return made

    def joined(self, pieces: Sequence[Tokens]) -> Tokens:
        """Several batches as one, as wide as the widest."""
        width = max(one.shape[1] for piece in pieces for one in piece.values())

        def padded(piece: Tokens, name: str) -> Tensor:
            short = width - piece[name].shape[1]
            return torch.nn.functional.pad(piece[name], (0, short), value=self.pads[name])

        return {name: torch.cat([padded(one, name) for one in pieces]) for name in self.pads}


def tokenised(
    stores: Sequence[TextStore], tokenizer: Tokenizer, length: int | None
) -> list[TokenStore]:
    """The tokens of several parts of the data, all of one width.

    length: the most tokens of a text; None: as many as the tokenizer says that its model reads, and
    no more than `MOST_TOKENS`. Raises DataError for a tokenizer that cannot pad.
    """
    if tokenizer.pad_token_id is None:
        raise DataError(
            "the tokenizer has no token to pad short texts with; set one, as in "
            "tokenizer.pad_token = tokenizer.eos_token, and save it again"
        )
    most = length or min(MOST_TOKENS, tokenizer.model_max_length)
    if most < 1:
        raise DataError(f"a text of {most} tokens cannot be; give a length of at least 1")
    found = [_tokens(store, tokenizer, most) for store in stores]
    names = list(found[0])
    found = [part or {name: [] for name in names} for part in found]  # a test set may be empty
    width = most if length else max(int(_lengths(part[names[0]]).max(initial=1)) for part in found)
    pads = {
        name: tokenizer.pad_token_id if name == "input_ids" else _pad(tokenizer, name)
        for name in names
    }
    made = []
    for part, store in zip(found, stores, strict=True):
        lengths = _lengths(part[names[0]])
        tokens = {name: padded(part[name], width, pads[name]) for name in names}
        made.append(TokenStore(tokens, lengths, pads, tokenizer, most, store))
    return made


def _pad(tokenizer: Tokenizer, name: str) -> int:
    """What names other than the tokens are padded with; 0 hides a place from the model."""
    return int(getattr(tokenizer, "pad_token_type_id", 0)) if name == "token_type_ids" else 0


def _tokens(store: TextStore, tokenizer: Tokenizer, most: int) -> dict[str, list[NDArray[Any]]]:
    """Name -> the numbers of each text."""
    found: dict[str, list[NDArray[Any]]] = {}
    for start in range(0, len(store.chosen), AT_ONCE):
        texts = store.read(start, start + AT_ONCE)
        made = tokenizer(
            texts, truncation=True, max_length=most, padding=False, return_attention_mask=True
        )
        for name, rows in made.items():
            each = found.setdefault(name, [])
            each += [np.array(row, np.int32) for row in rows]
    return found


def _lengths(rows: Sequence[NDArray[Any]]) -> NDArray[np.int64]:
    return np.fromiter((len(row) for row in rows), np.int64, len(rows))


def padded(rows: Sequence[NDArray[Any]], width: int, pad: int) -> Tensor:
    """Rows of whole numbers as one tensor (n, width), padded at the end; int8 where they fit."""
    table = np.full((len(rows), width), pad, np.int32)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    small = table.size and table.min() >= -128 and table.max() <= 127
    return torch.from_numpy(table.astype(np.int8) if small else table)
