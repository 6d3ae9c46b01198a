"""``python -m verl_lab.verl_plugin.train_sft <hydra overrides>``: supervised fine-tuning.

With more than one process: ``torchrun --nproc_per_node=N -m verl_lab.verl_plugin.train_sft …``.
"""

from __future__ import annotations

from typing import Any

from verl_lab.verl_plugin.engine_command import run


def _trainer() -> Any:
    from verl_lab.verl_plugin.sft import ReportingSFTTrainer

    return ReportingSFTTrainer


if __name__ == "__main__":
    run(_trainer)
