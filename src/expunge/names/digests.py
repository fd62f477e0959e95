"""Digests are SHA-256, 64 hexadecimal digits. Earlier versions kept the first of these alone: 32, and 16
or 8 of what a fingerprint adds to the digest of its files.
"""

from __future__ import annotations

import re

DIGITS = 64
_SEPARATORS = re.compile("([/+:-])")
_KEPT = {"/": 16, "+": 16, "-": 8}
"""What stands before a part of a fingerprint -> digits that earlier versions kept of it; else `KEPT`."""
KEPT = 32


def earlier_digest(digest: str) -> str:
    """A digest, or a fingerprint of several, as an earlier version wrote it."""
    parts = _SEPARATORS.split(digest)
    before = ("", *parts)
    return "".join(_cut(one, before[n]) for n, one in enumerate(parts))


def same_digest(found: str, kept: str) -> bool:
    """Whether what was found is what was kept, perhaps by an earlier version.

    Each part is compared alone, for one that a user's data came with was never cut.
    """
    ours, theirs = _SEPARATORS.split(found), _SEPARATORS.split(kept)
    if len(ours) != len(theirs):
        return False
    before = ("", *ours)
    return all(
        other in (one, _cut(one, before[n]))
        for n, (one, other) in enumerate(zip(ours, theirs, strict=True))
    )


def _cut(part: str, separator: str) -> str:
    if re.fullmatch(f"[0-9a-f]{{{DIGITS}}}", part) is None:
        return part
    return part[: _KEPT.get(separator, KEPT)]
