"""The platform ``cpu`` (chosen with ``VERL_PLATFORM=cpu``)."""

from __future__ import annotations

import types
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psutil
import torch
from verl.plugin.platform.platform_base import PlatformBase
from verl.plugin.platform.platform_manager import PlatformRegistry

if TYPE_CHECKING:
    from collections.abc import Generator


class CPUDevice(types.ModuleType):
    """``torch.cpu``, completed by what verl calls on ``torch.cuda``: memory is the process's own."""

    def __init__(self) -> None:
        super().__init__("verl_lab_cpu_device", "torch.cpu with the rest of torch.cuda's interface.")

    def __getattr__(self, name: str) -> Any:
        return getattr(torch.cpu, name)

    def is_available(self) -> bool:
        return True

    def set_device(self, device: object) -> None:
        """Do nothing: there is one."""

    def get_device_name(self, device: object = None) -> str:
        return "CPU"

    def synchronize(self, device: object = None) -> None:
        """Do nothing: work on the CPU is done when a call returns."""

    def empty_cache(self) -> None:
        """Do nothing: torch caches no memory on the CPU."""

    def memory_allocated(self, device: object = None) -> int:
        """Return the resident memory of this process, in bytes."""
        return psutil.Process().memory_info().rss

    def memory_reserved(self, device: object = None) -> int:
        return self.memory_allocated()

    def max_memory_allocated(self, device: object = None) -> int:
        return self.memory_allocated()

    def max_memory_reserved(self, device: object = None) -> int:
        return self.memory_allocated()

    def reset_peak_memory_stats(self, device: object = None) -> None:
        """Do nothing: no peak is kept."""

    def mem_get_info(self, device: object = None) -> tuple[int, int]:
        """Return free and total memory of the machine, in bytes."""
        memory = psutil.virtual_memory()
        return memory.available, memory.total

    def get_rng_state(self, device: object = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: object = None) -> None:
        torch.set_rng_state(state)


_DEVICE = CPUDevice()


@PlatformRegistry.register(platform="cpu")
class CPUPlatform(PlatformBase):
    """A machine whose processor does the training."""

    @property
    def device_name(self) -> str:
        return "cpu"

    @property
    def vendor_name(self) -> str:
        return "cpu"

    @property
    def device_module(self) -> types.ModuleType:
        return _DEVICE

    def is_available(self) -> bool:
        return True

    def is_platform_available(self, use_smi_check: bool = False) -> bool:
        # Every machine has a CPU: verl's own detection must never prefer it to an accelerator.
        return False

    def current_device(self) -> str:  # type: ignore[override]
        # verl moves tensors to this; an index would mean an accelerator.
        return "cpu"

    def device_count(self) -> int:
        return 1

    def set_device(self, device_index: int) -> None:
        """Do nothing: there is one."""

    def synchronize(self, device_index: int | None = None) -> None:
        """Do nothing: work on the CPU is done when a call returns."""

    def manual_seed(self, seed: int) -> None:
        torch.manual_seed(seed)

    def manual_seed_all(self, seed: int) -> None:
        torch.manual_seed(seed)

    def set_allocator_settings(self, settings: str) -> None:
        """Do nothing: the settings are the CUDA allocator's."""

    def empty_cache(self) -> None:
        """Do nothing: torch caches no memory on the CPU."""

    def get_device_capability(self, device_index: int = 0) -> tuple[int | None, int | None]:
        return None, None

    def communication_backend_name(self) -> str:
        return "gloo"

    def visible_devices_envvar(self) -> str:
        return "CUDA_VISIBLE_DEVICES"

    @contextmanager
    def nvtx_range(self, msg: str) -> Generator[None, None, None]:  # type: ignore[override]
        yield

    def profiler_start(self) -> None:
        """Do nothing: there is no device profiler."""

    def profiler_stop(self) -> None:
        """Do nothing: there is no device profiler."""

    def ray_resource_name(self) -> str:
        # verl's ResourcePoolManager counts GPU and NPU alone; the run gives Ray logical GPUs.
        return "GPU"

    def ray_noset_envvars(self) -> list[str]:
        return []

    def is_ipc_supported(self) -> bool:
        return False

    def cudart(self) -> None:
        return None
