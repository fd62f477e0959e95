"""Workers that do the same work side by side: processes of this machine, or tasks of a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from expunge.training.cluster import RayCrew
from expunge.training.processes import Processes


class Crew(Protocol):
    """Workers that have been started, each of which does what no other does."""

    size: int

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        ...

    def replace(self, killers: int) -> bool:
        """Start a worker in place of each that its work killed; whether any was started.

        killers: how many pieces of work have killed one. Who ended otherwise would do so again.
        """
        ...

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        ...


def start_crew(
    work: Callable[[Any], None],
    orders: Any,
    workers: int | None,
    *,
    ray: str | None,
    again: int,
    device: str | None,
) -> Crew:
    """Start workers: processes of this machine, or with `ray`, its address, on that cluster.

    work, orders, workers, again, device: as `RayCrew` takes them; here None is one worker, `replace`
    starts dead ones anew, and the cards of this machine are dealt out.
    """
    if ray is None:
        return Processes(work, orders, workers or 1)
    return RayCrew(work, orders, workers, ray, again=again, device=device)
