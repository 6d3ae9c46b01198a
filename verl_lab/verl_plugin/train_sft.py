"""``python -m verl_lab.verl_plugin.train_sft <hydra overrides>``: supervised fine-tuning.

With more than one process: ``torchrun --nproc_per_node=N -m verl_lab.verl_plugin.train_sft …``.
"""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import hydra

from verl_lab.verl_plugin.launch import Launch, reporting_failure

if TYPE_CHECKING:
    from collections.abc import Generator

_is_first = os.environ.get("RANK", "0") == "0"
_launch = Launch(is_reporting=_is_first)


@hydra.main(config_path="pkg://verl.trainer.config", config_name="sft_trainer_engine", version_base=None)
def _train(config: Any) -> None:
    from verl_lab.verl_plugin.session import TrainingSession

    session = TrainingSession.current() if _is_first else TrainingSession(None)
    with reporting_failure(session.fail), _process_group():
        from verl.utils.device import auto_set_device

        from verl_lab.verl_plugin.sft import ReportingSFTTrainer

        auto_set_device(config)
        ReportingSFTTrainer(config, session).fit()


@contextmanager
def _process_group() -> Generator[None, None, None]:
    """Join the group that torchrun announced, or be a group of one that opens no port."""
    import torch.distributed as dist
    from verl.utils.device import get_device_name
    from verl.utils.distributed import initialize_global_process_group

    with tempfile.TemporaryDirectory(prefix="verl-lab-") as folder:
        if "RANK" not in os.environ:
            meeting = f"file://{folder}/group?rank=0&world_size=1"
            # verl reads the master's address, though a group that meets in a file never uses it.
            os.environ.update(
                RANK="0",
                WORLD_SIZE="1",
                LOCAL_RANK="0",
                MASTER_ADDR="127.0.0.1",
                MASTER_PORT="0",
                DIST_INIT_METHOD=meeting,
            )
        if get_device_name() == "cpu":
            # verl asks its registry for an engine of this device.
            importlib.import_module("verl_lab.verl_plugin.cpu.engine")
            dist.init_process_group("cpu:gloo", init_method=os.environ.get("DIST_INIT_METHOD"))
        else:
            initialize_global_process_group()
        try:
            yield
        finally:
            dist.destroy_process_group()


def main() -> None:
    """Load verl and train."""
    with reporting_failure(_launch.fail):
        _launch.load_verl()
    _train()


if __name__ == "__main__":
    main()
