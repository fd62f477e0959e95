"""The cells of a table: numbers that know how they are printed, whatever the table is written in.

A cell is a main part and perhaps a rest, which may be printed smaller or on a line of its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from expunge.scores.score import SIGNS

NOTHING = "–"


class TableCell:
    """What every kind of cell has; each says what is its own."""

    @property
    def main(self) -> str:
        """What is printed."""
        return NOTHING

    @property
    def rest(self) -> str:
        """What is printed after it."""
        return ""

    @property
    def value(self) -> float | None:
        """What sorts it; None where there is nothing to sort by."""
        return None

    @property
    def hint(self) -> str:
        """What is told of it where there is room, as on hovering."""
        return ""


def text_of(cell: TableCell) -> str:
    """All of a cell in one line."""
    return f"{cell.main} {cell.rest}" if cell.rest else cell.main


@dataclass(frozen=True)
class Name(TableCell):
    """A method, a scenario, or several names in a text."""

    name: str

    @property
    def main(self) -> str:
        """The name."""
        return self.name


@dataclass(frozen=True)
class Missing(TableCell):
    """Nothing was measured here."""


@dataclass(frozen=True)
class Count(TableCell):
    """How many runs (or the number of one), and how many beside these broke off."""

    number: int
    failed: int = 0

    @property
    def main(self) -> str:
        """`3`."""
        return str(self.number)

    @property
    def rest(self) -> str:
        """`(1 failed)`."""
        return f"({self.failed} failed)" if self.failed else ""

    @property
    def value(self) -> float | None:
        """The number."""
        return finite(self.number)


@dataclass(frozen=True)
class Mean(TableCell):
    """A score over n seeds: mean, sample standard deviation, 95 % Student-t interval, gap.

    `sd`, `low` and `high` are nan for one seed; `gap` is |mean - mean of retrain|, None where
    there is no retrained model and for the retrained model itself.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    gap: float | None = None
    decimals: int = 1

    @property
    def main(self) -> str:
        """`93.1±2.3`; no ± for one seed."""
        return _with_spread(self.mean, self.sd, self.decimals)

    @property
    def rest(self) -> str:
        """`(6.9)`, as papers print the gap; empty without one."""
        return "" if self.gap is None else f"({self.gap:.{self.decimals}f})"

    @property
    def value(self) -> float | None:
        """The mean."""
        return finite(self.mean)

    @property
    def hint(self) -> str:
        """Interval and n."""
        return _interval_of_mean(self.low, self.high, self.n)


@dataclass(frozen=True)
class Seconds(TableCell):
    """A time over n seeds, as `Mean`, which prints three digits of its mean."""

    mean: float
    sd: float
    low: float
    high: float
    n: int

    @property
    def main(self) -> str:
        """Three digits of the mean, and as many decimals of the spread."""
        decimals = next((d for d, least in enumerate((100, 10, 1)) if self.mean >= least), 3)
        return _with_spread(self.mean, self.sd, decimals)

    @property
    def value(self) -> float | None:
        """The mean."""
        return finite(self.mean)

    @property
    def hint(self) -> str:
        """Interval and n."""
        return _interval_of_mean(self.low, self.high, self.n)


@dataclass(frozen=True)
class Number(TableCell):
    """A number with two decimals; n: of how many seeds, where that is to be told."""

    number: float
    n: int | None = None

    @property
    def main(self) -> str:
        """`1.23`."""
        return f"{self.number:.2f}"

    @property
    def value(self) -> float | None:
        """The number."""
        return finite(self.number)

    @property
    def hint(self) -> str:
        """Of how many seeds."""
        return "" if self.n is None else f"n = {self.n}"


@dataclass(frozen=True)
class Interval(TableCell):
    """The ends of an interval over n seeds; one seed has none."""

    low: float
    high: float
    n: int

    @property
    def main(self) -> str:
        """`[1.23, 4.56]`."""
        return NOTHING if self.n == 1 else f"[{self.low:.2f}, {self.high:.2f}]"

    @property
    def value(self) -> float | None:
        """The lower end."""
        return finite(self.low)

    @property
    def hint(self) -> str:
        """Of how many seeds."""
        return f"n = {self.n}"


@dataclass(frozen=True)
class Ratio(TableCell):
    """A ratio, with more decimals where it is small."""

    ratio: float

    @property
    def main(self) -> str:
        """`1.23`, `0.057`, `<0.001`."""
        if self.ratio < 0.001:
            return "<0.001"
        return f"{self.ratio:.{3 if self.ratio < 0.1 else 2}f}"

    @property
    def value(self) -> float | None:
        """The ratio."""
        return finite(self.ratio)


@dataclass(frozen=True)
class Spread(TableCell):
    """A further score over n of the seeds that its method has: mean, sample standard deviation.

    The mean is nan where there is no value at all, and the standard deviation is for one. at_least,
    at_most: how many of the values are only such bounds, as where somebody gave up at a cap.
    """

    mean: float
    sd: float
    n: int
    of: int
    at_least: int = 0
    at_most: int = 0

    @property
    def bound(self) -> str | None:
        """What the mean is of the true one, "at least" or "at most"; None where it is known, or where
        nothing is known for bounds of both kinds.
        """
        if bool(self.at_least) == bool(self.at_most):
            return None
        return "at least" if self.at_least else "at most"

    @property
    def main(self) -> str:
        """`60±1.4`, `60 (1 of 3)` where it is not known of all seeds, and
        `≥ 207±254 (1 of 3 at the cap)` where it is of values that are only bounds.
        """
        if not self.n:
            return NOTHING
        told = [f"{self.n} of {self.of}"] if self.n < self.of else []
        capped = self.at_least + self.at_most
        both = ", on both sides" if self.at_least and self.at_most else ""
        told += [f"{capped} of {self.n} at the cap{both}"] if capped else []
        spread = "" if math.isnan(self.sd) else f"±{_digits(self.sd, 2)}"
        known = f" ({', '.join(told)})" if told else ""
        return f"{SIGNS[self.bound]}{_digits(self.mean, 4)}{spread}{known}"

    @property
    def value(self) -> float | None:
        """The mean."""
        return finite(self.mean)

    @property
    def hint(self) -> str:
        """Of how many seeds."""
        return f"n = {self.n}"


@dataclass(frozen=True)
class Single(TableCell):
    """A value of one run and the ends of its interval over samples, nan without one.

    decimals: None prints as many digits as `digits` says. samples: nan where that is not to be told.
    bound: "at least" or "at most" where the number is no more than that.
    """

    number: float
    low: float
    high: float
    samples: float
    decimals: int | None = None
    digits: int = 4
    bound: str | None = None

    @property
    def main(self) -> str:
        """`93.1`, `≥ 500`."""
        if self.decimals is None:
            return f"{SIGNS[self.bound]}{self.number:.{self.digits}g}"
        return f"{SIGNS[self.bound]}{self.number:.{self.decimals}f}"

    @property
    def rest(self) -> str:
        """`[92.0, 94.2]`."""
        known = math.isfinite(self.low) and math.isfinite(self.high)
        return f"[{self.low:.1f}, {self.high:.1f}]" if known else ""

    @property
    def value(self) -> float | None:
        """The number."""
        return finite(self.number)

    @property
    def hint(self) -> str:
        """Of how many samples."""
        return f"n = {self.samples:,.0f}" if math.isfinite(self.samples) else ""


@dataclass(frozen=True)
class Digits(TableCell):
    """A number with so many digits, nan or infinite where it is missing; mark: a word beside it."""

    number: float
    digits: int = 3
    mark: str = ""

    @property
    def main(self) -> str:
        """`0.0571`."""
        return f"{self.number:.{self.digits}g}" if math.isfinite(self.number) else NOTHING

    @property
    def rest(self) -> str:
        """`(diverged)`."""
        return f"({self.mark})" if self.mark else ""

    @property
    def value(self) -> float | None:
        """The number."""
        return finite(self.number)


@dataclass(frozen=True)
class Several(TableCell):
    """Numbers side by side, each nan or infinite where it is missing."""

    numbers: tuple[float, ...]

    @property
    def main(self) -> str:
        """`5.0 / 12.5 / –`."""
        shown = (f"{one:.1f}" if math.isfinite(one) else NOTHING for one in self.numbers)
        return " / ".join(shown)


def _digits(number: float, digits: int) -> str:
    """So many digits, and never a power of ten in place of whole ones."""
    return f"{number:.0f}" if abs(number) >= 10**digits else f"{number:.{digits}g}"


def finite(value: float) -> float | None:
    """The number as Python has it; None where it is nan or infinite."""
    plain = float(value)
    return plain if math.isfinite(plain) else None


def _interval_of_mean(low: float, high: float, n: int) -> str:
    if math.isnan(low):
        return f"n = {n}"
    return f"95 % interval of the mean {low:.2f} to {high:.2f}, n = {n}"


def _with_spread(mean: float, sd: float, decimals: int) -> str:
    spread = "" if math.isnan(sd) else f"±{sd:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread}"
