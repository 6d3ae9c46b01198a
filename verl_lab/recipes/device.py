"""Which device a run gets, and how much memory the machine has that it trains on."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Device

ChosenDevice = Literal["cpu", "gpu"]

_QUERY = ["nvidia-smi", "--query-gpu=memory.total", "--format=csv,noheader,nounits"]


@dataclass(frozen=True)
class Machine:
    """What a run is to train on; what is not known of it is None.

    Attributes
    ----------
    name
        As it is called in messages.
    gpu_memories
        The memory of each NVIDIA GPU, in bytes; empty where there is none.
    memory
        Of the machine, in bytes.
    """

    name: str
    gpu_memories: tuple[int, ...] | None
    memory: int | None


def this_machine() -> Machine:
    """Return what is known of the machine that this runs on."""
    return Machine("this machine", gpu_memories() or None, host_memory())


def has_gpu() -> bool:
    """Whether this machine has an NVIDIA GPU and its driver, seen without loading CUDA."""
    return Path("/dev/nvidia0").exists() or shutil.which("nvidia-smi") is not None


def choose(device: Device) -> ChosenDevice:
    """Resolve ``auto`` to what this machine has."""
    if device == "auto":
        return "gpu" if has_gpu() else "cpu"
    return device


@lru_cache(maxsize=1)
def gpu_memories() -> tuple[int, ...]:
    """Return the memory of each NVIDIA GPU of this machine, in bytes; empty where there is none to be asked."""
    if shutil.which(_QUERY[0]) is None:
        return ()
    try:
        done = subprocess.run(_QUERY, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return ()  # a driver that does not answer says nothing about memory
    return tuple(int(line) << 20 for line in done.stdout.split() if line.isdigit())


def host_memory() -> int:
    """Return the memory of this machine, in bytes."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
