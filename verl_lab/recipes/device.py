"""Which device a run on this machine gets."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Device

ChosenDevice = Literal["cpu", "gpu"]


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU and its driver, seen without loading CUDA."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def choose(device: Device) -> ChosenDevice:
    """Resolve ``auto`` to what this machine has."""
    if device == "auto":
        return "gpu" if has_gpu() else "cpu"
    return device
