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
# What only verl's own processes may load.
TRAINING = {"flash_attn", "peft", "ray", "tensordict", "torch", "transformers", "verl", "vllm"}
FORBIDDEN = {
    *("eval", "exec", "os.popen", "os.system", "pickle.load", "pickle.loads", "subprocess.getoutput"),
    *("yaml.full_load", "yaml.load_all", "yaml.unsafe_load"),
}


def named(path: Path) -> str:
    return str(path.relative_to(ROOT))


def imports(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield "." * node.level + (node.module or "")


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def safe_loaders(tree: ast.AST) -> set[str]:
    """Name PyYAML's safe loaders and what a module derives from them."""
    known = {"yaml.SafeLoader", "yaml.CSafeLoader"}
    derived = (n for n in ast.walk(tree) if isinstance(n, ast.ClassDef) and {ast.unparse(b) for b in n.bases} & known)
    return known | {node.name for node in derived}


def unsafe_calls(tree: ast.AST) -> list[str]:
    """Name the calls that give a string to a shell, or build any object a file asks for."""
    found: list[str] = []
    for name, node in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in node.keywords}
        unsafe = name in FORBIDDEN or keywords.get("shell", "False") != "False"
        if name == "yaml.load":
            unsafe = keywords.get("Loader") not in safe_loaders(tree)
        if unsafe:
            found.append(f"line {node.lineno}: {ast.unparse(node)}")
    return found


@pytest.mark.parametrize("path", [*SOURCES, *SCRIPTS], ids=named)
def test_nothing_goes_through_a_shell_or_an_unsafe_loader(path: Path) -> None:
    assert unsafe_calls(ast.parse(path.read_text())) == []


def test_unsafe_calls_are_recognised() -> None:
    bad = ["subprocess.run(x, shell=True)", "os.system(x)", "yaml.load(x)", "yaml.load(x, yaml.Loader)", "eval(x)"]
    assert [len(unsafe_calls(ast.parse(line))) for line in bad] == [1] * len(bad)
    assert unsafe_calls(ast.parse("yaml.load(x, Loader=yaml.CSafeLoader); subprocess.run(x, shell=False)")) == []


@pytest.mark.parametrize("path", [path for path in SOURCES if GUEST not in path.parents], ids=named)
def test_torch_and_verl_are_imported_by_the_guest_alone(path: Path) -> None:
    names = set(imports(ast.parse(path.read_text())))
    assert {name.partition(".")[0] for name in names} & TRAINING == set()
    assert not {name for name in names if name.startswith("verl_lab.verl_plugin")}, "nobody imports the guest"


@pytest.mark.parametrize("name", ["launch/supervisor.py", "environments/probe.py"])
def test_what_runs_on_any_host_imports_the_standard_library_alone(name: str) -> None:
    names = set(imports(ast.parse((PACKAGE / name).read_text())))
    assert {one.partition(".")[0] for one in names} - set(sys.stdlib_module_names) == set()


@pytest.mark.parametrize("path", SCRIPTS, ids=named)
def test_setup_scripts_import_the_standard_library_alone(path: Path) -> None:
    names = {one.partition(".")[0] for one in imports(ast.parse(path.read_text()))}
    allowed = {"verl_lab"} if path.name == "verify_env.py" else set[str]()
    assert names - set(sys.stdlib_module_names) <= allowed
