"""Two names change places in one step, where the system can do that."""

from __future__ import annotations

import ctypes
import errno
import functools
import os
import sys
from collections.abc import Callable
from pathlib import Path

REFUSED = (errno.EPERM, errno.EACCES, errno.ENOTSUP, errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)
"""What mounts answer that know no rights, or no way to make sure of what is written."""


def exchanged(one: Path, other: Path) -> bool:
    """Whether two folders have changed places; False where the system cannot do that."""
    call = system_call()
    if call is None:
        return False
    ctypes.set_errno(0)
    if call(os.fsencode(one), os.fsencode(other)) == 0:
        return True
    number = ctypes.get_errno()
    if number in REFUSED or (number == errno.ENOENT and one.exists()):
        return False
    raise OSError(number, os.strerror(number), str(other))


@functools.cache
def system_call() -> Callable[[bytes, bytes], int] | None:
    """The system's call that lets two names change places; None where there is none."""
    library = ctypes.CDLL(None, use_errno=True)
    here, exchange, swap = -100, 2, 2
    if sys.platform == "darwin" and hasattr(library, "renamex_np"):
        return lambda one, other: int(library.renamex_np(one, other, swap))
    if hasattr(library, "renameat2"):
        return lambda one, other: int(library.renameat2(here, one, here, other, exchange))
    return None
