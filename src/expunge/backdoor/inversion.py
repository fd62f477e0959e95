"""Trigger inversion: the smallest patch that makes a model call everything a class, for each class.

Wang et al., "Neural Cleanse: Identifying and Mitigating Backdoor Attacks in Neural Networks", IEEE S&P
2019, equations 2 and 3: for a class t, with a mask m in [0, 1]^(H x W) that all channels share and a
pattern p in [0, 1]^(C x H x W),

    minimise  mean over clean x of CE(f((1 - m) x + m p), t)  +  lambda * |m|_1

by Adam. lambda rises while the trigger works on 99 % of the images and falls otherwise; kept is the
smallest mask that worked, and it counts where it turns 90 % of other images too. A class into which a
backdoor leads needs a far smaller mask than the others. With a norm L_t for each class, their median M
and MAD = median |L_t - M|, a class has the anomaly index

    (M - L_t) / (1.4826 * MAD),

here with its sign: only small masks are suspicious. The paper suspects an index over 2. Nothing is said
where no trigger that works was found for half of the classes or more.

Assumes one trigger for all images, and few classes that one leads into.

**It fails** for triggers that are large or spread over the image (blended patterns, warps: their mask
is no smaller than that of a clean class), for those that differ from image to image, for all-to-all
attacks, where no class stands out from the others, and for fewer than 5 classes. Classes that need few
changes by nature are false alarms.

Deviations: all classes are optimised side by side on the same few images, in fewer steps. And an index
over 2 does not suffice, for it says how far out a class is *for these few classes*, and on clean models
of ten classes it is often larger: the mask must also be smaller than the median by a factor, that of
`thresholds`, which is what the word rests on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from expunge.backdoor.detection import CANNOT_TELL, NOTHING, SUSPECT, Detection, Word
from expunge.backdoor.inspected import Inspected
from expunge.backdoor.thresholds import THRESHOLDS
from expunge.data.batch import Indices
from expunge.data.poisoned import with_trigger
from expunge.data.samples import Samples, digest_arrays
from expunge.data.triggers import check_images
from expunge.errors import DataError
from expunge.names.seeds import torch_generator
from expunge.place import HERE, Place
from expunge.progress import Step
from expunge.trained.trained import Trained

NAME = "inversion"
WORKS, HOLDS = 0.99, 0.9
"""Share of images that a trigger must turn into its class, of those it is made on, and of others."""
LEAST_CLASSES, LEAST_IMAGES = 5, 100
"""From which on an outlier among classes means something; and clean images, half of which it is tried
on: a trigger that holds on 90 % can then be told from one that holds on 78 %."""
MOST_IMAGES, JUDGED = 1000, 500
"""Clean images that triggers are made on, half of all at most; and others that they are tried on."""
PAPER = 2.0
"""The anomaly index from which on the paper suspects a class."""
PASS = 64
"""Images in one pass, so that activations stay in a processor's caches: these are of several classes."""


@dataclass(frozen=True)
class Effort:
    """How hard to look for triggers. steps: of Adam. batch: images of a step, for each class. rate: of
    Adam on the logits of mask and pattern. weight: lambda at the start. window: steps after which lambda
    changes, by `factor` upwards, by factor ** 1.5 downwards.
    """

    steps: int = 150
    batch: int = 16
    rate: float = 0.1
    weight: float = 1e-3
    window: int = 5
    factor: float = 1.5


@dataclass(frozen=True, eq=False)
class Inverted:
    """A trigger that was found from the model alone. It is laid on images as any `Trigger` is.

    Attributes:
        target: class index.
        mask: (height, width) in [0, 1], how much of the pattern replaces an image.
        pattern: (channels, height, width) in [0, 1].
        success: share of clean images of other classes that the model calls the target with it.
    """

    kind: ClassVar[str] = "inverted"
    clean_label: ClassVar[bool] = False

    target: int
    mask: Tensor
    pattern: Tensor
    success: float = 0.0

    @classmethod
    def parse(cls, options: Mapping[str, str]) -> Inverted:
        """Raises DataError: its pixels cannot be typed."""
        raise DataError("an inverted trigger is found on a model, and cannot be typed")

    @property
    def norm(self) -> float:
        """L1 norm of the mask, in pixels: from 0 to height * width."""
        return float(self.mask.double().sum())

    @property
    def works(self) -> bool:
        """Whether it turns 90 % of images into its class that it was not made on."""
        return self.success >= HOLDS

    def __str__(self) -> str:
        return f"inverted:target={self.target},pixels={self.norm:.1f}"

    def apply(self, images: Tensor) -> Tensor:
        """See `Trigger.apply`."""
        check_images(images)
        mask, pattern = self.mask.to(images.device), self.pattern.to(images.device)
        if images.is_floating_point():
            return ((1 - mask) * images + mask * pattern).to(images.dtype)
        return ((1 - mask) * images.float() + 255 * mask * pattern).round().to(images.dtype)

    def content(self) -> str:
        """See `Trigger.content`."""
        return f"inverted:{self.target},{digest_arrays(self.mask.numpy(), self.pattern.numpy())}"

    def check(self) -> None:
        """It names no file."""

    def absolute(self) -> Inverted:
        """Itself: it names no file."""
        return self


def anomaly_index(norms: Tensor) -> Tensor:
    """How far each norm lies below the median, in deviations: (classes,) float64; negative above it.

    norms: (classes,) from 0. Where more than half of them are alike, those below are infinitely far.
    """
    norms = norms.double()
    middle = norms.quantile(0.5)
    spread = 1.4826 * (norms - middle).abs().quantile(0.5)
    below = middle - norms
    return torch.where(below == 0, torch.zeros_like(below), below / spread)


def invert(subject: Inspected, effort: Effort = Effort()) -> list[Inverted]:
    """The smallest trigger found for each class, in their order.

    A class depends on seed and number alone, not on which others are looked at beside it. One for which
    no trigger worked has a mask of all pixels.

    Raises:
        DataError: for samples that are no images from 0 to 1.
    """
    rows = made_on(subject)
    images = subject.pictures(subject.clean, rows)
    labels = torch.from_numpy(subject.clean.labels[rows]).to(images.device)
    count, beside = len(subject.classes), max(1, PASS // effort.batch)
    groups = [range(count)[first : first + beside] for first in range(0, count, beside)]
    found: list[Inverted] = []
    work = subject.run.progress.work("inverting triggers", effort.steps * len(groups))
    with subject.looking(), work as bar:
        for group in groups:
            found += _side_by_side(subject, images, labels, group, effort, bar)
    return found


def _side_by_side(
    subject: Inspected,
    images: Tensor,
    labels: Tensor,
    group: Sequence[int],
    effort: Effort,
    bar: Step,
) -> list[Inverted]:
    """Triggers of some classes. images: (n, channels, height, width) from 0 to 1. labels: (n,)."""
    channels, height, width = images.shape[1:]
    starts = [torch_generator("inversion", subject.seed, target) for target in group]
    first = torch.stack([torch.randn(channels + 1, height, width, generator=g) for g in starts])
    free = (0.1 * first).to(images.device).requires_grad_()
    targets = torch.tensor(list(group), device=images.device)[:, None]
    adam = torch.optim.Adam([free], lr=effort.rate, betas=(0.5, 0.9))
    draw = torch_generator("inversion", subject.seed, "images")
    weight = torch.full((len(group),), effort.weight, device=images.device)
    kept = torch.ones_like(free).detach()
    hits = asked = torch.zeros(len(group), device=images.device)
    for step in range(1, effort.steps + 1):
        chosen = torch.randint(len(images), (effort.batch,), generator=draw).to(images.device)
        both = free.sigmoid()
        mask, pattern = both[:, :1], both[:, 1:]
        laid = (1 - mask)[:, None] * images[chosen] + (mask * pattern)[:, None]
        logits = subject.logits(laid.flatten(0, 1)).reshape(*laid.shape[:2], -1)
        others = (labels[chosen] != targets).float()
        wanted = targets.expand_as(others)
        losses = functional.cross_entropy(logits.permute(0, 2, 1), wanted, reduction="none")
        mean = (losses * others).sum(1) / others.sum(1).clamp_min(1)
        (free.grad,) = torch.autograd.grad((mean + weight * mask.sum((1, 2, 3))).sum(), free)
        hits = hits + ((logits.argmax(2) == wanted) * others).sum(1)
        asked = asked + others.sum(1)
        if step % effort.window == 0:
            works = (asked > 0) & (hits >= WORKS * asked)
            now = torch.cat((mask, pattern), dim=1).detach()
            smaller = works & (now[:, 0].sum((1, 2)) < kept[:, 0].sum((1, 2)))
            kept = torch.where(smaller[:, None, None, None], now, kept)
            weight = torch.where(works, weight * effort.factor, weight / effort.factor**1.5)
            hits = asked = torch.zeros_like(hits)
        adam.step()
        bar.advance()
    made = zip(group, kept.cpu().unbind(0), strict=True)
    return [Inverted(target, one[0], one[1:]) for target, one in made]


def made_on(subject: Inspected) -> Indices:
    """Rows of the clean images that triggers are made on, ascending."""
    return subject.some(subject.clean, min(MOST_IMAGES, len(subject.clean) // 2), NAME)


def followed_on(
    subject: Inspected, inverted: Inverted, *, apart: bool, most: int = JUDGED
) -> tuple[int, int]:
    """How many of a subject's clean images of other classes its model calls the target with the trigger
    on them, and of how many: of at most so many, evenly spaced.

    apart: leave out those that triggers of this subject are made on.
    """
    samples = subject.clean
    rows = np.flatnonzero(samples.labels != inverted.target)
    if apart:
        rows = np.setdiff1d(rows, made_on(subject))
    if not len(rows):
        return 0, 0
    rows = rows[np.unique(np.linspace(0, len(rows) - 1, min(most, len(rows))).astype(np.int64))]
    called = subject.seen(with_trigger(samples, inverted), rows).argmax(1)
    return int((called == inverted.target).sum()), len(rows)


def success_on(subject: Inspected, inverted: Inverted) -> float:
    """The same as a share, on images that no trigger of this subject is made on; nan of none."""
    followed, of = followed_on(subject, inverted, apart=True)
    return followed / of if of else float("nan")


def trigger_success(
    model: Trained, samples: Samples, inverted: Inverted, *, place: Place = HERE
) -> float:
    """Share of clean images of other classes, 0 to 1, that a model calls the target with a trigger on
    them. The model need not be the one that the trigger was found on, and comes back as it was.

    samples: clean and correctly labelled; 500 of them, evenly spaced, are looked at, none of those that
    a trigger would be made on. nan where there are none of another class.
    """
    return success_on(Inspected.of(model, clean=samples, place=place), inverted)


def detect_inverted(subject: Inspected) -> tuple[Detection, list[Inverted]]:
    """Whether a class can be reached by a far smaller trigger than the others, and all triggers.

    Raises:
        DataError: for samples that are no images from 0 to 1.
    """
    if len(subject.clean) < LEAST_IMAGES or len(subject.classes) < LEAST_CLASSES:
        why = (
            f"an outlier among the triggers of {len(subject.classes)} classes, made on "
            f"{len(subject.clean)} clean images, says nothing; it takes {LEAST_CLASSES} classes and "
            f"{LEAST_IMAGES} images"
        )
        return Detection(NAME, CANNOT_TELL, why), []
    triggers = [replace(one, success=success_on(subject, one)) for one in invert(subject)]
    return judge_triggers(triggers, subject.classes), triggers


def judge_triggers(triggers: Sequence[Inverted], classes: Sequence[str]) -> Detection:
    """What the norms of the triggers of all classes say."""
    norms = torch.tensor([one.norm for one in triggers], dtype=torch.float64)
    index = anomaly_index(norms)
    limit = THRESHOLDS[NAME].value
    usual = float(norms.quantile(0.5))
    smaller = usual / norms.clamp_min(torch.finfo(norms.dtype).tiny)
    order = smaller.argsort(descending=True).tolist()
    working = [one.works for one in triggers]
    suspects = [c for c in order if smaller[c] > limit and index[c] > PAPER and working[c]]
    one = triggers[order[0]]
    told = (
        f"class {classes[one.target]!r} is reached by {one.norm:.1f} pixels, the classes by "
        f"{usual:.1f} in the middle: {float(smaller[one.target]):.1f} times fewer, threshold "
        f"{limit:g}, and an anomaly index of {float(index[one.target]):.1f}"
    )
    few = 2 * sum(working) <= len(working)
    if few:  # a class is compared with the others
        told += f"; but a trigger that works was found for {sum(working)} of {len(working)} classes"
    word: Word = CANNOT_TELL if few else SUSPECT if suspects else NOTHING
    return Detection(
        NAME,
        word,
        told,
        float(smaller[one.target]),
        limit,
        () if few else tuple(suspects),
        {
            "pixels": tuple(norms.tolist()),
            "anomaly": tuple(index.tolist()),
            "success": tuple(one.success for one in triggers),
        },
    )
