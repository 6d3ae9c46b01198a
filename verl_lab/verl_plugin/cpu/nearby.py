"""What verl gives a process of its own and asks over Ray, done where it is asked for.

A tiny model's step is shorter than the calls around it, and each process imports torch and verl for seconds.
"""

from __future__ import annotations

import traceback
from typing import TYPE_CHECKING, Any

from verl.experimental.reward_loop import RewardLoopWorker
from verl.workers.rollout.llm_server import LLMServerClient

if TYPE_CHECKING:
    from collections.abc import Mapping


class SoleServerClient(LLMServerClient):
    """Sends every request to the only server there is, without asking a load balancer.

    Parameters
    ----------
    name, server
        What verl calls the server, and its Ray handle.
    """

    def __init__(self, config: Any, name: str, server: Any) -> None:
        super().__init__(config)
        self._name = name
        self._server = server

    async def _acquire_server(self, request_id: str, **extra: Any) -> tuple[str, Any]:
        return self._name, self._server

    def _release_server(self, server_id: str, request_id: str | None = None) -> None:
        """Do nothing: nobody counts."""


class RewardError(Exception):
    """The reward function failed; the message quotes its traceback, as Ray's does of a reward worker."""

    def __init__(self, quoted: str) -> None:
        super().__init__(f"{RewardLoopWorker.__name__}.compute_score\n{quoted}")


class NearbyRewards:
    """Stands for the handle of a reward worker, and is one, in the process that asks."""

    def __init__(self, config: Any) -> None:
        self._config = config
        self._worker: RewardLoopWorker | None = None

    @property
    def compute_score(self) -> NearbyRewards:
        """What is called by ``remote``, as a Ray actor's method is."""
        return self

    async def remote(self, data: Any) -> Mapping[str, Any]:
        """Score one response."""
        if self._worker is None:  # made here, not where the handle was: it belongs to this process's event loop
            self._worker = RewardLoopWorker(self._config)
        try:
            return await self._worker.compute_score(data)
        except Exception as error:
            raise RewardError("".join(traceback.format_exception(error))) from error
