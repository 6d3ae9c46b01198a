"""A host's GPUs, tried over SSH by the real probe: driver against torch's build, memory, arithmetic, NCCL.

There is no GPU here: a library stands for the driver, a program for nvidia-smi, and a module for torch. What asks
them, what travels and how it is judged are the real ones.
"""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.environments.pins import Versions
from verl_lab.environments.remote import HostEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.environments.report import Check
    from verl_lab.transport.ssh import SshHost

    Try = Callable[..., dict[str, Check]]

GIB = 2**30
DRIVER = "int cuDriverGetVersion(int *version) { *version = %d; return 0; }"
TORCH = '''
"""Stands for torch on a host with GPUs; the file beside it says what they do."""
import json, pathlib, time, types
SAID = json.loads(pathlib.Path(__file__).with_name("said.json").read_text())
__version__, bfloat16 = SAID["version"], "bfloat16"
version = types.SimpleNamespace(cuda=SAID["cuda"])

class Numbers:
    def __init__(self, gpu, value):
        self.gpu, self.value = gpu, value
    def __matmul__(self, other):
        return Numbers(self.gpu, 1024 if self.gpu not in SAID["wrong"] else 7)
    def __getitem__(self, _):
        return self
    def item(self):
        return self.value

def ones(*shape, device, dtype=None):
    gpu = int(device.partition(":")[2])
    if gpu in SAID["broken"]:
        raise RuntimeError("CUDA error: no kernel image is available for execution on the device\\nmore of it")
    return Numbers(gpu, 1)

def add_up(numbers):
    if SAID["nccl"] == "hangs":
        time.sleep(600)
    if SAID["nccl"] == "fails":
        raise RuntimeError("NCCL Error 2: unhandled system error")
    for one in numbers:
        one.value = len(numbers)

cuda = types.SimpleNamespace(
    is_available=lambda: True,
    device_count=lambda: len(SAID["free_gib"]),
    mem_get_info=lambda gpu: (SAID["free_gib"][gpu] * 2**30, 80 * 2**30),
    nccl=types.SimpleNamespace(all_reduce=add_up, version=lambda: (2, 28, 9)),
)
'''
PLUGIN = "verl_lab.verl_plugin.entry"
SMI = "echo 'NVIDIA H100, 81559 MiB, 580.65.06'; echo 'NVIDIA H100, 81559 MiB, 580.65.06'"


@pytest.fixture
def tried(ssh_host: SshHost, tmp_path: Path) -> Try:
    """Return what makes a host out of what its GPUs do, and tries them; the checks by name."""

    def report(*, driver: int | None = 13000, **said: Any) -> dict[str, Check]:
        pins = Versions.load()
        usual = {"version": f"{pins.torch['training']}+cu130", "cuda": "13.0", "free_gib": [70, 70]}
        whole = {**usual, "wrong": [], "broken": [], "nccl": "works", **said}
        folder = tmp_path / "stand-ins"
        folder.mkdir()
        (folder / "torch.py").write_text(TORCH)
        (folder / "said.json").write_text(json.dumps(whole))
        (folder / "verl.py").write_text(f"import sys\n__version__ = {pins.verl!r}\nsys.modules[{PLUGIN!r}] = sys\n")
        if driver is not None:
            (folder / "driver.c").write_text(DRIVER % driver)
            subprocess.run(["cc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "driver.c"], check=True)
        program(folder / "nvidia-smi", SMI)
        variables = {"PATH": f"{folder}:/usr/bin:/bin", "PYTHONPATH": folder, "LD_LIBRARY_PATH": folder}
        given = " ".join(f"{name}={shlex.quote(str(value))}" for name, value in variables.items())
        python = program(folder / "python", f'exec env {given} {shlex.quote(sys.executable)} "$@"')
        environment = HostEnvironment(ssh_host, str(tmp_path / "root"), python=str(python))
        return {check.name: check for check in environment.report("training").checks}

    return report


def program(path: Path, line: str) -> Path:
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    return path


def wrong(checks: dict[str, Check]) -> dict[str, str]:
    """Return what failed of what is about GPUs, torch and verl."""
    about = ("gpu", "torch", "verl", "plugin")
    return {name: one.found for name, one in checks.items() if name.startswith(about) and not one.ok}


def test_host_whose_gpus_work_passes_and_is_described(tried: Try) -> None:
    checks = tried()
    assert wrong(checks) == {}
    gpu = "NVIDIA H100, 81559 MiB, 580.65.06"
    assert checks["gpu"].found == f"{gpu}; {gpu}, 2 seen by torch"
    assert checks["gpu driver"].found == "runs up to CUDA 13.0"
    assert checks["gpu memory"].found == "70 of 80 GiB free; 70 of 80 GiB free"
    assert checks["gpu nccl"].found == "2.28.9, a sum over 2 GPUs"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"driver": 12040}, {"gpu driver": "runs up to CUDA 12.4"}),
        ({"free_gib": [70, 3]}, {"gpu memory": "70 of 80 GiB free; 3 of 80 GiB free"}),
        (
            {"broken": [1]},
            {
                "gpu arithmetic": "GPU 1: CUDA error: no kernel image is available for execution on the device",
                "gpu nccl": "RuntimeError: CUDA error: no kernel image is available for execution on the device",
            },
        ),
        ({"wrong": [0]}, {"gpu arithmetic": "GPU 0: it computes wrongly"}),
        ({"nccl": "fails"}, {"gpu nccl": "RuntimeError: NCCL Error 2: unhandled system error"}),
        ({"cuda": None, "version": "2.13.0+cpu"}, {"torch": "2.13.0+cpu, CUDA none"}),
    ],
)
def test_what_does_not_work_there_is_named(tried: Try, said: dict[str, Any], expected: dict[str, str]) -> None:
    checks = tried(**said)
    assert wrong(checks) == expected
    assert all(checks[name].fix for name in expected)


def test_host_without_a_driver_says_so(tried: Try) -> None:
    checks = tried(driver=None)
    assert wrong(checks) == {"gpu driver": "no driver"}
    assert "580" in checks["gpu driver"].fix
