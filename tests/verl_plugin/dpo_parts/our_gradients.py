"""Losses, metrics and gradients of our trainer on one batch: ``our_gradients.py OUT OVERRIDE ...``.

Run by itself, or by torchrun with several processes; the first one writes ``OUT``. Nothing is updated.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import hydra
import torch
import verl
from verl.utils import tensordict_utils as tu
from verl.utils.metric import Metric
from verl.utils.torch_functional import allgather_dict_into_dict

from verl_lab.verl_plugin.dpo import DPOTrainer
from verl_lab.verl_plugin.dpo_loss import PreferenceLoss
from verl_lab.verl_plugin.process_group import joined_process_group
from verl_lab.verl_plugin.session import TrainingSession

LOSSES = {
    "sigmoid": {"loss_type": "sigmoid", "beta": 0.3},
    "smoothed": {"loss_type": "sigmoid", "beta": 0.3, "label_smoothing": 0.15},
    "ipo": {"loss_type": "ipo", "beta": 0.3},
}


def measure(trainer: DPOTrainer, loss: PreferenceLoss, **settings: Any) -> dict[str, Any]:
    """Return loss, metrics and gradients of the whole training file as one batch, shared among the ranks."""
    engine: Any = trainer.engine
    rank, ranks = engine.get_data_parallel_rank(), engine.get_data_parallel_size()
    rows = range(len(trainer.train_dataset))[rank::ranks]
    batch = tu.get_tensordict(
        tensor_dict=trainer.collate_fn([trainer.train_dataset[row] for row in rows]),
        non_tensor_dict=trainer._batch_settings() | settings,
    )
    with engine.train_mode():
        engine.optimizer_zero_grad()
        output = engine.forward_backward_batch(batch, loss)
        gradients = {name: weight.grad.full_tensor().clone() for name, weight in engine.module.named_parameters()}
    value = torch.tensor(sum(output["loss"]))
    torch.distributed.all_reduce(value)
    gathered = allgather_dict_into_dict(output["metrics"])
    metrics = {name: float(Metric.aggregate_dp(values)) for name, values in gathered.items()}
    return {"loss": value.item() / ranks, "metrics": metrics, "gradients": gradients}


def main() -> None:
    out, *overrides = sys.argv[1:]
    folder = str(Path(verl.__file__).parent / "trainer" / "config")
    with hydra.initialize_config_dir(folder, version_base=None):
        config = hydra.compose("sft_trainer_engine", overrides)
    with joined_process_group():
        trainer = DPOTrainer(config, TrainingSession(None))
        each = len(trainer.train_dataset) // torch.distributed.get_world_size()
        fixed = {"use_dynamic_bsz": False, "micro_batch_size_per_gpu": each}
        found: dict[str, Any] = {
            name: measure(trainer, PreferenceLoss(replace(trainer._settings, **loss)), **fixed)
            for name, loss in LOSSES.items()
        }
        loss = PreferenceLoss(replace(trainer._settings, **LOSSES["sigmoid"]))
        found["one pair at a time"] = measure(trainer, loss, use_dynamic_bsz=False, micro_batch_size_per_gpu=1)
        room = int(trainer.train_dataset.lengths.sum(dim=1).max())
        found["sized by tokens"] = measure(trainer, loss, use_dynamic_bsz=True, max_token_len_per_gpu=room)
        found["reference"] = trainer.train_dataset.reference
        found["held out"] = trainer._measure()
        if torch.distributed.get_rank() == 0:
            torch.save(found, out)


main()
