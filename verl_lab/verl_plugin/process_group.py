"""The process group of trainers that run one process a GPU, without Ray."""

from __future__ import annotations

import importlib
import os
import tempfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Generator


@contextmanager
def joined_process_group() -> Generator[None, None, None]:
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
