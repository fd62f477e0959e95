"""Data with the test samples that were drawn of them back among those to learn from."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from expunge.data.aside import others
from expunge.data.batch import Indices
from expunge.data.drawing import DRAWING
from expunge.data.load import Data, load_data
from expunge.data.read_as import ReadAs
from expunge.data.samples import ResidentStore, RowsOf, Samples, Store, resident
from expunge.data.spec import NO_TEST, OWN_TEST
from expunge.data.tokens import TextStore, TokenStore


def undivided(data: Data, *, allow_code: bool) -> Data:
    """The same data, all to learn from and no test set, where the test set was only drawn of them.

    Data that bring a test set of their own, or of which somebody asked for a number of samples or for
    poison, stay as they are. The normalisation stays what it was.

    allow_code: whether data of `module:function` that are read anew may be imported.
    """
    if data.drawn is None:
        return data
    count = len(data.train) + len(data.test)
    order = np.argsort(np.concatenate([others(count, data.drawn), data.drawn]))
    store = _joined(data.train, data.test, order)
    if store is None:  # too large to be held: read anew
        train = load_data(
            data.spec or "",
            data_dir=data.data_dir,
            classes=data.classes,
            test=OWN_TEST,
            allow_code=allow_code,
            read_as=ReadAs(None, data.drawing or DRAWING, data.table),
        ).train
        train = replace(train, labels=_both(data.train.labels, data.test.labels)[order])
    else:
        train = replace(
            data.train,
            ids=_both(data.train.ids, data.test.ids)[order],
            labels=_both(data.train.labels, data.test.labels)[order],
            store=store,
            columns={
                name: _both(values, data.test.columns[name])[order]
                for name, values in data.train.columns.items()
            },
            rows=None
            if data.train.rows is None or data.test.rows is None
            else _both(data.train.rows, data.test.rows)[order],
            fingerprint=data.train.fingerprint.rpartition("/")[0],
            checked=False,
        )
    return replace(
        data,
        train=train,
        test=train.subset(np.empty(0, dtype=np.int64)),
        fixed_normalisation=data.normalisation,
        normalise=False,
        test_drawn=False,
        drawn=None,
        test_spec=NO_TEST,
    )


def _joined(train: Samples, test: Samples, order: Indices) -> Store | None:
    """One store of both parts' inputs; None where they are held apart, and not in memory."""
    tensors = resident(train), resident(test)
    if tensors[0] is not None and tensors[1] is not None:
        return ResidentStore(torch.cat(tensors)[torch.from_numpy(order)])  # type: ignore[arg-type]
    one, other = train.store, test.store
    if isinstance(one, TextStore) and isinstance(other, TextStore):
        return one.beside(other).rows(order)
    if isinstance(one, TokenStore) and isinstance(other, TokenStore):
        return one.beside(other).rows(order)
    if not isinstance(one, RowsOf) or not isinstance(other, RowsOf) or one.store is not other.store:
        return None
    return RowsOf(one.store, _both(one.chosen, other.chosen)[order])


def _both(one: NDArray[Any], other: NDArray[Any]) -> NDArray[Any]:
    return np.concatenate([one, other])
