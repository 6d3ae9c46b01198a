"""The rollout ``verl_lab_hf``: verl's side of the sampling server, for machines without vLLM."""

from __future__ import annotations

import os
from typing import Any

import ray
import torch
from verl.workers.rollout.base import _ROLLOUT_REGISTRY, BaseRollout
from verl.workers.rollout.replica import RolloutReplica, RolloutReplicaRegistry
from verl.workers.rollout.utils import ensure_async_iterator

from verl_lab.verl_plugin.cpu.server import SamplingServer, ServerOptions

ROLLOUT = "verl_lab_hf"


def _actor_name(replica_rank: int) -> str:
    return f"{ROLLOUT}_{replica_rank}"


class SamplingReplica(RolloutReplica):
    """Starts one sampling server; what concerns a device's memory has nothing to do."""

    async def launch_servers(self) -> None:
        model, rollout = self.model_config, self.config
        options = ServerOptions(
            model_path=model["path"],
            attn_implementation=dict(model.get("override_config") or {}).get("attn_implementation", "sdpa"),
            trust_remote_code=bool(model.get("trust_remote_code", False)),
            response_length=rollout.response_length,
            max_batch=rollout.max_num_seqs,
            ignore_eos=rollout.ignore_eos,
            seed=rollout.seed + self.replica_rank,
        )
        server: Any = (
            ray.remote(SamplingServer)
            .options(name=_actor_name(self.replica_rank), num_cpus=0, max_concurrency=self.max_concurrency)
            .remote(options)
        )
        self.servers = [server]
        self._server_handle = server
        self._server_address = _actor_name(self.replica_rank)

    async def wake_up(self) -> None:
        """Do nothing: the server keeps its weights."""

    async def sleep(self) -> None:
        """Do nothing: the server keeps its weights."""

    async def abort_all_requests(self, reject_request: bool = False) -> None:
        """Do nothing: verl updates weights when all requests of a step are answered."""

    async def resume_generation(self) -> None:
        """Do nothing: it was never halted."""

    async def clear_kv_cache(self) -> None:
        """Do nothing: a cache lives as long as its batch."""

    async def release_kv_cache(self) -> None:
        """Do nothing: a cache lives as long as its batch."""

    async def resume_kv_cache(self) -> None:
        """Do nothing: a cache lives as long as its batch."""

    async def start_profile(self, **options: Any) -> None:
        """Do nothing: the server has no profiler."""

    async def stop_profile(self) -> None:
        """Do nothing: the server has no profiler."""


class SamplingAdapter(BaseRollout):
    """Lives in the training worker and sends its weights to the server."""

    def __init__(self, config: Any, model_config: Any, device_mesh: Any, replica_rank: int = -1) -> None:
        super().__init__(config, model_config, device_mesh)
        rank = int(os.environ.get("RANK", "0"))
        ranks_per_replica = self.config.tensor_model_parallel_size * self.config.data_parallel_size
        self._replica_rank = rank // ranks_per_replica if replica_rank < 0 else replica_rank
        self._is_sender = rank % ranks_per_replica == 0

    async def resume(self, tags: list[str]) -> None:
        """Do nothing: the server keeps its weights."""

    async def release(self) -> None:
        """Do nothing: the server keeps its weights."""

    @torch.no_grad()
    async def update_weights(
        self, weights: Any, wire_format: str = "named_tensors", global_steps: int | None = None, **options: Any
    ) -> None:
        if wire_format != "named_tensors" or options.get("peft_config") is not None:
            raise NotImplementedError(
                f"The rollout {ROLLOUT} takes whole tensors: no LoRA adapters, and not the format {wire_format!r}."
            )
        # Every rank walks through the weights: gathering a sharded one takes them all.
        gathered = {
            name: tensor.detach().to("cpu", torch.float32, copy=True)
            async for name, tensor in ensure_async_iterator(weights)
        }
        if self._is_sender:
            server: Any = ray.get_actor(_actor_name(self._replica_rank))
            await server.update_weights.remote(gathered, global_steps)


RolloutReplicaRegistry.register(ROLLOUT, lambda: SamplingReplica)
_ROLLOUT_REGISTRY[ROLLOUT, "async"] = f"{__name__}.{SamplingAdapter.__name__}"
