"""Where the statistics of a trained model are kept: beside its folder, or for as long as it lives."""

from __future__ import annotations

import hashlib
import json
from collections.abc import MutableMapping
from typing import Any
from weakref import WeakKeyDictionary

from expunge.data.spec import UNNAMED
from expunge.data.split import Split
from expunge.data.task import task_named
from expunge.trained.card import CARD, STATISTIC
from expunge.trained.record import OUR_STEPS
from expunge.trained.trained import Trained
from expunge.training.statistics import Statistic, Statistics

_IN_MEMORY: WeakKeyDictionary[Trained, MutableMapping[str, Statistic]] = WeakKeyDictionary()


def statistics_of(original: Trained, split: Split, step: str) -> Statistics:
    """What is kept of a model, over all that a request finds there: what it retains and forgets, and
    so nothing that was struck before.

    step: of the method that asks. Of a redacted folder only our own methods keep any there, for nobody
    knows what others put in; nor is any kept there of a task that no name tells from others.
    """
    data, path, key = original.data, original.path, original.key
    task = task_named(data.task, data.task_name)
    ids = json.dumps(sorted((*split.retain, *split.forget)))
    about: dict[str, Any] = {
        "ids": hashlib.sha256(ids.encode()).hexdigest(),
        "data": data.train.fingerprint,
        "classes": data.classes,
        "inputs": (data.normalisation, data.drawing, data.table),
        "task": task,
    }
    lies = path is not None and (path / CARD).is_file()
    lasting = task != UNNAMED and (key is None or step in OUR_STEPS)
    return Statistics(
        about,
        mask=original.mask,
        folder=path if lies and lasting else None,
        called=STATISTIC,
        known=_IN_MEMORY.setdefault(original, {}),
        hide=str if key is None else key.digest,
    )
