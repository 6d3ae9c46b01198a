"""verl loads the plugin by its entry point, or the training command says that it did not."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from verl_lab.domain.wire import EventRecord
from verl_lab.verl_plugin.attempt import Attempt

if TYPE_CHECKING:
    from pathlib import Path

ReadEvents = Callable[[Attempt], list[EventRecord]]

IMPORT_VERL = """
import sys
import verl
from verl.plugin.platform import get_platform
from verl.plugin.platform.platform_manager import PlatformRegistry, _detect_platform_name
assert "verl_lab.verl_plugin.entry" in sys.modules
print(get_platform().device_name, _detect_platform_name(), "cpu" in PlatformRegistry.registered_names())
"""


def run(argv: list[str], environment: dict[str, str], **extra: str) -> subprocess.CompletedProcess[str]:
    mine = {name: value for name, value in os.environ.items() if not name.startswith(("VERL_", "RANK"))}
    return subprocess.run(
        [sys.executable, *argv], env={**mine, **environment, **extra}, capture_output=True, text=True, check=False
    )


def test_verl_finds_the_platform_when_it_is_asked_for(tmp_path: Path) -> None:
    done = run(["-c", IMPORT_VERL], {}, VERL_PLATFORM="cpu", TMPDIR=str(tmp_path))
    assert done.stdout.split() == ["cpu", "cpu", "True"], done.stderr


def test_verl_never_detects_the_cpu_on_its_own(tmp_path: Path) -> None:
    done = run(["-c", IMPORT_VERL.replace("get_platform().device_name", "'-'")], {}, TMPDIR=str(tmp_path))
    assert done.stdout.split()[1] != "cpu", done.stderr


def test_training_refuses_to_begin_when_verl_did_not_load_the_plugin(
    attempt: Attempt, attempt_environment: dict[str, str], read_events: ReadEvents
) -> None:
    done = run(["-m", "verl_lab.verl_plugin.train_ppo"], attempt_environment, VERL_USE_EXTERNAL_PLUGINS="none")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("verl-lab: verl did not load the verl-lab plugin.")
    assert "Traceback" not in done.stderr
    (event,) = read_events(attempt)
    assert event.kind == "plugin_failed"


def test_plugin_that_breaks_while_loading_leaves_its_traceback(
    tmp_path: Path, attempt: Attempt, attempt_environment: dict[str, str], read_events: ReadEvents
) -> None:
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['verl_lab.verl_plugin.log_watch'] = None\n")
    done = run(["-m", "verl_lab.verl_plugin.train_sft"], attempt_environment, PYTHONPATH=str(tmp_path))
    assert done.returncode == 1
    broken, noticed = read_events(attempt)
    assert (broken.kind, noticed.kind) == ("plugin_failed", "plugin_failed")
    assert "log_watch" in broken.data["traceback"]


def test_callback_that_cannot_be_imported_ends_the_launch_before_training(
    attempt: Attempt, attempt_environment: dict[str, str], read_events: ReadEvents
) -> None:
    done = run(
        ["-m", "verl_lab.verl_plugin.train_sft"],
        attempt_environment,
        VERL_LAB_CALLBACKS="nowhere.Callback",
        VERL_PLATFORM="cpu",
    )
    assert done.returncode == 1
    assert "'nowhere.Callback' cannot be imported" in done.stderr.splitlines()[-1]
    assert [event.kind for event in read_events(attempt)] == ["exception"]


def test_naming_the_callback_class_loads_neither_verl_nor_torch() -> None:
    code = "import sys, verl_lab.verl_plugin; print(sorted({'verl', 'torch', 'ray', 'hydra'} & set(sys.modules)))"
    assert run(["-c", code], {}).stdout.strip() == "[]"
