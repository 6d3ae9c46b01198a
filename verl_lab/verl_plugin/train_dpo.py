"""``python -m verl_lab.verl_plugin.train_dpo <hydra overrides>``: direct preference optimisation.

The configuration is verl's ``sft_trainer_engine`` and a group ``dpo`` beside it, of which a command
line needs to name only what differs from its defaults: ``++dpo.beta=0.2``. With more than one process:
``torchrun --nproc_per_node=N -m verl_lab.verl_plugin.train_dpo …``.
"""

from __future__ import annotations

import os
from typing import Any

import hydra

from verl_lab.verl_plugin.launch import Launch, reporting_failure
from verl_lab.verl_plugin.process_group import joined_process_group

_is_first = os.environ.get("RANK", "0") == "0"
_launch = Launch(is_reporting=_is_first)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None)
def _train(config: Any) -> None:
    from verl_lab.verl_plugin.session import TrainingSession

    session = TrainingSession.current() if _is_first else TrainingSession(None)
    with reporting_failure(session.fail), joined_process_group():
        from verl.utils.device import auto_set_device

        from verl_lab.verl_plugin.dpo import DPOTrainer

        auto_set_device(config)
        DPOTrainer(config, session).fit()


def main() -> None:
    """Load verl and train."""
    with reporting_failure(_launch.fail):
        _launch.load_verl()
    _train()


if __name__ == "__main__":
    main()
