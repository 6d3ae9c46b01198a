"""Small real environments and wheels for the tests of the setup scripts."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.environments import setup_log

sys.path.append(str(Path(__file__).parent))
from tiny_release import TinyRelease

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import ModuleType

SCRIPTS = Path(__file__).parents[2] / "environments"


@pytest.fixture(scope="session")
def script() -> Callable[[str], ModuleType]:
    """Return a function that loads one of the setup scripts."""

    def load(name: str) -> ModuleType:
        spec = importlib.util.spec_from_file_location(f"setup_script_{name}", SCRIPTS / f"{name}.py")
        assert spec
        assert spec.loader
        module = importlib.util.module_from_spec(spec)
        sys.modules[spec.name] = module  # where dataclasses look for it
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture
def make_venv(tmp_path: Path) -> Callable[[Path], Path]:
    """Return a function that makes an environment with pip and nothing else, and returns its interpreter."""

    def make(folder: Path) -> Path:
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
        # pip itself is borrowed, which is ten times faster than installing it.
        borrowed = tmp_path / "borrowed"
        borrowed.mkdir(exist_ok=True)
        if not (borrowed / "pip").exists():
            (borrowed / "pip").symlink_to(Path(sysconfig.get_path("purelib")) / "pip")
        (site,) = folder.glob("lib/python*/site-packages")
        (site / "borrowed.pth").write_text(f"{borrowed}\n")
        return folder / "bin" / "python"

    return make


@pytest.fixture
def make_wheel() -> Callable[..., str]:
    """Return a function that writes a wheel of one empty module and returns its sha256."""

    def make(folder: Path, name: str, version: str, requires: tuple[str, ...] = ()) -> str:
        folder.mkdir(parents=True, exist_ok=True)
        info = f"{name}-{version}.dist-info"
        needs = "".join(f"Requires-Dist: {one}\n" for one in requires)
        files = {
            f"{name}.py": "",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n{needs}",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
        wheel = folder / f"{name}-{version}-py3-none-any.whl"
        with zipfile.ZipFile(wheel, "w") as archive:
            for path, text in files.items():
                archive.writestr(path, text)
        return hashlib.sha256(wheel.read_bytes()).hexdigest()

    return make


@pytest.fixture
def tiny(tmp_path: Path, make_wheel: Callable[..., str], monkeypatch: pytest.MonkeyPatch) -> TinyRelease:
    """Return a release that is installed in a second, and is to be had on this machine alone."""
    release = TinyRelease(tmp_path / "release", tmp_path / "wheels", make_wheel)
    release.make_quick(tmp_path / "release")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "wheels"))
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setattr(setup_log, "POLL_S", 0.02)
    return release
