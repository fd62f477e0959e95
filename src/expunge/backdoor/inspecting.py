"""Is a model poisoned? All detectors that fit what is at hand, their cost before, and one sentence."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from expunge.backdoor.activation_clustering import detect_clusters
from expunge.backdoor.activations import CLEAN_OF_EACH, Activations
from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT, Detection
from expunge.backdoor.inspected import BATCH, Inspected
from expunge.backdoor.inversion import JUDGED, Effort, Inverted, detect_inverted
from expunge.backdoor.spectral import detect_spectral
from expunge.backdoor.strip import MIXED_WITH, MOST_CLEAN, MOST_INPUTS, detect_mixed
from expunge.backdoor.thresholds import THRESHOLDS
from expunge.errors import ConfigError, DataError, HeadError, nearest
from expunge.place import HERE, Place
from expunge.progress import duration

if TYPE_CHECKING:
    from expunge.data.samples import Samples
    from expunge.trained.trained import Trained


class Seeing:
    """A subject with what several detectors share."""

    def __init__(self, subject: Inspected) -> None:
        self.subject = subject
        self.triggers: list[Inverted] = []

    @cached_property
    def activations(self) -> Activations:
        """Computed once."""
        return Activations.of(self.subject)

    def by_inversion(self) -> Detection:
        """Keeps the triggers."""
        found, self.triggers = detect_inverted(self.subject)
        return found


class Takes(NamedTuple):
    """Samples that go through the model: forwards alone, and forwards and back."""

    forward: int = 0
    both: int = 0


class Detector(NamedTuple):
    """title: what a table calls it. detect: what it finds. lacks: why it does not fit; empty where it
    does. passes: what it takes. blind: what it does not see, in a few words.
    """

    title: str
    detect: Callable[[Seeing], Detection]
    lacks: Callable[[Inspected], str]
    passes: Callable[[Inspected], Takes]
    blind: str

    @property
    def false_alarms(self) -> str:
        """How often it suspects clean models, as far as that was measured."""
        name = next(name for name, one in DETECTORS.items() if one is self)
        return THRESHOLDS[name].told()


BACK = 2.5
"""What a pass forwards and back takes, in passes forwards."""
NO_LEARNED = "what the model learned from is not at hand"
NO_INPUTS = "there are no inputs to judge"


def _features(subject: Inspected) -> Takes:
    clean = min(len(subject.clean), CLEAN_OF_EACH * len(subject.classes))
    return Takes(clean + (0 if subject.learned is None else len(subject.learned)))


def _inversion(subject: Inspected) -> Takes:
    classes, effort = len(subject.classes), Effort()
    judged = min(JUDGED, len(subject.clean))
    return Takes(classes * judged, classes * effort.steps * effort.batch)


def _mixing(subject: Inspected) -> Takes:
    inputs = 0 if subject.inputs is None else min(MOST_INPUTS, len(subject.inputs))
    return Takes(MIXED_WITH * (inputs + min(MOST_CLEAN, len(subject.clean))))


DETECTORS: Mapping[str, Detector] = {
    "inversion": Detector(
        "trigger inversion",
        Seeing.by_inversion,
        lambda subject: "",
        _inversion,
        "large, faint and sample-specific triggers, all-to-all attacks",
    ),
    "activation_clustering": Detector(
        "activation clustering",
        lambda seeing: detect_clusters(seeing.activations, seeing.subject.seed),
        lambda subject: NO_LEARNED if subject.learned is None else "",
        _features,
        "clean-label attacks, very little poison",
    ),
    "spectral": Detector(
        "spectral signatures",
        lambda seeing: detect_spectral(seeing.activations),
        lambda subject: NO_LEARNED if subject.learned is None else "",
        _features,
        "clean-label attacks, very little poison",
    ),
    "strip": Detector(
        "STRIP",
        lambda seeing: detect_mixed(seeing.subject),
        lambda subject: NO_INPUTS if subject.inputs is None else "",
        _mixing,
        "triggers that do not survive mixing",
    ),
}


@dataclass(frozen=True, eq=False)
class Inspection:
    """What `inspect` found.

    Attributes:
        classes: names, by class index.
        detections: of each detector that fitted.
        skipped: name of a detector -> why it did not fit, or failed.
        triggers: the smallest trigger found for each class; none where inversion did not fit.
        seconds: that each detector took.
        notes: what a person should know, a sentence each.
    """

    classes: tuple[str, ...]
    detections: tuple[Detection, ...]
    skipped: Mapping[str, str] = field(default_factory=dict)
    triggers: tuple[Inverted, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    @property
    def word(self) -> str:
        """The strongest word of all: one detector that suspects suffices."""
        words = [one.word for one in self.detections]
        return next((one for one in (SUSPECT, NOTHING) if one in words), CANNOT_TELL)

    def samples(self) -> tuple[str, ...]:
        """Ids that stand out by the detectors that suspect: those that more of them name come first,
        then by their places there.
        """
        lists = [list(d.samples) for d in self.detections if d.word == SUSPECT]
        places: dict[str, list[int]] = {}
        for one in lists:
            for turn, name in enumerate(one):
                places.setdefault(name, []).append(turn)
        return tuple(sorted(places, key=lambda name: (-len(places[name]), sum(places[name]))))

    def sentence(self) -> str:
        """What is found, in one sentence."""
        told = {one.detector: DETECTORS[one.detector] for one in self.detections}
        of = {one: [d for d in self.detections if d.word == one] for one in (SUSPECT, NOTHING)}
        if of[SUSPECT]:
            against = [told[d.detector].title for d in of[NOTHING]]
            rest = f", not by {' and '.join(against)}" if against else ""
            targets = {_whose(d, self.classes) for d in of[SUSPECT]}
            if len(targets) == 1:
                by = " and ".join(told[d.detector].title for d in of[SUSPECT])
                return f"suspect: a backdoor seems to lead into {targets.pop()}, by {by}{rest}"
            each = [f"{told[d.detector].title} ({_whose(d, self.classes)})" for d in of[SUSPECT]]
            return f"suspect: there seems to be a backdoor, by {' and '.join(each)}{rest}"
        if of[NOTHING]:
            by = " and ".join(told[d.detector].title for d in of[NOTHING])
            blind = dict.fromkeys(told[d.detector].blind for d in of[NOTHING])
            return (
                f"nothing found by {by}, which is no proof that there is nothing; not seen are "
                f"{'; '.join(blind)}"
            )
        return f"cannot tell: {'; '.join(one.why for one in self.detections) or 'no detector fits'}"

    def plain(self) -> dict[str, Any]:
        """All of it but the triggers' pixels, as JSON takes it."""
        found = [
            {**asdict(one), "seconds": self.seconds.get(one.detector)} for one in self.detections
        ]
        return {
            "word": self.word,
            "sentence": self.sentence(),
            "classes": list(self.classes),
            "detections": [_without_nan(one) for one in found],
            "skipped": dict(self.skipped),
            "notes": list(self.notes),
        }

    def __str__(self) -> str:
        lines = [f"{DETECTORS[d.detector].title}: {d.word}; {d.why}" for d in self.detections]
        return "\n".join([*lines, self.sentence()])


def _whose(found: Detection, classes: Sequence[str]) -> str:
    names = [repr(classes[c]) for c in found.suspects]
    if not names:
        return "several classes"
    return f"class{'es' if len(names) > 1 else ''} {', '.join(names)}"


def _without_nan(value: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(value, Mapping):
        return {str(key): _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value


def inspect(
    model: Trained,
    *,
    clean: Samples | None = None,
    inputs: Samples | None = None,
    detectors: Sequence[str] | None = None,
    seed: int = 0,
    place: Place = HERE,
) -> Inspection:
    """Look for a backdoor without knowledge of trigger or poison. The model is not changed.

    Args:
        model: as `train`, `adopt`, `unlearn` or `load` returns it, with what it learned from.
        clean: samples that nobody has poisoned, correctly labelled; by default the model's test set.
        inputs: samples to be judged one by one, by STRIP.
        detectors: names; by default all that fit. See `expunge.backdoor.inspecting.DETECTORS`.
        seed: of all draws.
        place: device and progress; what it will take is told to `place.tell` before.

    Returns:
        What each detector found, `.sentence()`, and `.triggers`, the smallest trigger for each class.
        Nothing found is no proof that there is nothing.

    Raises:
        ConfigError: for a name that is none, or without clean samples.
    """
    subject = Inspected.of(model, clean=clean, inputs=inputs, seed=seed, place=place)
    return inspect_subject(subject, detectors, tell=place.tell)


def inspect_subject(
    subject: Inspected,
    detectors: Sequence[str] | None = None,
    *,
    tell: Callable[[str], object] = str,
    notes: Sequence[str] = (),
) -> Inspection:
    """The same, of a model with whatever is at hand."""
    chosen = check_detectors(detectors)
    if not len(subject.clean):
        raise ConfigError(
            "there are no clean samples to look with, for the model has no test set; give some "
            "(--data, or clean= in Python)"
        )
    skipped = {name: why for name in chosen if (why := DETECTORS[name].lacks(subject))}
    fitting = [name for name in chosen if name not in skipped]
    if fitting:
        tell(foretold(subject, fitting))
    seeing = Seeing(subject)
    found: list[Detection] = []
    seconds: dict[str, float] = {}
    with subject.run.progress.work("inspecting", max(1, len(fitting)), unit="detectors") as bar:
        for name in fitting:
            start = time.perf_counter()
            try:
                found.append(_carried(DETECTORS[name].detect(seeing), subject))
            except (DataError, HeadError) as error:  # it does not fit after all
                skipped[name] = str(error)
            seconds[name] = round(time.perf_counter() - start, 2)
            bar.advance(name)
    notes = (*notes, *((DRAWN,) if subject.drawn else ()))
    return Inspection(
        subject.classes, tuple(found), skipped, tuple(seeing.triggers), seconds, notes
    )


def _carried(found: Detection, subject: Inspected) -> Detection:
    """Nothing is found by samples that may be as poisoned as what they are compared with."""
    if found.word != NOTHING or not subject.drawn or found.detector == "inversion":
        return found
    why = f"{found.why}; but the clean samples may be poisoned in the same way"
    return replace(found, word=CANNOT_TELL, why=why)


DRAWN = (
    "the clean samples were set aside from the file that the model learned from: where that is poisoned "
    "they are poisoned too, and hide it; give clean samples from elsewhere"
)


def check_detectors(detectors: Sequence[str] | None) -> list[str]:
    """The names, all by default. Raises ConfigError for one that is none."""
    asked = list(DETECTORS) if detectors is None else list(detectors)
    unknown = [name for name in asked if name not in DETECTORS]
    if unknown or not asked:
        name = unknown[0] if unknown else ""
        raise ConfigError(
            f"no detector {name!r}{nearest(name, DETECTORS)}; there are: {', '.join(DETECTORS)}"
        )
    return asked


def foretold(subject: Inspected, names: Sequence[str]) -> str:
    """What the detectors will take, from the pace of a few samples."""
    shared = [name for name in names if DETECTORS[name].passes is _features]
    names = [name for name in names if name not in shared[1:]]  # features are made once
    passes = [DETECTORS[name].passes(subject) for name in names]
    rows = subject.some(subject.clean, BATCH, "pace")
    looks = []
    for _ in range(3):  # the first one is slower, and others may use the processor
        start = time.perf_counter()
        subject.seen(subject.clean, rows)
        looks.append(time.perf_counter() - start)
    each = min(looks) / len(rows)
    seconds = [each * (one.forward + BACK * one.both) for one in passes]
    told = [
        f"{DETECTORS[name].title} about {duration(max(1.0, one))}"
        for name, one in zip(names, seconds, strict=True)
    ]
    return f"this takes: {', '.join(told)}"
