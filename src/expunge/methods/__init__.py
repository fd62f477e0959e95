"""The tables of unlearning methods and of controls. Each is one file; adding one takes a line here."""

from __future__ import annotations

from collections.abc import Mapping
from inspect import isabstract

from expunge.data.parts import Part
from expunge.errors import ConfigError, nearest
from expunge.methods.amun import Amun
from expunge.methods.anp import Anp
from expunge.methods.bad_teacher import BadTeacher
from expunge.methods.base import Method
from expunge.methods.boundary_expand import BoundaryExpand
from expunge.methods.boundary_shrink import BoundaryShrink
from expunge.methods.certified_head import CertifiedHead
from expunge.methods.cfk import Cfk
from expunge.methods.delete import Delete
from expunge.methods.euk import Euk
from expunge.methods.fcs import Fcs
from expunge.methods.fine_pruning import FinePruning
from expunge.methods.finetune import Finetune
from expunge.methods.fisher import Fisher
from expunge.methods.gradient_ascent import GradientAscent
from expunge.methods.head_zeroed import HeadZeroed
from expunge.methods.ibau import Ibau
from expunge.methods.influence import Influence
from expunge.methods.l1_sparse import L1Sparse
from expunge.methods.last_epoch import LastEpoch
from expunge.methods.lotus import Lotus
from expunge.methods.msg import Msg
from expunge.methods.neggrad_plus import NegGradPlus
from expunge.methods.noisy_finetune import NoisyFinetune
from expunge.methods.perturb import Perturb
from expunge.methods.random_label import RandomLabel
from expunge.methods.regun import Regun
from expunge.methods.retrain import Retrain
from expunge.methods.salun import Salun
from expunge.methods.scrub import Scrub
from expunge.methods.sfron import Sfron
from expunge.methods.sisa import Sisa
from expunge.methods.ssd import Ssd
from expunge.methods.unsir import Unsir
from expunge.names.catalogue import Catalogue
from expunge.names.tables import by_name

CLASSES: tuple[type[Method], ...] = (
    Retrain,
    Finetune,
    GradientAscent,
    NegGradPlus,
    L1Sparse,
    Influence,
    Fisher,
    Unsir,
    RandomLabel,
    Salun,
    Scrub,
    Perturb,
    Msg,
    Ssd,
    Delete,
    Euk,
    Cfk,
    Amun,
    BadTeacher,
    Lotus,
    BoundaryShrink,
    BoundaryExpand,
    Sfron,
    CertifiedHead,
    Sisa,
    NoisyFinetune,
    Fcs,
    Regun,
    FinePruning,
    Anp,
    Ibau,
)
STEPS = ("train", "prune", "import", "original", "floor")
"""What records call the steps and rows that no method makes."""
METHODS: Mapping[str, type[Method]] = by_name("method", ((m.name, m) for m in CLASSES))
CONTROLS: Mapping[str, type[Method]] = by_name(
    "control", ((m.name, m) for m in (HeadZeroed, LastEpoch))
)
"""What does next to nothing, for comparison: no method is good that does no better. They are called
as methods are, and no list of methods to choose from names them."""


def _admit(made: object, told: str) -> type[Method]:
    """A class of unlearning method; ConfigError says what it lacks."""
    if not (isinstance(made, type) and issubclass(made, Method)):
        raise ConfigError(f"{told} is no unlearning method: derive a class from expunge's Method")
    kinds = {"name": str, "paper": str, "reads": Part}
    lacking = [
        name for name, kind in kinds.items() if not isinstance(getattr(made, name, None), kind)
    ]
    lacking += [] if made.__doc__ else ["a docstring"]
    lacking += ["unlearn()"] if isabstract(made) else []
    if lacking:
        raise ConfigError(f"{told} lacks {', '.join(lacking)}; every unlearning method has these")
    if not made.name.isidentifier() or made.name in STEPS:
        raise ConfigError(
            f"{told} cannot be called {made.name!r}: a name is one word of letters, digits and _, and "
            f"{', '.join(STEPS)} mean something else in records"
        )
    return made


ALL_METHODS: Catalogue[type[Method]] = Catalogue(
    "method", "expunge.methods", {**METHODS, **CONTROLS}, _admit, lambda method: method.name
)
"""All that `--method` takes: these, those of installed packages, and `module:Class`."""


def find_method(name: str, *, allow_code: bool) -> type[Method]:
    """The class of a method by name; the arguments are those of `make_method`."""
    return ALL_METHODS.find(_parts(name)[0], allow_code=allow_code)


def make_method(
    name: str, settings: Mapping[str, object] | None = None, *, allow_code: bool
) -> Method:
    """A method by name, with some settings that go before a preset's.

    Args:
        name: a method's name, ours or of an installed package; NAME:PRESET; or `module:Class`.
            Where a method has the name before the colon, it is a preset that comes after.
        settings: by field.
        allow_code: whether `module:Class` may be imported; False for a name from a file.

    Raises:
        ConfigError: names what is wrong and what there is.
    """
    name, preset = _parts(name)
    method = ALL_METHODS.find(name, allow_code=allow_code)
    start: Mapping[str, object] = {}
    if preset is not None:
        if preset not in method.presets:
            known = ", ".join(method.presets) or "none"
            raise ConfigError(
                f"{name} has no preset {preset!r}{nearest(preset, method.presets)}; "
                f"there are: {known}"
            )
        start = method.presets[preset]
    return method(**{**start, **(settings or {})})


def method_name(method: Method) -> str:
    """The name by which `make_method` makes such a method again, as records keep it."""
    return ALL_METHODS.name_of(type(method))


def _parts(name: str) -> tuple[str, str | None]:
    """The name of a method, or its code, and the preset if there is one."""
    before, colon, preset = name.partition(":")
    if colon and before in ALL_METHODS.names():
        return before, preset
    return name, None


__all__ = [
    "ALL_METHODS",
    "CONTROLS",
    "METHODS",
    "Method",
    "find_method",
    "make_method",
    "method_name",
]
