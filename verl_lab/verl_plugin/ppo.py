"""The trainer mode ``verl_lab_sync``: verl's synchronous PPO trainer, reporting to a session.

Order of a step in verl (verl/trainer/ppo/v1/trainer_base.py, PPOTrainer.fit): train, checkpoint,
``on_step_end``, validate, compute the metrics, log them.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import ray
import transfer_queue as tq
from omegaconf import open_dict
from verl.trainer.ppo.utils import Role
from verl.trainer.ppo.v1.trainer_base import register_trainer
from verl.trainer.ppo.v1.trainer_sync import PPOTrainerSync
from verl.utils.debug import marked_timer
from verl.utils.device import get_device_name

from verl_lab.diagnostics import summarise_samples
from verl_lab.verl_plugin.session import TrainingSession
from verl_lab.verl_plugin.value_model import CriticWorker
from verl_lab.verl_plugin.weights import worker_weights_are_finite

if TYPE_CHECKING:
    from collections.abc import Mapping

# verl waits this long between two looks for finished responses, by default 2 s: longer than a tiny
# model's whole step.
_POLL_INTERVAL_S = 0.05


class _StepLog:
    """A backend of verl's ``Tracking``: it hears of a step when all of its metrics are there."""

    def __init__(self, session: TrainingSession) -> None:
        self._session = session
        self.is_training = False

    def log(self, data: Mapping[str, Any], step: int) -> None:
        # What is logged before the first step is the validation that _validate reports.
        if self.is_training:
            self._session.step_ended(step, data)


def _summary(samples: Mapping[str, Any]) -> dict[str, float]:
    """Reduce a step's samples, given in verl's columns, to metrics."""
    columns = {"input": samples["inputs"], "output": samples["outputs"], "score": samples["scores"]}
    columns |= samples["reward_extra_infos_dict"]
    rows = (dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True))
    return summarise_samples(rows).as_metrics()


@register_trainer("verl_lab_sync")
class ReportingTrainerSync(PPOTrainerSync):
    """PPO, GRPO and the other advantage estimators, with rollout and training in turn."""

    def __init__(self, config: Any) -> None:
        # verl takes any mode but "sync" for an asynchronous one.
        with open_dict(config):
            config.trainer.v1.trainer_mode = "sync"
        self._session = TrainingSession.current()
        self._steps = _StepLog(self._session)
        self._saved_step: int | None = None
        self._is_stopped = False
        self._has_sole_server = False
        self._tracking: Any = None
        super().__init__(config)

    def init(self) -> None:
        self._session.enter("loading model")
        if get_device_name() == "cpu" and self.config.trainer.n_gpus_per_node * self.config.trainer.nnodes == 1:
            from verl_lab.verl_plugin.cpu.router import CONFIG

            rollout = self.config.actor_rollout_ref.rollout
            if rollout.router_config_path is None:
                self._has_sole_server = True
                with open_dict(rollout):
                    rollout.router_config_path = str(CONFIG)
        super().init()

    def get_llm_client(self) -> Any:
        if not self._has_sole_server:
            return super().get_llm_client()
        from verl_lab.verl_plugin.cpu.nearby import SoleServerClient

        ((name, server),) = zip(
            self.llm_server_manager.server_addresses, self.llm_server_manager.server_handles, strict=True
        )
        return SoleServerClient(self.config, name, server)

    def get_reward_handles(self) -> list[Any]:
        handles = super().get_reward_handles()
        if handles != []:  # None where a reward model is asked afterwards
            return handles
        from verl_lab.verl_plugin.cpu.nearby import NearbyRewards

        return [NearbyRewards(self.config)]

    def fit(self, agent_loop_manager: Any) -> None:
        # verl leaves its loop at whichever comes first; only this one counts as the last step.
        self.total_training_steps = min(
            self.total_training_steps, self.steps_per_epoch * self.config.trainer.total_epochs
        )
        self._session.begin(
            total_steps=self.total_training_steps, resumed_from=self.global_steps, platform=get_device_name()
        )
        try:
            super().fit(agent_loop_manager)
        except Exception as error:
            self._session.fail(error)
            raise
        self._session.end(is_stopped=self._is_stopped)

    def on_train_begin(self) -> None:
        super().on_train_begin()
        self._steps.is_training = True

    def on_step_end(self) -> None:
        super().on_step_end()
        if self.global_steps < self.total_training_steps and self._session.stop_requested():
            if self._saved_step != self.global_steps:
                with marked_timer("save_checkpoint", self.timing_raw, color="green"):
                    self._save_checkpoint()
            # verl's loop ends when it has logged this step.
            self.total_training_steps = self.global_steps
            self._is_stopped = True

    @property
    def logger(self) -> Any:
        """verl's ``Tracking``, which ``fit`` assigns."""
        return self._tracking

    @logger.setter
    def logger(self, tracking: Any) -> None:
        tracking.logger["verl_lab"] = self._steps
        self._tracking = tracking

    def _init_resource_pool_mgr(self) -> None:
        super()._init_resource_pool_mgr()
        if get_device_name() != "cpu":
            if self.use_critic:
                self.role_worker_mapping[Role.Critic] = ray.remote(CriticWorker)
            return
        from verl_lab.verl_plugin.cpu.workers import CPUActorRolloutRefWorker, CPUTrainingWorker

        for role in self.role_worker_mapping:
            worker = CPUTrainingWorker if role == Role.Critic else CPUActorRolloutRefWorker
            self.role_worker_mapping[role] = ray.remote(worker)

    def _build_replay_buffer(self) -> Any:
        buffer = super()._build_replay_buffer()
        if get_device_name() == "cpu":
            buffer.poll_interval = _POLL_INTERVAL_S
        return buffer

    def _validate(self) -> dict[str, float]:
        self._session.enter("validating")
        metrics = super()._validate()
        self._session.validation_ended(self.global_steps, metrics)
        self._session.enter("training")
        return metrics

    def _dump_generations(self, *args: Any, **samples: Any) -> None:
        super()._dump_generations(*args, **samples)
        # Validations come this way too. Not read back from the file: another thread writes it, some time.
        if samples.get("dump_path") == self.config.trainer.get("rollout_data_dir"):
            self._session.derive(lambda: _summary(samples))

    def _compute_metrics(self, batch: Any, metrics: dict[str, Any], *args: Any, **kwargs: Any) -> None:
        super()._compute_metrics(batch, metrics, *args, **kwargs)
        self._session.derive(lambda: {"samples/truncated": self._truncated(batch)})

    def _truncated(self, batch: Any) -> float:
        """Return the share of responses as long as they may be; verl's clip ratio compares with the longest one."""
        keys = [key for key, tag in zip(batch.keys, batch.tags, strict=True) if not tag.get("is_padding", False)]
        data = tq.kv_batch_get(keys=keys, partition_id=batch.partition_id, select_fields=["responses"])
        responses: Any = data["responses"]  # of unequal lengths: nested
        lengths = responses.offsets().diff()
        return float((lengths >= self.config.data.max_response_length).float().mean())

    def _is_finite(self) -> bool:
        """Return whether the weights of actor and critic are; True where the workers cannot say."""
        groups = [self.actor_rollout_wg, *([self.critic_wg] if self.use_critic else [])]
        handles = {id(worker): worker for group in groups for worker in group.workers}
        try:
            return all(ray.get([worker.__ray_call__.remote(worker_weights_are_finite) for worker in handles.values()]))
        except Exception as error:  # noqa: BLE001  an engine of another shape must not cost the checkpoint
            self._session.note("weights_unknown", error)
            return True

    def _save_checkpoint(self) -> None:
        if not self._is_finite():
            # It would be the one to resume from, and could push out the last good one.
            self._session.checkpoint_refused(self.global_steps)
            return
        self._session.enter("saving checkpoint")
        super()._save_checkpoint()
        self._saved_step = self.global_steps
        folder = Path(self.config.trainer.default_local_dir).absolute() / f"global_step_{self.global_steps}"
        self._session.checkpoint_saved(self.global_steps, folder)
        self._session.enter("training")
