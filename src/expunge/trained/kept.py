"""Where the statistics of a trained model are kept: beside its folder, or for as long as it lives."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Collection, Iterable, MutableMapping
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from expunge.data.spec import UNNAMED
from expunge.data.split import Split
from expunge.data.task import task_named
from expunge.trained.card import CARD, STATISTIC
from expunge.trained.record import OUR_STEPS
from expunge.trained.trained import Trained
from expunge.training.statistics import Statistic, Statistics

OF_TORCH = frozenset({"torch", "builtins"})
_IN_MEMORY: WeakKeyDictionary[Trained, MutableMapping[str, Statistic]] = WeakKeyDictionary()


def code_of(modules: Iterable[str], *, but: Collection[str] = OF_TORCH) -> list[str]:
    """Digests of the files of modules: the same weights compute something else where such a file was
    changed. but: packages that are left out.
    """
    files = {
        getattr(sys.modules.get(name), "__file__", None)
        for name in {*modules}
        if name.partition(".")[0] not in but
    }
    return sorted(hashlib.sha256(Path(file).read_bytes()).hexdigest() for file in files if file)


def statistics_of(original: Trained, split: Split, step: str) -> Statistics:
    """What is kept of a model, over all that a request finds there: what it retains and forgets, and
    so nothing that was struck before.

    step: of the method that asks. Of a redacted folder only our own methods keep any there, for nobody
    knows what others put in; nor is any kept there of a task that no name tells from others.
    """
    data, path, key = original.data, original.path, original.key
    task = task_named(data.task, data.task_name)

    def about() -> dict[str, Any]:
        ids = json.dumps(sorted((*split.retain, *split.forget)))
        return {
            "ids": hashlib.sha256(ids.encode()).hexdigest(),
            "data": data.train.fingerprint,
            "classes": data.classes,
            "inputs": (data.normalisation, data.drawing, data.table),
            "task": task,
            "code": code_of(type(one).__module__ for one in (*original.model.modules(), data.task)),
        }

    lies = path is not None and (path / CARD).is_file()
    lasting = task != UNNAMED and (key is None or step in OUR_STEPS)
    return Statistics(
        about,
        mask=original.mask,
        folder=path if lies and lasting else None,
        called=STATISTIC,
        known=_IN_MEMORY.setdefault(original, {}),
        # a key that was made for this request alone is not the folder's, which holds its ids in the open
        hide=str if key is None or not key.file.exists() else key.digest,
    )
