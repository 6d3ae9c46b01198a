"""Rules about the source that no other tool holds: read from the syntax tree, imports inside functions included."""

from __future__ import annotations

import ast
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "verl_lab"
SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
SCRIPTS = sorted((ROOT / "environments").glob("*.py"))
GUEST = PACKAGE / "verl_plugin"
# Scripts that the Python that trains runs, and no room: nothing of ours imports them.
DEMO = PACKAGE / "demo"
# What only verl's own processes may load.
TRAINING = {"flash_attn", "peft", "ray", "tensordict", "torch", "transformers", "verl", "vllm"}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


@pytest.mark.parametrize("path", [path for path in SOURCES if {GUEST, DEMO}.isdisjoint(path.parents)], ids=named)
def test_torch_and_verl_are_imported_by_the_guest_alone(path: Path) -> None:
    names = set(imports(ast.parse(path.read_text())))
    assert {name.partition(".")[0] for name in names} & TRAINING == set()
    apart = ("verl_lab.verl_plugin", "verl_lab.demo")
    assert not {name for name in names if name.startswith(apart)}, "nobody imports the guest, or the demo's scripts"


@pytest.mark.parametrize(
    "name",
    [
        "launch/supervisor.py",
        "environments/probe.py",
        "datasets/far_program.py",
        "datasets/far_collect.py",
        "lab/hosts/probe.py",
    ],
)
def test_what_runs_on_any_host_imports_the_standard_library_alone(name: str) -> None:
    names = set(imports(ast.parse((PACKAGE / name).read_text())))
    assert {one.partition(".")[0] for one in names} - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_setup_scripts_import_the_standard_library_alone(path: Path) -> None:
    names = {one.partition(".")[0] for one in imports(ast.parse(path.read_text()))}
    allowed = {"verl_lab"} if path.name == "verify_env.py" else set[str]()
    assert names - set(sys.stdlib_module_names) <= allowed
