"""Workers on a Ray cluster (https://docs.ray.io), all at one folder that every machine sees.

Ray finds machines and cards for the workers; which piece of work is whose is decided by the claims in
the folder, as on one machine, so both ways make the same.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from expunge.errors import ConfigError


class RayCrew:
    """Workers as Ray tasks of one processor each, and of a card each (or a share) if there are any.

    work: a function of a module, called with the orders, plain data, by each worker. address: of a
    running cluster ("auto": the one on this machine), or "local" to start one here for as long as this
    lasts. workers: None takes one for each card, or for each processor without cards. again: how often
    Ray starts a worker anew that died. device: that they work on, as `Place` has it.

    Raises ConfigError if Ray is not installed, or no cluster answers.
    """

    def __init__(
        self,
        work: Callable[[Any], None],
        orders: Any,
        workers: int | None,
        address: str,
        *,
        again: int,
        device: str | None,
    ) -> None:
        self._ray = ray = _connected(address, workers)
        try:
            room, cards = _room(ray, device)
            self.size = workers or room
            # several workers share a card evenly; shares that do not fit a card whole would wait
            share = 1.0 / -(-self.size // cards) if cards else 0.0
            task = ray.remote(num_cpus=1, num_gpus=share, max_retries=again)(_work_from)
            self._left = [task.remote(os.getcwd(), work, orders) for _ in range(self.size)]
        except BaseException:
            ray.shutdown()
            raise
        self._ended: list[Any] = []

    def alive(self) -> bool:
        """Whether any of them is still at work."""
        ready, self._left = self._ray.wait(self._left, num_returns=len(self._left), timeout=0)
        self._ended += ready
        return bool(self._left)

    def replace(self, killers: int) -> bool:
        """Ray does that by itself."""
        return False

    def end(self) -> list[str]:
        """Stop those that are left; why others ended before their time, one line each."""
        reasons = []
        try:
            for task in self._ended:
                try:
                    self._ray.get(task)
                except Exception as error:  # whatever broke a worker; its last line says what
                    reasons.append(str(error).strip().splitlines()[-1])
            for task in self._left:
                self._ray.cancel(task, force=True)
        finally:
            self._ray.shutdown()
        return reasons


def _work_from(here: str, work: Callable[[Any], None], orders: Any) -> None:
    """Work from the folder where the command was started, as far as this machine has it."""
    if Path(here).is_dir():
        os.chdir(here)
    work(orders)


def cluster_room(address: str, device: str | None) -> int:
    """Workers that a cluster has room for: one for each card, or for each processor without cards.

    Raises ConfigError as `RayCrew` does.
    """
    ray = _connected(address, None)
    try:
        return _room(ray, device)[0]
    finally:
        ray.shutdown()


def _room(ray: Any, device: str | None) -> tuple[int, int]:
    """Workers that a cluster has room for, and the cards that these share."""
    free = ray.cluster_resources()
    cards = int(free.get("GPU", 0)) if device in (None, "cuda") else 0
    return cards or max(1, int(free.get("CPU", 1))), cards


def check_cluster(address: str) -> None:
    """Raise ConfigError where Ray is not installed, or nobody listens at HOST:PORT."""
    if importlib.util.find_spec("ray") is None:
        raise ConfigError(
            "--ray needs Ray; install it with pip install 'expunge[ray]', or leave --ray out"
        )
    try:
        _knock(address)
    except (OSError, ValueError) as error:  # `a..b` is no name of a machine
        raise _silent(address, error) from error


def _connected(address: str, workers: int | None) -> Any:
    """Ray, connected to a cluster."""
    check_cluster(address)
    import ray

    options: dict[str, Any] = {"address": address}
    if address == "local":
        number = max(workers or 1, os.cpu_count() or 1)
        options |= {"num_cpus": number, "include_dashboard": False}
    try:
        ray.init(
            **options,
            log_to_driver=False,
            logging_level=logging.ERROR,
            runtime_env={"env_vars": {"OMP_NUM_THREADS": "1"}},
        )
    except Exception as error:  # Ray raises many kinds, from its own to OSError
        raise _silent(address, error) from error
    return ray


def _silent(address: str, error: Exception) -> ConfigError:
    reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return ConfigError(
        f"no Ray cluster answers at {address!r} ({reason}); start one with `ray start --head` and give "
        "its address, or write --ray local"
    )


def _knock(address: str) -> None:
    """Raise OSError if nobody listens at HOST:PORT; Ray itself would ask again for minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host, int(port)), timeout=10).close()
