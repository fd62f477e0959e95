"""What can go wrong, arranged by what the reader must do about it.

    ExpungeError
    ├── UserError            the call or the input is wrong: the message says what, why, the remedy
    │   ├── DataError        a dataset cannot be found, read or matched to a model
    │   ├── SplitError       a forget request that cannot be met (empty, everything, unknown ids)
    │   ├── ModelError       a model cannot be built, loaded or saved
    │   ├── RequestError     a step of a deletion request that its ledger does not allow, or lacks
    │   ├── ConfigError      a recipe's or a method's setting is out of range or missing
    │   └── CertificateError a certificate, a proof or a signing key cannot be made, read or used
    ├── AccessError          a method read a part of the data that it did not declare
    └── DivergenceError      an optimisation left the finite world; nothing was written

The command line prints a `UserError` or a `DivergenceError` as one line and exits with 2;
an `AccessError` is a bug in a method and keeps its traceback.
"""

from __future__ import annotations

import difflib
from bisect import bisect_left
from collections.abc import Collection, Iterable


class ExpungeError(Exception):
    """Base of everything this package raises on purpose."""


class UserError(ExpungeError):
    """The call or the input is wrong; the message says what, why and the remedy."""


class DataError(UserError):
    """A dataset cannot be found, read or matched to a model."""


class DataWarning(UserWarning):
    """Something that lies beside the data is not read, or not as somebody may expect."""


class SplitError(UserError):
    """A forget request that cannot be met."""


class ModelError(UserError):
    """A model cannot be built, loaded or saved."""


class RequestError(UserError):
    """A deletion request, its ledger or a certificate is not there, not whole, or not so far."""


class ConfigError(UserError):
    """A setting is out of range, unknown or missing."""


class CertificateError(UserError):
    """A certificate, a proof of inclusion or a signing key cannot be made, read or used."""


class AccessError(ExpungeError):
    """A method read a part of the data that it did not declare."""


class LogitsError(ConfigError):
    """A task's outputs hold no class logits, which most audits are about."""


class HeadError(ModelError):
    """A model has no last linear layer that gives its class logits, which some audits are about."""


class DivergenceError(ExpungeError):
    """A loss became non-finite or the weights exploded; the run wrote nothing."""


MANY, NEAR, LONG = 1000, 50, 200
"""Of `nearest`: words that are compared one by one; of more, those on each side of the place that the
word would have among them; and letters, of which no hint is sought in longer ones."""
SHOWN = 20
"""Names that a message lists."""
LONGEST_TOLD = 2000
"""Characters of a message, at most: a name in it may be as long as its file."""


def nearest(word: str, known: Iterable[str]) -> str:
    """`", did you mean 'x'?"` for the closest known word, or nothing when none is close."""
    if len(word) > LONG:
        return ""
    words = [name for name in known if len(name) <= LONG]
    if len(words) > MANY:
        words.sort()
        place = bisect_left(words, word)
        words = words[max(0, place - NEAR) : place + NEAR]
    close = difflib.get_close_matches(word, words, n=1)
    return f", did you mean {close[0]!r}?" if close else ""


def listed(names: Collection[str]) -> str:
    """Names with commas between them; of many the first, and how many more there are."""
    first = ", ".join(name for name, _ in zip(names, range(SHOWN), strict=False))
    return first if len(names) <= SHOWN else f"{first} and {len(names) - SHOWN:,} more"


def told(message: object) -> str:
    """A message in one line, cut where it is very long."""
    line = " ".join(str(message).split())
    return line if len(line) <= LONGEST_TOLD else f"{line[:LONGEST_TOLD]} ..."
