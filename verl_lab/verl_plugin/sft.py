"""Supervised fine-tuning: verl's trainer with a loop that reports, and can stop, at every step.

verl's own loop (verl/trainer/sft_trainer.py, SFTTrainer.fit) holds its logger in a local variable
and offers no hook; data, engine, loss and checkpoints are verl's, and so are the names of the metrics.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from omegaconf import OmegaConf
from tensordict.tensorclass import NonTensorData
from tqdm import tqdm
from verl.trainer.sft_trainer import SFTTrainer
from verl.utils import tensordict_utils as tu
from verl.utils.device import get_device_name
from verl.utils.tracking import Tracking

from verl_lab.errors import EnvironmentMismatchError
from verl_lab.verl_plugin.lora import save_merged, take_over_hf_model
from verl_lab.verl_plugin.weights import weights_are_finite

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verl_lab.verl_plugin.session import TrainingSession

_RENAMED = ("loss", "grad_norm", "lr", "mfu")


class ReportingSFTTrainer(SFTTrainer):
    """One process of a supervised fine-tuning.

    Parameters
    ----------
    config
        verl's ``sft_trainer_engine`` configuration.
    session
        Where to report; on all ranks but the first, one that nobody hears.
    """

    def __init__(self, config: Any, session: TrainingSession) -> None:
        self._session = session
        session.enter("loading model")
        self._saves_merged = take_over_hf_model(config)
        super().__init__(config)
        # verl leaves its loop at whichever comes first.
        self.total_training_steps = min(
            self.total_training_steps, self.steps_per_epoch * self.config.trainer.total_epochs
        )
        self._total_tokens = 0

    def fit(self) -> None:
        """Train until the last step, or until someone asks for a graceful stop."""
        if self.rank == 0 and not self.engine.is_mp_src_rank_with_outputs():
            raise EnvironmentMismatchError(
                "engine: the first rank computes no loss, as with pipeline parallelism.",
                "verl-lab reports from the first rank; use an FSDP engine.",
            )
        step = self.resume_global_step
        total = self.total_training_steps
        self._session.begin(total_steps=total, resumed_from=step, platform=get_device_name())
        tracking = self._open_tracking()
        if step == 0 and (baseline := self._baseline()):
            if tracking is not None:
                tracking.log(data=baseline, step=0)
            self._session.validation_ended(0, baseline)
        progress_bar = tqdm(initial=step, total=total, desc="Training", disable=self.rank != 0)
        batches = self._batches(step)
        is_stopped = False
        while step < total and not is_stopped:
            step += 1
            metrics = self._train_step(step, next(batches))
            is_stopped = step < total and self._stop_requested()
            # Whoever asked to stop waits only so long: the checkpoint matters more than a validation.
            if not is_stopped and self.val_dataloader is not None and self._is_due(step, self.test_freq):
                metrics |= self._validate(step)
            progress_bar.update(1)
            if tracking is not None:
                tracking.log(data=metrics, step=step)
            # Before the checkpoint: a step that a resume builds upon is then always on record.
            self._session.step_ended(step, metrics)
            # What this step showed may be the reason to stop.
            is_stopped = is_stopped or (step < total and self._stop_requested())
            if is_stopped or self._is_due(step, self.save_freq):
                self._save(step)
        progress_bar.close()
        if tracking is not None:
            tracking.finish()
        self._session.end(is_stopped=is_stopped)

    def _save(self, step: int) -> None:
        if not self._is_finite():
            # It would be the one to resume from, and could push out the last good one.
            self._session.checkpoint_refused(step)
            return
        self._session.enter("saving checkpoint")
        self.ckpt_handler.save_checkpoint(step)
        folder = Path(self.config.trainer.default_local_dir).absolute() / f"global_step_{step}"
        if self._saves_merged:
            engine: Any = self.engine
            save_merged(engine.module, folder / "huggingface", is_writer=self.rank == 0)
        self._session.checkpoint_saved(step, folder)
        self._session.enter("training")

    def _open_tracking(self) -> Any:
        if self.rank != 0:
            return None
        trainer = self.config.trainer
        return Tracking(
            project_name=trainer.project_name,
            experiment_name=trainer.experiment_name,
            default_backend=trainer.logger,
            config=OmegaConf.to_container(self.config, resolve=True),
        )

    def _batches(self, step: int) -> Iterator[Any]:
        """Yield the batches after ``step``; the dataloader itself knows where it was in its epoch."""
        for epoch in range(step // self.steps_per_epoch, self.config.trainer.total_epochs):
            self.train_sampler.set_epoch(epoch=epoch)
            is_over = True
            for batch in self.train_dataloader:
                is_over = False
                yield batch
            if is_over:
                # A checkpoint of an epoch's last step restores the dataloader at that epoch's end.
                yield from self.train_dataloader

    def _train_step(self, step: int, data: Any) -> dict[str, Any]:
        batch = tu.get_tensordict(tensor_dict=data, non_tensor_dict=self._batch_settings())
        lengths = self._get_batch_seqlens(data=batch)
        # Without the wrapper, tensordict would take the list for one value a sample.
        tu.assign_non_tensor(batch, update_lr_scheduler=True, global_token_num=NonTensorData(lengths))
        if step == self.start_profile_step:
            self.training_client.start_profile()
        output = self.training_client.train_batch(data=batch)
        self.training_client.step_profile()
        if step == self.end_profile_step:
            self.training_client.stop_profile()
        if not self.engine.is_mp_src_rank_with_outputs():
            return {}
        metrics = {
            f"train/{name}" if name in _RENAMED else name: value for name, value in tu.get(output, "metrics").items()
        }
        tokens = sum(lengths)
        self._total_tokens += tokens
        metrics["train/global_tokens"] = tokens
        metrics["train/total_tokens(B)"] = self._total_tokens / 1e9
        return metrics

    def _baseline(self) -> dict[str, float]:
        """Return what is known about the held-out rows before training, without computing anything."""
        return {}

    def _validate(self, step: int) -> dict[str, float]:
        self._session.enter("validating")
        metrics = self._measure()
        torch.distributed.barrier()
        self._session.validation_ended(step, metrics)
        self._session.enter("training")
        return metrics

    def _measure(self) -> dict[str, float]:
        """Return the metrics of a validation, on the ranks that compute outputs."""
        has_outputs = self.engine.is_mp_src_rank_with_outputs()
        losses: list[float] = []
        for data in self.val_dataloader or ():
            batch = tu.get_tensordict(tensor_dict=data, non_tensor_dict=self._batch_settings())
            output = self.training_client.infer_batch(batch)
            if has_outputs:
                losses.append(tu.get(output, "metrics")["loss"])
        metrics: dict[str, float] = {}
        if has_outputs:
            loss = torch.tensor(losses, device=self.device_name).mean()
            if (group := self.engine.get_data_parallel_group()) is not None:
                torch.distributed.all_reduce(loss, op=torch.distributed.ReduceOp.AVG, group=group)
            metrics["val/loss"] = loss.item()
        return metrics

    def _batch_settings(self) -> dict[str, Any]:
        data = self.config.data
        return {
            "use_remove_padding": self.config.model.use_remove_padding,
            "use_dynamic_bsz": data.use_dynamic_bsz,
            "max_token_len_per_gpu": data.max_token_len_per_gpu,
            "micro_batch_size_per_gpu": data.micro_batch_size_per_gpu,
            "temperature": 1.0,
            "global_batch_size": self.global_batch_size,
            "pad_mode": data.pad_mode,
            "pad_token_id": self.model_config.tokenizer.pad_token_id,
        }

    def _stop_requested(self) -> bool:
        """Return, on every rank alike, whether the first one was asked to stop."""
        return self._any_rank(self._session.stop_requested())

    def _is_finite(self) -> bool:
        """Return, on every rank alike, whether all weights are."""
        engine: Any = self.engine
        return not self._any_rank(not weights_are_finite(engine.module))

    def _any_rank(self, mine: bool) -> bool:
        if torch.distributed.get_world_size() == 1:
            return mine
        answer = torch.tensor(int(mine), device=self.device_name)
        torch.distributed.all_reduce(answer, op=torch.distributed.ReduceOp.MAX)
        return bool(answer.item())

    def _is_due(self, step: int, frequency: int) -> bool:
        return step == self.total_training_steps or (frequency > 0 and step % frequency == 0)
