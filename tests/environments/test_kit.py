"""What is sent to a host: verl-lab as it is here as a wheel, and packages for another Python than this one."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import grimp
import pytest

from verl_lab.environments.kit import FROM_BESIDE, TRAINS, Kit, own_wheel
from verl_lab.environments.pins import folder, pins
from verl_lab.environments.wheels import Target, collect, pins_of
from verl_lab.errors import EnvironmentMismatchError

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).parents[2]
LINUX = {
    "platform_machine": "x86_64",
    "platform_system": "Linux",
    "platform_python_implementation": "CPython",
    "implementation_name": "cpython",
    "sys_platform": "linux",
    "os_name": "posix",
    "extra": "",
}


def target(version: str, libc: tuple[str, str] = ("glibc", "2.36"), macos: str = "", **other: str) -> Target:
    markers = {**LINUX, **other, "python_full_version": f"{version}.7", "python_version": version}
    return Target(markers, libc, macos)


def test_the_wheel_of_a_checkout_is_what_a_build_would_give(tmp_path: Path, make_venv: Callable[[Path], Path]) -> None:
    name, content = own_wheel()
    assert own_wheel() == (name, content), "the same content is the same file"
    wheel = tmp_path / name
    wheel.write_bytes(content)
    with zipfile.ZipFile(wheel) as archive:
        (listed,) = (one for one in archive.namelist() if one.endswith("/RECORD"))
        for path, digest, size in csv.reader(archive.read(listed).decode().splitlines()):
            if path != listed:
                there = archive.read(path)
                kept = base64.urlsafe_b64encode(hashlib.sha256(there).digest()).rstrip(b"=").decode()
                assert (digest, size) == (f"sha256={kept}", str(len(there))), path
        assert not [path for path in archive.namelist() if "__pycache__" in path]

    python = make_venv(tmp_path / "env")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--no-deps", "--no-index", wheel], check=True)
    code = (
        "import json; from importlib import metadata; from pathlib import Path; import verl_lab;"
        "root = Path(verl_lab.__file__).parent;"
        "named = [one.value for one in metadata.entry_points(group='verl.plugins')];"
        "print(json.dumps([str(root), named, len(list((root / 'recipes/builtin').glob('*.yaml'))),"
        "(root / 'environments/pinned/version.json').read_text()]))"
    )
    done = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True, cwd=tmp_path)
    root, plugins, recipes, versions = json.loads(done.stdout)
    assert root.startswith(str(tmp_path / "env"))
    assert plugins == ["verl_lab.verl_plugin.entry"]
    assert recipes == len(list((ROOT / "recipes").glob("*.yaml")))
    assert versions == (folder() / "version.json").read_text()


def test_what_the_build_takes_from_beside_the_package_is_known() -> None:
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    assert {inside: beside for beside, inside in built["force-include"].items()} == FROM_BESIDE


def test_all_that_training_imports_of_verl_lab_makes_the_difference() -> None:
    graph = grimp.build_graph("verl_lab")
    inside = {"verl_lab.verl_plugin", *graph.find_descendants("verl_lab.verl_plugin")}
    needed = {*inside, *graph.find_upstream_modules("verl_lab.verl_plugin", as_package=True)} - {"verl_lab"}
    parts = tuple(part.removesuffix(".py").rstrip("/") for part in TRAINS)
    assert [name for name in sorted(needed) if name.split(".")[1] not in parts] == []


def test_a_kit_tells_from_what_is_installed_what_is_not_the_same(tmp_path: Path) -> None:
    kit = Kit.of("training")
    assert kit.differences(kit.record) == []
    older = json.loads(json.dumps(kit.record))
    older["versions"]["verl"]["version"] = "0.9.0"
    older["versions"]["torch"]["training"] = "2.10.0"
    older["packages"] = "other"
    assert kit.differences(older) == [
        "verl 0.9.0 there, 0.9.1 here",
        f"torch 2.10.0 there, {kit.versions['torch']['training']} here",
    ]
    assert kit.differences({**kit.record, "packages": "other"}) == ["other packages there than training.txt names here"]
    assert kit.differences({**kit.record, "code": "other"}) == ["verl-lab's own code there is not the same as here"]
    assert len(kit.differences({})) == 4, "a record of another time has other fields"

    copy = tmp_path / "pinned"
    shutil.copytree(folder(), copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "training.txt").write_text((copy / "training.txt").read_text() + "\n")
    changed = Kit.of("training", copy)
    assert (changed.packages != kit.packages, changed.code == kit.code, changed.name != kit.name) == (True, True, True)


@pytest.mark.parametrize("role", ["build", "cpu", "training"])
@pytest.mark.parametrize("version", ["3.10", "3.12"])
def test_the_pins_for_another_python_are_those_that_it_installs(role: str, version: str) -> None:
    there = target(version)
    found = pins_of((folder() / f"{role}.txt").read_text(), there.markers)
    assert all(pin.hashes for pin in found)
    if role != "build":
        assert len(found) == len(pins(role, there.markers))
    names = {pin.requirement.partition("==")[0] for pin in found}
    assert ("tomli" in names) == (version == "3.10")


def test_the_tags_of_a_platform_are_all_that_run_on_it() -> None:
    assert target("3.11").pip_options[:2] == ["--python-version", "3.11.7"], "there are packages for 3.11.5 and later"
    named = target("3.11").platforms
    assert named[0] == "manylinux_2_36_x86_64"
    assert {"manylinux2014_x86_64", "manylinux_2_28_x86_64", "manylinux1_x86_64", "linux_x86_64"} <= set(named)
    assert "manylinux_2_37_x86_64" not in named
    assert target("3.11", ("musl", "1.2")).platforms == [f"musllinux_1_{minor}_x86_64" for minor in (2, 1, 0)]
    apple = target("3.11", ("", ""), "14.2", platform_machine="arm64", platform_system="Darwin").platforms
    assert {"macosx_14_0_arm64", "macosx_11_0_universal2"} <= set(apple)


def test_wheels_are_collected_for_the_other_python_and_not_fetched_twice(
    tmp_path: Path, make_wheel: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, pinned = tmp_path / "offered", tmp_path / "pinned"
    pinned.mkdir()
    plain = make_wheel(offered, "thing", "1.0")
    hashes = [plain]
    for tag in (
        "cp311-cp311-manylinux_2_28_x86_64",
        "cp312-cp312-manylinux_2_28_x86_64",
        "cp312-cp312-musllinux_1_2_x86_64",
    ):
        name = f"thing-1.0-{tag}.whl"
        (offered / name).write_bytes((offered / "thing-1.0-py3-none-any.whl").read_bytes() + b"\n" * len(hashes))
        hashes.append(hashlib.sha256((offered / name).read_bytes()).hexdigest())
    lines = "".join(f" \\\n    --hash=sha256:{one}" for one in hashes)
    (pinned / "build.txt").write_text("# nothing\n")
    (pinned / "cpu.txt").write_text(
        f"thing==1.0 ; python_full_version >= '3.12'{lines}\nother==1.0 ; python_full_version < '3.12'{lines}\n"
    )
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    said: list[str] = []
    found = collect(pinned, "cpu", None, target("3.12"), tmp_path / "cache", said.append)
    assert [path.name for path in found] == ["thing-1.0-cp312-cp312-manylinux_2_28_x86_64.whl"]
    shutil.rmtree(offered)
    said.clear()
    assert collect(pinned, "cpu", None, target("3.12"), tmp_path / "cache", said.append) == found
    assert said == []
    with pytest.raises(
        EnvironmentMismatchError, match=r"(?s)could not be fetched here.*No matching distribution.*index"
    ):
        collect(pinned, "cpu", None, target("3.12", ("musl", "1.2")), tmp_path / "cache", said.append)


def test_torch_is_collected_as_the_cpu_build_or_not_at_all(
    tmp_path: Path, make_wheel: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    offered, pinned = tmp_path / "offered", tmp_path / "pinned"
    pinned.mkdir()
    shutil.copy(folder() / "install_torch.py", pinned)
    for role in ("build", "cpu"):
        (pinned / f"{role}.txt").write_text("# nothing\n")
    make_wheel(offered, "torch", "2.13.0", ("nvidia-cudnn-cu13==9.20",))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(offered))
    arguments = (pinned, "cpu", "2.13.0", target("3.12"), tmp_path / "cache", [].append)
    with pytest.raises(EnvironmentMismatchError, match=r"(?s)is a CUDA build.*PIP_FIND_LINKS"):
        collect(*arguments)
    make_wheel(offered, "torch", "2.13.0+cpu")
    assert [path.name for path in collect(*arguments)] == ["torch-2.13.0+cpu-py3-none-any.whl"]
