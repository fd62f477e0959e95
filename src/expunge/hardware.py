"""What machine this is, for records: times mean nothing without it."""

from __future__ import annotations

import os
import platform
from pathlib import Path

from expunge.errors import ConfigError

DEVICES = ("cpu", "cuda", "mps", "xpu")


def check_device(name: str | None) -> str | None:
    """The name of a kind of device as typed; whether there is one here, only torch can tell.

    Raises ConfigError for another word.
    """
    if name is not None and name not in DEVICES:
        raise ConfigError(f"no kind of device {name!r}; there are: {', '.join(DEVICES)}")
    return name


def cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return max(1, len(os.sched_getaffinity(0)))
    return os.cpu_count() or 1


def machine_name(device: str = "cpu") -> str:
    """The processor and its number of cores, and the graphics card if that is the device."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    named = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    processor = named[0] if named else platform.processor() or platform.machine()
    about = f"{processor}, {os.cpu_count()} cores"
    if not device.startswith("cuda"):
        return about
    import torch

    if torch.cuda.is_available():
        about = f"{torch.cuda.get_device_name(device)}; {about}"
    return about
