"""Can the GPUs of a machine do what training asks of them? The judgement; the probe has tried."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.environments.report import Check

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The driver from which on every release of a CUDA major version runs: NVIDIA, "CUDA Compatibility", table of minor
# version compatibility.
DRIVER_FOR_CUDA = {11: 450, 12: 525, 13: 580}
# verl's rollout takes this share of a GPU's whole memory and fails where less is free: rollout.yaml,
# gpu_memory_utilization.
FREE_SHARE = 0.5
GIB = 2**30
_CRASHED = {"error": "the process ended while trying"}


def gpu_checks(found: Mapping[str, Any], built_for: str | None) -> Iterator[Check]:
    """Judge driver, memory, arithmetic and the connection between GPUs.

    Parameters
    ----------
    found
        What ``probe.py --deep`` found on a machine with a GPU.
    built_for
        The CUDA version that torch was built for; None if it was built for none.
    """
    if built_for is None:
        return
    yield _driver(found.get("driver"), built_for)
    if not found.get("torch", {}).get("devices"):
        return  # torch sees none: the driver above, or CUDA_VISIBLE_DEVICES, is why
    if not isinstance(found.get("devices"), list):
        error = found.get("devices", _CRASHED)["error"]
        yield Check("gpu arithmetic", ok=False, found=error, wanted="it works", fix="Restart the machine.")
        return
    devices: list[dict[str, Any]] = found["devices"]
    errors = [f"GPU {index}: {one['error']}" for index, one in enumerate(devices) if one["error"]]
    fix = "nvidia-smi shows what is wrong with it; a GPU older than torch's build supports is named in the message."
    said = "; ".join(errors) or f"a product of matrices on {_counted(len(devices))}"
    yield Check("gpu arithmetic", not errors, said, "a product of matrices on each", fix)
    yield _memory([one for one in devices if "free_bytes" in one])
    yield _nccl(found.get("nccl", _CRASHED))


def _driver(found: str | None, built_for: str) -> Check:
    needed = int(built_for.partition(".")[0])
    ok = found is not None and int(found.partition(".")[0]) >= needed
    version = DRIVER_FOR_CUDA.get(needed)
    fix = f"Ask for NVIDIA driver {version} or later." if version else "Ask for a newer NVIDIA driver."
    wanted = f"CUDA {needed}.0 or later (torch is built for CUDA {built_for})"
    return Check("gpu driver", ok, f"runs up to CUDA {found}" if found else "no driver", wanted, fix)


def _memory(devices: list[Mapping[str, Any]]) -> Check:
    said = [f"{one['free_bytes'] / GIB:.0f} of {one['total_bytes'] / GIB:.0f} GiB free" for one in devices]
    ok = all(one["free_bytes"] >= FREE_SHARE * one["total_bytes"] for one in devices)
    fix = "nvidia-smi shows which processes hold it."
    return Check("gpu memory", ok, "; ".join(said), "half of each free, which the rollout takes by default", fix)


def _nccl(found: Mapping[str, Any]) -> Check:
    ok = found["error"] is None
    said = f"{found['version']}, a sum over {_counted(found['gpus'])}" if ok else str(found["error"])
    fix = "NCCL_DEBUG=INFO in the environment of training makes NCCL say why; NCCL_P2P_DISABLE=1 helps some machines."
    return Check("gpu nccl", ok, said, "a sum over all GPUs", fix)


def _counted(count: int) -> str:
    return f"{count} GPU{'' if count == 1 else 's'}"
