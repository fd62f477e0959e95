"""What numbers depend on, and where they are kept."""

from __future__ import annotations

import datetime
import json
import os
import platform
from pathlib import Path
from typing import Any

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
        about["gpu"] = torch.cuda.get_device_name()
    return about


def save(path: Path, section: str, result: dict[str, Any]) -> None:
    """Write one section of the file; what other commands wrote there stays."""
    known = json.loads(path.read_text()) if path.exists() else {}
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({**known, section: result}, indent=2) + "\n")
    print(f"written to {path}, section {section!r}")
