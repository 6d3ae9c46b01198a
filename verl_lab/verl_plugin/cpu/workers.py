"""verl's workers on gloo alone, and the registration of what they look up by name."""

from __future__ import annotations

from typing import Any

from verl.utils.distributed import initialize_global_process_group_ray
from verl.workers.engine_workers import ActorRolloutRefWorker, TrainingWorker

from verl_lab.verl_plugin.cpu import engine, rollout

__all__ = ["CPUActorRolloutRefWorker", "CPUTrainingWorker", "engine", "rollout"]


class CPUTrainingWorker(TrainingWorker):
    """The worker around one engine."""

    def __init__(self, config: Any) -> None:
        # verl would ask for "cpu:gloo,cpu:gloo", a duplicate that torch refuses; it leaves a group
        # that exists alone.
        initialize_global_process_group_ray(backend="cpu:gloo")
        super().__init__(config)


class CPUActorRolloutRefWorker(ActorRolloutRefWorker):
    """Actor, rollout and reference model in one process."""

    actor_worker_cls = CPUTrainingWorker
    ref_worker_cls = CPUTrainingWorker
