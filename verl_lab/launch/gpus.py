"""The GPUs a run may use, as NVIDIA's driver tells of them."""

from __future__ import annotations

import os
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from types import ModuleType

_GIB = 2.0**30
# What is said of all GPUs together: the mean use, the fullest, the hottest, and sums.
_TOGETHER: Mapping[str, Callable[[Sequence[float]], float]] = {
    "use_percent": fmean,
    "memory_percent": max,
    "memory_gb": sum,
    "temperature_c": max,
    "power_w": sum,
}


class Gpus:
    """The GPUs of this host that the environment lets the run see, by the driver's own numbers.

    Parameters
    ----------
    nvml
        The package ``pynvml``.

    Raises
    ------
    NVMLError
        There is no driver, or it does not answer.
    LookupError
        The run sees no GPU.
    """

    def __init__(self, nvml: ModuleType) -> None:
        self._nvml: Any = nvml
        nvml.nvmlInit()
        every = [nvml.nvmlDeviceGetHandleByIndex(number) for number in range(nvml.nvmlDeviceGetCount())]
        names = [str(nvml.nvmlDeviceGetName(handle)) for handle in every]
        ids = [str(nvml.nvmlDeviceGetUUID(handle)) for handle in every]
        is_ordered = len(set(names)) == 1 or os.environ.get("CUDA_DEVICE_ORDER") == "PCI_BUS_ID"
        shown = visible(os.environ.get("CUDA_VISIBLE_DEVICES"), ids, is_ordered=is_ordered)
        if not shown:
            raise LookupError("this host has no GPU that the run's environment lets it see.")
        self._handles = {number: every[number] for number in shown}

    def read(self, pids: set[int], note: Callable[[str, str], None]) -> dict[str, float]:
        """Return what each GPU does, what they do together, and what the processes ``pids`` hold of their memory.

        ``note`` is told what cannot be measured, and why.
        """
        found: dict[str, float] = {}
        for number, handle in self._handles.items():
            for name, ask in self._questions(handle).items():
                try:
                    found[f"gpu{number}/{name}"] = float(ask())
                except self._nvml.NVMLError as error:
                    note(f"gpu{number}/{name}", str(error))
        for name, put in _TOGETHER.items():
            values = [found[key] for number in self._handles if (key := f"gpu{number}/{name}") in found]
            if values and len(values) == len(self._handles):
                found[f"gpu/{name}"] = put(values)
        held = self._held_by(pids, note)
        if held is not None:
            found["run/gpu_memory_gb"] = held
        return found

    def _questions(self, handle: Any) -> dict[str, Callable[[], float]]:
        nvml = self._nvml
        return {
            "use_percent": lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu,
            "memory_gb": lambda: nvml.nvmlDeviceGetMemoryInfo(handle).used / _GIB,
            "memory_percent": lambda: _share(nvml.nvmlDeviceGetMemoryInfo(handle)),
            "temperature_c": lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU),
            "power_w": lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000,
        }

    def _held_by(self, pids: set[int], note: Callable[[str, str], None]) -> float | None:
        """Return the memory that processes hold, in GiB; None where the driver tells none of them."""
        name = "run/gpu_memory_gb"
        held: list[float] = []
        for handle in self._handles.values():
            try:
                running = self._nvml.nvmlDeviceGetComputeRunningProcesses(handle)
            except self._nvml.NVMLError as error:
                note(name, str(error))
                return None
            held += [p.usedGpuMemory / _GIB for p in running if p.pid in pids and p.usedGpuMemory is not None]
            if running and not any(Path(f"/proc/{process.pid}").exists() for process in running):
                note(name, "The driver counts processes as they are outside of this container.")
        return sum(held) if held else None


def visible(wanted: str | None, ids: Sequence[str], *, is_ordered: bool) -> list[int]:
    """Return which GPUs a program sees, by the driver's numbers.

    Parameters
    ----------
    wanted
        ``CUDA_VISIBLE_DEVICES``: numbers or beginnings of ids; None where it is not set.
    ids
        The GPUs' ids, in the driver's order.
    is_ordered
        Whether CUDA counts them in the same order. Where it need not, numbers say nothing and all are taken.
    """
    if wanted is None:
        return list(range(len(ids)))
    found: list[int] = []
    for word in wanted.split(","):
        text = word.strip()
        if text.startswith("MIG-") or (text.isdecimal() and not is_ordered):
            return list(range(len(ids)))
        if text.isdecimal():
            named = [int(text)] if int(text) < len(ids) else []
        else:
            named = [number for number, one in enumerate(ids) if text and one.startswith(text)]
        if not named:  # CUDA sees nothing from the first that is none
            break
        found.append(named[0])
    return list(dict.fromkeys(found))


def _share(memory: Any) -> float:
    return 100 * memory.used / memory.total
