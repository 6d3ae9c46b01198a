"""What the probe finds about GPUs, judged: driver against torch's build, memory, arithmetic, NCCL."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.environments.gpu import GIB, gpu_checks
from verl_lab.environments.verify import PROBE

if TYPE_CHECKING:
    from collections.abc import Callable

SOUND: dict[str, Any] = {
    "driver": "13.0",
    "torch": {"version": "2.11.0+cu130", "cuda": "13.0", "devices": 2},
    "devices": [{"error": None, "free_bytes": 70 * GIB, "total_bytes": 80 * GIB} for _ in range(2)],
    "nccl": {"version": "2.28.9", "gpus": 2, "error": None},
}


def failing(found: dict[str, Any], built_for: str = "13.0") -> dict[str, str]:
    return {check.name: check.found for check in gpu_checks(found, built_for) if not check.ok}


def test_a_sound_machine_passes_and_is_described() -> None:
    checks = {check.name: check for check in gpu_checks(SOUND, "13.0")}
    assert [name for name, check in checks.items() if check.ok] == list(checks)
    assert checks["gpu driver"].found == "runs up to CUDA 13.0"
    assert checks["gpu arithmetic"].found == "a product of matrices on 2 GPUs"
    assert checks["gpu memory"].found == "70 of 80 GiB free; 70 of 80 GiB free"
    assert checks["gpu nccl"].found == "2.28.9, a sum over 2 GPUs"


@pytest.mark.parametrize(
    ("driver", "built_for", "is_enough"),
    [
        ("12.4", "13.0", False),
        ("13.2", "13.0", True),
        ("13.0", "13.2", True),
        ("12.2", "12.8", True),
        (None, "12.8", False),
    ],
)
def test_a_driver_runs_what_is_built_for_its_own_major_version_or_an_older_one(
    driver: str | None,
    built_for: str,
    is_enough: bool,  # noqa: FBT001
) -> None:
    (check,) = (check for check in gpu_checks({**SOUND, "driver": driver}, built_for) if check.name == "gpu driver")
    assert check.ok is is_enough
    needed = {"12.8": "525", "13.0": "580", "13.2": "580"}[built_for]
    assert check.fix == f"Ask for NVIDIA driver {needed} or later."


def with_change(change: Callable[[dict[str, Any]], object]) -> dict[str, Any]:
    found = copy.deepcopy(SOUND)
    change(found)
    return found


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        (
            lambda found: found["devices"][1].update(free_bytes=3 * GIB),
            {"gpu memory": "70 of 80 GiB free; 3 of 80 GiB free"},
        ),
        (
            lambda found: found["devices"][0].update(error="no kernel image"),
            {"gpu arithmetic": "GPU 0: no kernel image"},
        ),
        (lambda found: found.update(nccl={"error": "no answer in 60 s"}), {"gpu nccl": "no answer in 60 s"}),
        (lambda found: found.pop("nccl"), {"gpu nccl": "the process ended while trying"}),
        (lambda found: found.update(devices={"error": "no answer in 60 s"}), {"gpu arithmetic": "no answer in 60 s"}),
    ],
)
def test_what_does_not_work_is_named(change: Callable[[dict[str, Any]], object], wrong: dict[str, str]) -> None:
    assert failing(with_change(change)) == wrong


def test_where_torch_sees_no_gpu_only_the_driver_is_judged() -> None:
    assert failing({"driver": "12.4", "torch": {"devices": 0}}) == {"gpu driver": "runs up to CUDA 12.4"}
    assert list(gpu_checks(SOUND, None)) == []


def test_the_probe_tells_of_an_interpreter_alone_at_once() -> None:
    done = subprocess.run([sys.executable, "-I", PROBE, "--interpreter"], capture_output=True, text=True, check=True)
    found = {one["name"]: one["finding"] for one in map(json.loads, done.stdout.splitlines())}
    assert set(found) == {"python", "markers", "base"}
    assert found["base"]["makes_environments"] is True
    assert found["base"]["pointer_bytes"] == 8


@pytest.mark.gpu
def test_this_machines_gpus_do_what_training_asks_of_them() -> None:
    done = subprocess.run([sys.executable, PROBE, "--deep"], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith('{"name": ')]
    found = {one["name"]: one["finding"] for one in map(json.loads, lines)}
    assert set(failing(found, found["torch"]["cuda"])) <= {"gpu memory"}
