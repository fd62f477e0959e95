"""What a run cost: seconds, samples read, peak memory."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch


SAMPLING_SECONDS = 0.02


@dataclass(frozen=True)
class Cost:
    """seconds: wall time inside the method, after a warm-up step on a copy, evaluation excluded.

    reads: samples read per part, over all processes. epoch_equivalents: all samples read divided by
    the size of the retain set. peak_memory_bytes: the device's allocations, or the largest resident
    set of this process that was seen (sampled every 20 ms); `memory` says which. threads: of each
    process on a CPU, whose number changes the order of sums and so the weights; 0: nobody recorded it.
    """

    seconds: float = 0.0
    reads: Mapping[str, int] = field(default_factory=dict)
    epoch_equivalents: float = 0.0
    peak_memory_bytes: int = 0
    memory: str = "resident set"
    device: str = "cpu"
    processes: int = 1
    threads: int = 0
    warmed_up: bool = True

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Meter:
    """Context manager that measures wall time and peak memory of its body."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.peak_memory_bytes = 0
        self.memory = "device" if device.type == "cuda" else "resident set"
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Meter:
        self._synchronise()
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)
        else:
            self._sampler.start()
        self._start = time.perf_counter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._synchronise()
        self.seconds = time.perf_counter() - self._start
        if self.device.type == "cuda":
            import torch

            self.peak_memory_bytes = torch.cuda.max_memory_allocated(self.device)
        else:
            self._stop.set()
            self._sampler.join()

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def _sample(self) -> None:
        import psutil

        process = psutil.Process()
        while True:
            self.peak_memory_bytes = max(self.peak_memory_bytes, process.memory_info().rss)
            if self._stop.wait(SAMPLING_SECONDS):
                return
