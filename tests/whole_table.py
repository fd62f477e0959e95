"""Every method of the table on the same request, by as many processes as there are: for a comparison.

`main(FOLDER)` writes what each made, under torchrun as alone.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

HERE = Path(__file__).parent
sys.path += [str(HERE), str(HERE / "contract")]

from safetensors.torch import save_file  # noqa: E402
from test_methods import QUICK  # noqa: E402

from expunge.errors import UserError  # noqa: E402
from expunge.methods import METHODS  # noqa: E402
from expunge.testing import MethodCase  # noqa: E402
from expunge.testing.ground import random_mask  # noqa: E402
from expunge.training.recipe import Recipe  # noqa: E402
from expunge.training.run import accelerator_on  # noqa: E402

# no normalisation layers: their statistics of a share of a batch are others than of all of it
MODEL, COUNT = "mlp", 120
# Settings under which one process does as several do.
ALIKE: dict[str, dict[str, object]] = {
    "influence": {"solver": "cg", "tolerance": 1e-9},  # several cannot solve in sample space
    "fisher": {"labels": "all", "alpha": 1e-6},  # each process draws labels of its own
}
MASKED = {"influence", "fisher"}
RECIPE = Recipe(epochs=2, batch_size=32, lr=0.05, augmentation="none", precision="float32")


def main(folder: Path) -> None:
    """A file of weights and one of facts for each method."""
    first = accelerator_on("cpu").is_main_process
    for name, kind in METHODS.items():
        case = MethodCase(kind, {**QUICK.get(name, {}), **ALIKE.get(name, {})}, MODEL, COUNT)
        model = case.model()
        mask = {"mask": random_mask(model, 0.5)} if name in MASKED else {}
        facts: dict[str, object] = {}
        try:
            made = case.forget(model, recipe=RECIPE, **mask)
        except UserError as error:
            facts = {"refused": str(error)}
        else:
            facts = {"reads": made.record.cost.reads, "processes": made.record.cost.processes}
            if first:
                state = {key: value.contiguous() for key, value in made.model.state_dict().items()}
                save_file(state, folder / f"{name}.safetensors")
        if first:
            (folder / f"{name}.json").write_text(json.dumps(facts))
