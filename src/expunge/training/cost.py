"""What a run cost: seconds, samples read, peak memory."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from types import TracebackType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from expunge.data.parts import Part


SAMPLING_SECONDS = 0.02


@dataclass(frozen=True)
class Cost:
    """seconds: wall time inside the method, after a warm-up step on a copy, evaluation excluded.

    reads: samples read per part, over all processes. epoch_equivalents: all samples read divided by
    the size of the retain set. peak_memory_bytes: the device's allocations, or the largest resident
    set of this process that was seen (sampled every 20 ms); `memory` says which. threads: of each
    process on a CPU, whose number changes the order of sums and so the weights; 0: nobody recorded it.
    reported_seconds, reported_reads: what went, apart from all of these, into what is only reported,
    such as an eigenvalue or the floor beside a paired retraining; see `Run.only_reported`.
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
    reported_seconds: float = 0.0
    reported_reads: Mapping[str, int] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return asdict(self)


class Meter:
    """Context manager that measures wall time and peak memory of its body, without its pauses.

    paused_seconds: wall time of the pauses. Memory that a pause took and did not give back to the
    system still counts in a resident set, which is only sampled.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.seconds = 0.0
        self.paused_seconds = 0.0
        self.peak_memory_bytes = 0
        self._paused = False
        self.memory = "device" if device.type == "cuda" else "resident set"
        self._stop = threading.Event()
        self._sampler = threading.Thread(target=self._sample, daemon=True)

    def __enter__(self) -> Meter:
        self._synchronise()
        self._forget_peak()
        if self.device.type != "cuda":
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
        self.seconds = time.perf_counter() - self._start - self.paused_seconds
        self._note_peak()
        if self.device.type != "cuda":
            self._stop.set()
            self._sampler.join()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """What happens inside counts in `paused_seconds` alone. Not within another pause."""
        self._synchronise()
        self._note_peak()
        start, self._paused = time.perf_counter(), True
        try:
            yield
        finally:
            self._synchronise()
            self._forget_peak()
            self.paused_seconds += time.perf_counter() - start
            self._paused = False

    def _forget_peak(self) -> None:
        """A device keeps its own peak: begin it anew."""
        if self.device.type == "cuda":
            import torch

            torch.cuda.reset_peak_memory_stats(self.device)

    def _note_peak(self) -> None:
        if self.device.type == "cuda":
            import torch

            peak = torch.cuda.max_memory_allocated(self.device)
        else:  # what is over sooner than a sample is taken has one all the same
            peak = self._resident()
        self.peak_memory_bytes = max(self.peak_memory_bytes, peak)

    def _resident(self) -> int:
        import psutil

        return int(psutil.Process().memory_info().rss)

    def _synchronise(self) -> None:
        if self.device.type == "cuda":
            import torch

            torch.cuda.synchronize(self.device)

    def _sample(self) -> None:
        while True:
            if not self._paused:
                self.peak_memory_bytes = max(self.peak_memory_bytes, self._resident())
            if self._stop.wait(SAMPLING_SECONDS):
                return


@dataclass
class Account:
    """What a run has read so far, and what of it was only to report.

    reads: samples per part, as the run's view counts them in this process. reported: those read to
    report alone, which are in `reads` no more. meter: while the run is measured.
    """

    reads: Counter[Part] = field(default_factory=Counter)
    reported: Counter[Part] = field(default_factory=Counter)
    meter: Meter | None = None
    _open: bool = False

    @contextmanager
    def only_reported(self) -> Iterator[None]:
        """What is read and spent inside stands apart; nothing changes where nobody measures."""
        if self.meter is None or self._open:
            yield
            return
        before = Counter(self.reads)
        self._open = True
        try:
            with self.meter.paused():
                yield
        finally:
            self._open = False
            self.reported.update(self.reads - before)
            self.reads.clear()  # the view holds this very object
            self.reads.update(before)
