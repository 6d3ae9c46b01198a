"""The pinned requirement files: complete, hash-checked, contained in one another, and free of addresses."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from verl_lab.domain import wire
from verl_lab.environments.pins import ROLES, Versions, pins, requirements

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

FOLDER = Path(__file__).parents[2] / "environments"
LOCKS = sorted(FOLDER.glob("*.txt"))


@pytest.fixture(scope="module")
def lock_script(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("lock")


def markers(python: str, platform: str = "linux") -> dict[str, str]:
    return {
        "implementation_name": "cpython",
        "platform_python_implementation": "CPython",
        "platform_system": platform.title(),
        "platform_machine": "x86_64",
        "python_full_version": f"{python}.5",
        "python_version": python,
        "sys_platform": platform,
        "extra": "",
    }


def blocks(lock: Path) -> list[str]:
    """Return each requirement with its hashes."""
    lines = [line for line in lock.read_text().splitlines() if not line.lstrip().startswith("#")]
    return re.split(r"\n(?=\S)", "\n".join(lines).strip())


def test_every_role_and_no_other_has_a_lock() -> None:
    assert {path.stem for path in LOCKS} == {*ROLES, "build"}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_pins_one_version_with_hashes(lock: Path) -> None:
    for block in blocks(lock):
        first, *hashes = (line.removesuffix("\\").strip() for line in block.splitlines())
        (pin,) = Requirement(first).specifier
        assert pin.operator == "=="
        assert hashes
        assert all(re.fullmatch(r"--hash=sha256:[0-9a-f]{64}", line) for line in hashes)


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_no_lock_names_an_address_or_an_index(lock: Path) -> None:
    assert not re.search(r"://|--(extra-)?index-url|--find-links|file:", lock.read_text())


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_a_role_pins_each_package_once_on_each_python(role: str, python: str) -> None:
    holding = [one for one in requirements(role) if one.marker is None or one.marker.evaluate(dict(markers(python)))]
    found = [canonicalize_name(one.name) for one in holding]
    assert len(found) == len(set(found))
    assert "hydra-core" in found


@pytest.mark.parametrize(("small", "large"), [("base", "manager"), ("manager", "cpu"), ("cpu", "test")])
@pytest.mark.parametrize("python", ["3.10", "3.11", "3.12"])
def test_a_larger_role_holds_the_smaller_one_as_it_is(small: str, large: str, python: str) -> None:
    assert pins(small, markers(python)).items() <= pins(large, markers(python)).items()


@pytest.mark.parametrize("role", ["base", "manager", "cpu", "test"])
def test_a_machine_without_a_gpu_gets_nothing_of_cuda_from_a_lock(role: str) -> None:
    found = {canonicalize_name(one.name) for one in requirements(role)}
    assert not [name for name in found if re.match(r"(torch|triton)$|nvidia-(?!ml-py$)|cuda-", name)]


def test_what_torch_itself_imports_is_in_the_cpu_lock() -> None:
    plain = {"filelock", "typing-extensions", "sympy", "mpmath", "networkx", "jinja2", "markupsafe", "fsspec"}
    assert plain <= set(pins("cpu", markers("3.11")))


def test_versions_agree_with_the_locks() -> None:
    versions = Versions.load()
    verl = next(block for block in blocks(FOLDER / "cpu.txt") if block.startswith("verl=="))
    assert pins("cpu", markers("3.11"))["verl"] == pins("training", markers("3.11"))["verl"] == versions.verl
    assert f"--hash=sha256:{versions.verl_sha256}" in verl
    assert versions.verl_source == f"verl-{versions.verl}-py3-none-any.whl"
    assert pins("training", markers("3.11"))["torch"] == versions.torch["training"]
    in_file = (FOLDER / "cpu.in").read_text()
    assert f"torch=={versions.torch['cpu']}" in in_file
    assert versions.torch["test"] == versions.torch["cpu"]


def test_the_record_format_is_the_one_this_release_was_made_for() -> None:
    assert json.loads((FOLDER / "version.json").read_text())["plugin_format"] == wire.FORMAT_VERSION


def test_only_what_the_cuda_build_needs_is_left_out(lock_script: ModuleType) -> None:
    annotated = """\
cuda-a==1 ; sys_platform == 'linux'
    # via torch
cuda-loop==1 ; sys_platform == 'linux'
    # via
    #   cuda-a
    #   cuda-other
cuda-other==1 ; sys_platform == 'linux'
    # via cuda-loop
linux-tool==1 ; sys_platform == 'linux'
    # via
    #   ray
    #   torch
numpy==2
    # via
    #   -r base.in
    #   cuda-a
ray==2 ; sys_platform == 'darwin' or sys_platform == 'linux'
    # via verl
shared==1 ; sys_platform == 'linux'
    # via
    #   cuda-a
    #   ray
sympy==1 ; sys_platform == 'darwin' or sys_platform == 'linux'
    # via torch
torch==2
    # via -r cpu.in
verl==0.9.1
    # via -r cpu.in
"""
    assert lock_script.cuda_only(annotated) == {"torch", "cuda-a", "cuda-loop", "cuda-other"}


def test_a_lock_without_torch_loses_nothing(lock_script: ModuleType) -> None:
    assert lock_script.cuda_only("numpy==2\n    # via -r base.in\n") == set()


def asked_for(name: str) -> set[str]:
    """Return the packages an ``.in`` file names, with those of the files it builds on."""
    found: set[str] = set()
    for line in (FOLDER / f"{name}.in").read_text().splitlines():
        if line.startswith("-r "):
            found |= asked_for(line.removeprefix("-r ").strip().removesuffix(".in"))
        elif line[:1].isalnum():
            found.add(canonicalize_name(Requirement(line.partition("#")[0].strip()).name))
    return found


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.stem)
def test_a_lock_is_not_older_than_what_its_role_asks_for(lock: Path) -> None:
    held = {
        canonicalize_name(Requirement(block.splitlines()[0].removesuffix("\\").strip()).name) for block in blocks(lock)
    }
    step_of_its_own = set[str]() if lock.stem == "training" else {"torch"}
    assert asked_for(lock.stem) - step_of_its_own <= held, "run `make lock`"
