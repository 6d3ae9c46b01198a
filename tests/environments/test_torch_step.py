"""torch on a machine without a GPU: the CPU build or a refusal, never gigabytes of CUDA packages."""

from __future__ import annotations

import os
import platform
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SCRIPT = Path(__file__).parents[2] / "environments" / "install_torch.py"
CUDA = ("filelock", 'nvidia-cudnn-cu13==9.20; platform_system == "Linux"')

pytestmark = pytest.mark.skipif(platform.system() != "Linux", reason="torch has CUDA builds for Linux alone")


@pytest.fixture
def offered(tmp_path: Path, make_venv: Callable[[Path], Path]) -> Callable[[], tuple[int, str]]:
    """Return a function that runs the step in a new environment, offered the wheels in ``tmp_path/wheels``."""
    python = make_venv(tmp_path / "env")

    def run() -> tuple[int, str]:
        pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_CONFIG_FILE": os.devnull}
        kept = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]}
        command = [python, SCRIPT, "2.13.0"]
        done = subprocess.run(command, env=kept | pip, capture_output=True, text=True, check=False)
        return done.returncode, done.stdout + done.stderr

    return run


def test_a_cpu_build_is_taken_and_its_source_announced(
    offered: Callable[[], tuple[int, str]], make_wheel: Callable[..., str], tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "torch", "2.13.0", CUDA)
    make_wheel(tmp_path / "wheels", "torch", "2.13.0+cpu", ("filelock",))
    code, output = offered()
    assert code == 0
    assert "taking what pip is configured to find" in output
    assert "installing torch-2.13.0+cpu" in output
    assert offered() == (0, "torch 2.13.0+cpu is installed already\n")


def test_a_cuda_build_is_refused_with_what_to_do(
    offered: Callable[[], tuple[int, str]], make_wheel: Callable[..., str], tmp_path: Path
) -> None:
    make_wheel(tmp_path / "wheels", "torch", "2.13.0", CUDA)
    code, output = offered()
    assert code == 1
    assert "torch-2.13.0-py3-none-any.whl is a CUDA build" in output
    assert "PIP_FIND_LINKS" in output
    assert not list((tmp_path / "env").glob("lib/python*/site-packages/torch*"))


def test_no_build_at_all_is_said_with_pips_reason(offered: Callable[[], tuple[int, str]]) -> None:
    code, output = offered()
    assert code == 1
    assert "No matching distribution found for torch==2.13.0" in output


def test_an_installed_cuda_build_is_replaced(
    offered: Callable[[], tuple[int, str]], make_wheel: Callable[..., str], tmp_path: Path
) -> None:
    make_wheel(tmp_path / "cuda", "torch", "2.13.0", CUDA)
    install = [tmp_path / "env" / "bin" / "python", "-m", "pip", "install", "--no-deps", "--no-index", "--quiet"]
    subprocess.run([*install, *(tmp_path / "cuda").iterdir()], check=True)
    make_wheel(tmp_path / "wheels", "torch", "2.13.0+cpu")
    code, output = offered()
    assert (code, "Successfully installed torch-2.13.0+cpu" in output) == (0, True)


def test_cuda_is_recognised_by_what_a_wheel_requires(script: Callable[[str], ModuleType]) -> None:
    step = script("install_torch")
    assert step.needs_cuda(list(CUDA))
    assert step.needs_cuda(["cuda-bindings<14,>=13"])
    assert not step.needs_cuda(["filelock", "sympy>=1.13.3", 'optree>=0.13.0; extra == "optree"'])
