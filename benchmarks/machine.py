"""What numbers depend on, and where they are kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import psutil
import torch


def machine(device: str) -> dict[str, Any]:
    """What the numbers depend on."""
    lines = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    names = [line.split(":")[1].strip() for line in lines.splitlines() if "model name" in line]
    capabilities = getattr(torch.cpu, "get_capabilities", dict)()
    about: dict[str, Any] = {
        "date": datetime.date.today().isoformat(),
        "cpu": names[0] if names else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "bfloat16": [key for key in ("avx512_bf16", "amx_bf16") if capabilities.get(key)],
        "torch": torch.__version__,
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 2) if hasattr(os, "getloadavg") else None,
    }
    if device == "cuda":
        about |= gpu()
    return about


def cpu_seconds() -> tuple[float, float]:
    """Processor time so far: of this process and its children, and of the whole machine."""
    own, whole = psutil.Process().cpu_times(), psutil.cpu_times()
    idle = whole.idle + getattr(whole, "iowait", 0.0) + getattr(whole, "guest", 0.0)
    return sum(own[:4]), sum(whole) - idle


def share_of_others(before: tuple[float, float]) -> float:
    """Of all that was computed since then (`cpu_seconds`), what other programs did; 0 to 1."""
    ours, everything = (now - then for then, now in zip(before, cpu_seconds(), strict=True))
    return min(1.0, max(0.0, 1 - ours / everything)) if everything > 0 else 0.0


def gpu() -> dict[str, Any]:
    """The card, and the versions that its numbers depend on."""
    card = torch.cuda.get_device_properties(torch.cuda.current_device())
    conv = getattr(torch.backends.cudnn, "conv", None)
    return {
        "gpu": card.name,
        "gpus": torch.cuda.device_count(),
        "gpu_memory_gib": round(card.total_memory / 2**30, 1),
        "capability": f"{card.major}.{card.minor}",
        "multiprocessors": card.multi_processor_count,
        "driver": driver(),
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
        # what float32 convolutions are computed in unless they are asked to be exact
        "convolutions": getattr(conv, "fp32_precision", None) or "as torch has them",
    }


def driver() -> str | None:
    """The driver's version, where nvidia-smi tells it."""
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


def no_gpu() -> str:
    """Why there is no GPU to compute on; empty where there is one."""
    if torch.cuda.is_available():
        return ""
    if torch.version.cuda is None:
        return f"this torch ({torch.__version__}) is built without CUDA"
    return f"this torch ({torch.__version__}, CUDA {torch.version.cuda}) sees no device"


def save(path: Path, section: str, result: dict[str, Any]) -> None:
    """Write one section of the file; what other commands wrote there stays."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**known, section: result}, indent=2) + "\n")
    print(f"written to {path}, section {section!r}")
