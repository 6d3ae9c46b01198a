"""What is said twice must agree: pyproject, the ``.in`` files, the rooms and the tools' lists of them."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import verl_lab
from verl_lab.environments.pins import Versions

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
ROOMS = {
    f"verl_lab.{path.stem}"
    for path in (ROOT / "verl_lab").iterdir()
    if path.stem[0] != "_" and (path.suffix == ".py" or (path / "__init__.py").exists())
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(one).name) for one in requirements}


def in_file(name: str) -> list[str]:
    lines = (ROOT / "environments" / f"{name}.in").read_text().splitlines()
    return [line.partition("#")[0].strip() for line in lines if line[:1].isalnum()]


def test_pyproject_and_the_in_files_name_the_same_packages() -> None:
    project = PYPROJECT["project"]
    assert names(project["dependencies"]) == names([*in_file("base"), *in_file("manager")])
    assert names(project["optional-dependencies"]["verl"]) == names(in_file("verl"))


@pytest.mark.parametrize("file", ["base", "manager", "verl"])
def test_what_an_in_file_rules_out_pyproject_rules_out(file: str) -> None:
    project = PYPROJECT["project"]
    declared = [*project["dependencies"], *sum(project["optional-dependencies"].values(), list[str]())]
    allowed = {(canonicalize_name(one.name), str(one.marker)): str(one.specifier) for one in map(Requirement, declared)}
    for one in map(Requirement, in_file(file)):
        for clause in one.specifier:
            assert str(clause) in allowed[canonicalize_name(one.name), str(one.marker)]


def test_every_room_is_under_the_rule_that_keeps_torch_out() -> None:
    rules = {rule["name"]: rule for rule in PYPROJECT["tool"]["importlinter"]["contracts"]}
    rule = next(rule for name, rule in rules.items() if name.startswith("verl, torch and ray"))
    assert set(rule["source_modules"]) == ROOMS - {"verl_lab.verl_plugin"}


def test_the_guest_is_kept_from_every_room_but_the_pure_ones() -> None:
    rules = PYPROJECT["tool"]["importlinter"]["contracts"]
    rule = next(rule for rule in rules if rule.get("source_modules") == ["verl_lab.verl_plugin"])
    pure = {"verl_lab.diagnostics", "verl_lab.domain", "verl_lab.errors", "verl_lab.inputs"}
    assert set(rule["forbidden_modules"]) == ROOMS - pure - {"verl_lab.verl_plugin"}


def test_no_architecture_rule_has_an_exception() -> None:
    assert not [rule for rule in PYPROJECT["tool"]["importlinter"]["contracts"] if "ignore_imports" in rule]


def test_every_ignored_style_rule_has_a_reason() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    ignored = re.findall(r'^  "[A-Z]+[0-9]*",.*$', text, re.MULTILINE)
    assert ignored
    assert not [line for line in ignored if "#" not in line]


def test_the_version_is_said_once() -> None:
    said = {
        PYPROJECT["project"]["version"],
        verl_lab.__version__,
        metadata.version("verl-lab"),
        Versions.load().verl_lab,
        json.loads((ROOT / "labextension" / "package.json").read_text())["version"],
    }
    assert len(said) == 1


def test_verl_finds_the_plugin_through_its_entry_point() -> None:
    (entry,) = [one for one in metadata.entry_points(group="verl.plugins") if one.name == "verl_lab"]
    assert entry.value == PYPROJECT["project"]["entry-points"]["verl.plugins"]["verl_lab"]
    assert (ROOT / Path(*entry.value.split("."))).with_suffix(".py").exists()


def test_a_wheel_holds_the_recipes_the_locks_and_the_data_of_each_room(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    done = subprocess.run(build, cwd=ROOT, capture_output=True, text=True, check=False, env=dict(os.environ))
    assert done.returncode == 0, done.stderr
    with zipfile.ZipFile(next(tmp_path.glob("*.whl"))) as wheel:
        held = set(wheel.namelist())
    made = {"__pycache__", "_labextension"}
    tracked = [path for path in (ROOT / "verl_lab").rglob("*") if path.is_file() and made.isdisjoint(path.parts)]
    assert {str(path.relative_to(ROOT)) for path in tracked} <= held
    for recipe in (ROOT / "recipes").glob("*.yaml"):
        assert f"verl_lab/recipes/builtin/{recipe.name}" in held
    assert {"verl_lab/environments/pinned/version.json", "verl_lab/environments/pinned/cpu.txt"} <= held
    data = f"verl_lab-{verl_lab.__version__}.data/data"
    assert f"{data}/etc/jupyter/jupyter_server_config.d/verl_lab.json" in held
    built = {name.removeprefix(f"{data}/share/jupyter/labextensions/verl-lab/") for name in held}
    assert {"package.json", "schemas/verl-lab/panel.json", "static/style.js"} <= built
    assert not [name for name in held if name.startswith("verl_lab/_labextension")], "it is there once"
