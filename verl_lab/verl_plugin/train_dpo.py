"""``python -m verl_lab.verl_plugin.train_dpo <hydra overrides>``: direct preference optimisation.

The configuration is verl's ``sft_trainer_engine`` and a group ``dpo`` beside it, of which a command
line needs to name only what differs from its defaults: ``++dpo.beta=0.2``. With more than one process:
``torchrun --nproc_per_node=N -m verl_lab.verl_plugin.train_dpo …``.
"""

from __future__ import annotations

from typing import Any

from verl_lab.verl_plugin.engine_command import run


def _trainer() -> Any:
    from verl_lab.verl_plugin.dpo import DPOTrainer

    return DPOTrainer


if __name__ == "__main__":
    run(_trainer)
