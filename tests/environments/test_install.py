"""The stamp that makes a second run cheap, and what happens to an environment that is not whole."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from types import ModuleType

SCRIPTS = Path(__file__).parents[2] / "environments"
MakeVenv = Callable[[Path], Path]


@pytest.fixture
def install(script: Callable[[str], ModuleType]) -> ModuleType:
    return script("install")


@pytest.fixture
def installed(install: ModuleType, make_venv: MakeVenv, tmp_path: Path) -> Callable[[str], Any]:
    """Return a function that gives an environment of ours with ``role`` installed."""

    def make(role: str) -> Any:
        env = install.Environment(tmp_path / "env")
        env.notes.mkdir(parents=True)
        assert env.begin(role, other_python=False)
        make_venv(env.venv)
        env.end(role)
        return env

    return make


def test_a_role_counts_for_the_smaller_ones_it_contains(installed: Callable[[str], Any]) -> None:
    env = installed("cpu")
    assert [role for role in ("base", "manager", "cpu", "test", "training") if env.has(role)] == [
        "base",
        "manager",
        "cpu",
    ]


def test_an_install_counts_only_when_it_has_ended(installed: Callable[[str], Any]) -> None:
    env = installed("cpu")
    env.begin("test", other_python=False)
    assert not env.has("cpu")


def test_another_lock_python_or_place_makes_the_stamp_void(installed: Callable[[str], Any]) -> None:
    env = installed("cpu")
    stamp = env.notes / "stamp.json"
    good = json.loads(stamp.read_text())
    for field in ("inputs", "python", "venv", "repository"):
        stamp.write_text(json.dumps(good | {field: "other"}))
        assert not env.has("cpu"), field
    stamp.write_text(json.dumps(good)[:20])
    assert not env.has("cpu")
    stamp.write_text(json.dumps(good))
    assert env.has("cpu")


@pytest.mark.parametrize("file", ["build.txt", "cpu.txt", "version.json", "install_torch.py", "../pyproject.toml"])
def test_the_stamp_depends_on_each_input(
    file: str, install: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = tmp_path / "repository" / "environments"
    shutil.copytree(SCRIPTS, copy, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(SCRIPTS.parent / "pyproject.toml", copy.parent)
    monkeypatch.setattr(install, "HERE", copy)
    before = install.inputs("cpu")
    (copy / file).write_text((copy / file).read_text() + "\n")
    assert install.inputs("cpu") != before


def test_an_environment_of_ours_without_its_python_is_made_anew(installed: Callable[[str], Any]) -> None:
    env = installed("cpu")
    env.python.unlink()
    assert not env.has("cpu")
    assert env.begin("cpu", other_python=False)
    assert env.contents() == set()
    assert (env.notes / "made").exists()


def test_an_interrupted_install_of_ours_is_made_anew(installed: Callable[[str], Any]) -> None:
    env = installed("cpu")
    assert not env.begin("test", other_python=False), "a whole one is added to"
    assert env.begin("test", other_python=False), "a half one is not"
    assert env.contents() == set()


def test_a_moved_environment_is_made_anew(installed: Callable[[str], Any], install: ModuleType, tmp_path: Path) -> None:
    env = installed("cpu")
    moved = install.Environment(env.venv.rename(tmp_path / "elsewhere"))
    assert not moved.has("cpu")
    assert moved.begin("cpu", other_python=False)


def test_another_python_is_taken_when_it_is_named(installed: Callable[[str], Any]) -> None:
    assert installed("cpu").begin("cpu", other_python=True)


def test_a_users_own_environment_is_installed_into(install: ModuleType, make_venv: MakeVenv, tmp_path: Path) -> None:
    env = install.Environment(tmp_path / "own")
    make_venv(env.venv)
    env.notes.mkdir()
    assert not env.begin("base", other_python=False)
    assert env.python.exists()


def test_a_users_own_environment_is_never_removed(install: ModuleType, make_venv: MakeVenv, tmp_path: Path) -> None:
    env = install.Environment(tmp_path / "own")
    make_venv(env.venv)
    env.notes.mkdir()
    env.begin("base", other_python=False)
    with pytest.raises(install.SetupError, match=r"interrupted.*not made by this script"):
        env.begin("base", other_python=False)
    assert env.python.exists()


def test_a_folder_that_is_no_environment_is_refused_and_left_alone(install: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("words")
    with pytest.raises(install.SetupError, match="something else than an environment"):
        install.set_up("base", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


@pytest.fixture
def repository(tmp_path: Path, make_wheel: Callable[..., str]) -> Path:
    """Make a small repository with the real setup scripts, one pinned package, and a build that can be held up."""
    root = tmp_path / "repository"
    folder = root / "environments"
    folder.mkdir(parents=True)
    for name in ("setup_local_env.sh", "install.py", "install_torch.py"):
        shutil.copy(SCRIPTS / name, folder)
    digest = make_wheel(tmp_path / "wheels", "tinything", "1.0")
    (folder / "build.txt").write_text("# nothing\n")
    (folder / "base.txt").write_text(f"tinything==1.0 \\\n    --hash=sha256:{digest}\n")
    (folder / "version.json").write_text('{"torch": {}}')
    (folder / "verify_env.py").write_text("import tinything\nprint('{\"checks\": []}')\n")
    (root / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
        '[project]\nname = "example"\nversion = "1.0"\n'
    )
    make_wheel(root, "example", "1.0")
    (root / "backend.py").write_text(
        "import os, pathlib, shutil, time\n"
        "def build_editable(folder, settings=None, metadata=None):\n"
        "    here = pathlib.Path(__file__).parent\n"
        "    if 'HOLD' in os.environ:\n"
        "        (here / 'holding').touch()\n"
        "        while not (here / 'release').exists(): time.sleep(0.02)\n"
        "    name = 'example-1.0-py3-none-any.whl'\n"
        "    shutil.copy(here / name, folder)\n"
        "    return name\n"
    )
    return root


def start(repository: Path, *arguments: str, **extra: str) -> subprocess.Popen[str]:
    command = [str(repository / "environments" / "setup_local_env.sh"), *arguments]
    wheels = str(repository.parent / "wheels")
    pip = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": wheels, "PIP_CONFIG_FILE": os.devnull}
    kept = {"HOME": os.environ["HOME"], "PATH": os.environ["PATH"]}
    return subprocess.Popen(
        command,
        env=kept | pip | extra,
        text=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run(repository: Path, *arguments: str) -> tuple[int, str]:
    process = start(repository, *arguments)
    output, _ = process.communicate(timeout=300)
    return process.returncode, output


def test_a_killed_install_is_waited_for_and_repaired_and_then_nothing_is_left_to_do(repository: Path) -> None:
    killed = start(repository, "base", HOLD="1")
    while not (repository / "holding").exists():
        assert killed.poll() is None, killed.communicate()[0]
        time.sleep(0.05)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    # Its pip still works in the folder: whoever comes next must not take the ground from under it.
    second = start(repository, "base")
    assert second.stdout
    seen = second.stdout.readline()
    assert "another install is at work" in seen
    (repository / "release").touch()
    output, _ = second.communicate(timeout=300)
    assert second.returncode == 0, output
    assert "an install into it was interrupted; making it anew" in output

    log = repository / "build" / "setup-base.log"
    log.unlink()
    code, output = run(repository, "base")
    assert (code, "holds role base already" in output) == (0, True)
    assert not log.exists(), "nothing was run"


def test_a_file_with_another_hash_fails_the_install_and_leaves_it_unfinished(repository: Path) -> None:
    (repository / "environments" / "base.txt").write_text("tinything==1.0 \\\n    --hash=sha256:" + "0" * 64 + "\n")
    code, output = run(repository, "base")
    assert code == 1
    assert "THESE PACKAGES DO NOT MATCH THE HASHES" in output
    assert f"The whole log: {repository / 'build' / 'setup-base.log'}" in output
    assert (repository / ".venv" / ".verl-lab" / "unfinished").exists()


def test_a_wrong_python_or_role_is_said_in_a_line(repository: Path) -> None:
    process = start(repository, "base", PYTHON="/nowhere/python")
    assert "PYTHON=/nowhere/python does not exist" in process.communicate()[0]
    assert process.returncode == 1
    code, output = run(repository, "laptop")
    assert code == 2
    assert "invalid choice: 'laptop'" in output
    assert not (repository / ".venv").exists()
