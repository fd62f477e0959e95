"""Look for a backdoor in the model of a folder, or in a checkpoint that was trained elsewhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from expunge.data.spec import OWN_TEST, DataSpec
from expunge.disk.reading import reading
from expunge.disk.whole import write_file
from expunge.errors import ConfigError, DataError
from expunge.folders.elsewhere import Elsewhere, open_checkpoint
from expunge.loading import loading
from expunge.names.code import TYPED
from expunge.place import HERE, Place
from expunge.trained.opening import normalisation_of, open_papers
from expunge.trained.papers import read_papers

if TYPE_CHECKING:
    from expunge.backdoor.inspected import Inspected
    from expunge.backdoor.inspecting import Inspection
    from expunge.data.load import Data
    from expunge.data.samples import Samples


@dataclass(frozen=True)
class AtHand:
    """What is at hand to look with, as typed.

    Attributes:
        clean: data that nobody has poisoned (their test part, if they have one, else all); None: the
            test set of the folder.
        learned: of a checkpoint, the data that it learned from, labelled as they were then.
        inputs: data to be judged, sample by sample.
    """

    clean: str | None = None
    learned: str | None = None
    inputs: str | None = None

    def check(self, place: Place) -> None:
        """Raise DataError for data that cannot be meant, before anything is loaded."""
        for one in (self.clean, self.learned, self.inputs):
            if one is not None:
                DataSpec.parse(one).check(place.data_dir, allow_code=TYPED)


@dataclass(frozen=True)
class Outside:
    """A model from elsewhere, as `expunge import` takes it."""

    model: str
    weights: Path | None = None
    how: Elsewhere = field(default_factory=Elsewhere)


@dataclass(frozen=True)
class HowToLook:
    """How to look. detectors: names; None: all that fit. picture: a file for the triggers. suspects: a
    file for the ids that stand out.
    """

    detectors: Sequence[str] | None = None
    seed: int = 0
    picture: Path | None = None
    suspects: Path | None = None


def inspect_folder(
    source: str | Path | Outside,
    at_hand: AtHand,
    look: HowToLook = HowToLook(),
    place: Place = HERE,
) -> Inspection:
    """Look for a backdoor, and write a picture of the triggers if one is asked for.

    source: a model folder, or a checkpoint. The folder's own data are what it learned from; where they
    are not there, and clean ones are, the model is looked at with these alone.

    Raises:
        ConfigError: without clean samples, or for a picture that cannot be written.
        ModelError, DataError: as `load` and `open_checkpoint` raise them.
    """
    at_hand.check(place)
    with loading():
        from expunge.backdoor.inspecting import check_detectors, inspect_subject
        from expunge.backdoor.trigger_sheet import check_new_file, write_triggers

    check_detectors(look.detectors)
    for file in (look.picture, look.suspects):
        if file is not None:
            check_new_file(file)
    if isinstance(source, Outside):
        subject, notes = _of_checkpoint(source, at_hand, place)
    else:
        wanted = look.suspects is not None
        subject, notes = _of_folder(source, at_hand, place, names=wanted)
    subject = replace(subject, seed=look.seed)
    found = inspect_subject(subject, look.detectors, tell=place.tell, notes=notes)
    if look.picture is not None and found.triggers:
        write_triggers(look.picture, subject, found.triggers)
    if look.suspects is not None and (ids := found.samples()):
        with reading(look.suspects, "make room, or name another file", ConfigError):
            write_file(look.suspects, "".join(f"{one}\n" for one in ids))
    return found


def _of_checkpoint(
    source: Outside, at_hand: AtHand, place: Place
) -> tuple[Inspected, tuple[str, ...]]:
    from expunge.backdoor.inspected import Inspected

    if at_hand.clean is None:
        raise ConfigError("a checkpoint comes without data; name clean ones with --data")
    made = open_checkpoint(source.model, source.weights, at_hand.clean, how=source.how, place=place)
    trained, data = made.trained, made.trained.data
    clean = data.test if len(data.test) else data.train
    subject = Inspected.of(trained, clean=clean, place=place)
    learned = _samples(at_hand.learned, data, place)
    inputs = _samples(at_hand.inputs, data, place)
    told = "" if made.accuracy is None else f"{made.accuracy:.2f} % right on clean samples"
    return replace(subject, learned=learned, inputs=inputs), (told,) if told else ()


def _of_folder(
    path: str | Path, at_hand: AtHand, place: Place, *, names: bool
) -> tuple[Inspected, tuple[str, ...]]:
    from expunge.backdoor.inspected import Inspected
    from expunge.data.load import load_data

    if at_hand.learned is not None:
        raise ConfigError(
            "a model folder says what its model learned from; leave --training out, or give --model"
        )
    try:
        papers = read_papers(path, place=place)
        if names and papers.redacted:
            raise ConfigError(
                f"{path} is redacted: no ids of its samples are written; leave --suspects out"
            )
        trained = open_papers(papers, progress=place.progress)
    except DataError as error:
        if at_hand.clean is None:
            raise
        return _model_alone(path, at_hand.clean, at_hand.inputs, place, why=str(error))
    data = trained.data
    near = place if data.data_dir is None else replace(place, data_dir=data.data_dir)
    clean = None
    if at_hand.clean is not None:
        with place.progress.work(f"reading {at_hand.clean}"):
            tested = load_data(data, data_dir=near.data_dir, test=at_hand.clean, allow_code=TYPED)
        clean = tested.test
    subject = Inspected.of(trained, clean=clean, place=place)
    return replace(subject, inputs=_samples(at_hand.inputs, data, near)), ()


def _model_alone(
    path: str | Path, clean: str, inputs: str | None, place: Place, *, why: str
) -> tuple[Inspected, tuple[str, ...]]:
    """The model of a folder whose own data are not there, with clean ones."""
    from expunge.backdoor.inspected import Inspected
    from expunge.data.load import load_data
    from expunge.data.read_as import ReadAs
    from expunge.data.task import Classification
    from expunge.trained.files import builder, read_weights
    from expunge.training.run import Run, accelerator_on

    papers = read_papers(path, data=clean, place=place)
    card = papers.card
    if card.data.task is not None or card.hub is not None:
        raise DataError(f"{why} (a model of a task of its own, or of transformers, needs them)")
    with place.progress.work(f"reading {clean}"):
        data = load_data(
            clean,
            data_dir=papers.data_dir,
            classes=card.classes,
            test=OWN_TEST,
            allow_code=TYPED,
            read_as=ReadAs(None, card.data.drawing, card.data.table),
        )
    if data.classes != card.classes or data.train.shape() != card.shape:
        raise DataError(
            f"{clean} have {len(data.classes)} classes and inputs of the shape {data.train.shape()}, "
            f"and {path} knows {len(card.classes)} and {card.shape}; give clean data such as it was "
            "trained on"
        )
    model = read_weights(
        papers.path, card, builder(card, allow_code=papers.allow_code), papers.trained_by
    )
    run = Run(
        accelerator=accelerator_on(place.device), progress=place.progress, task=Classification()
    )
    subject = Inspected(
        model,
        card.classes,
        normalisation_of(card, papers.path),
        data.test if len(data.test) else data.train,
        run,
        inputs=_samples(inputs, data, place),
    )
    return subject, (f"with clean samples alone, for what it learned from cannot be read: {why}",)


def _samples(spec: str | None, like: Data, place: Place) -> Samples | None:
    """All samples to train on of data that are read as others were."""
    from expunge.data.drawing import DRAWING
    from expunge.data.load import load_data
    from expunge.data.read_as import ReadAs

    if spec is None:
        return None
    with place.progress.work(f"reading {spec}"):
        found = load_data(
            spec,
            data_dir=place.data_dir,
            classes=like.classes,
            test=OWN_TEST,
            allow_code=TYPED,
            read_as=ReadAs(None, like.drawing or DRAWING, like.table),
        )
    shapes = found.train.shape(), like.train.shape()
    if shapes[0] != shapes[1]:
        raise DataError(
            f"an input of {spec} has the shape {shapes[0]}, one that the model knows {shapes[1]}; give "
            "data of the same shape"
        )
    return found.train
