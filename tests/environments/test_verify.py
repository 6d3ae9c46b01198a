"""``verify`` and ``verify_env.py``: what is installed, against what was pinned, and whether it works."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.environments import Check, Report, verify
from verl_lab.environments.verify import _packages, _role_of
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable

SCRIPT = Path(__file__).parents[2] / "environments" / "verify_env.py"


def by_name(report: Report) -> dict[str, Check]:
    return {check.name: check for check in report.checks}


def test_the_environment_of_these_tests_trains_on_the_cpu_with_our_plugin() -> None:
    checks = by_name(verify("cpu"))
    assert set(checks) == {"python", "packages", "verl-lab", "sqlite", "torch", "verl", "plugin", "gpu"}
    wrong = [check for check in checks.values() if not check.ok and check.name != "packages"]
    assert wrong == []
    assert "CUDA none" in checks["torch"].found


def test_an_empty_environment_fails_every_check_on_packages(make_venv: Callable[[Path], Path], tmp_path: Path) -> None:
    report = verify("cpu", python=str(make_venv(tmp_path / "env")))
    checks = by_name(report)
    assert not report.ok
    assert {name for name, check in checks.items() if check.ok} >= {"python", "sqlite", "gpu"}
    assert {name for name, check in checks.items() if not check.ok} >= {"packages", "verl-lab", "torch", "verl"}
    assert "missing" in checks["packages"].found
    assert checks["torch"].found == "ModuleNotFoundError: No module named 'torch'"
    assert "setup_local_env.sh cpu" in str(report)
    assert json.loads(json.dumps(report.to_dict()))["ok"] is False


def test_a_role_that_trains_wants_a_gpu_and_the_others_do_not(
    make_venv: Callable[[Path], Path], tmp_path: Path
) -> None:
    python = str(make_venv(tmp_path / "env"))
    assert not by_name(verify("training", python=python))["gpu"].ok
    assert "gpu" not in by_name(verify("manager", python=python))


def test_the_role_is_taken_from_what_is_installed(make_venv: Callable[[Path], Path], tmp_path: Path) -> None:
    assert verify(python=str(make_venv(tmp_path / "env"))).role == "base"
    assert _role_of({"jupyterlab": "4"}) == "manager"
    assert _role_of({"jupyterlab": "4", "verl": "0.9.1"}) == "cpu"
    assert _role_of({"jupyterlab": "4", "verl": "0.9.1", "vllm": "0.24.0"}) == "training"


def test_packages_that_differ_are_named_with_both_versions() -> None:
    installed = {"numpy": "2.1", "torch": "2.13.0+cpu"}
    check = _packages(installed, {"numpy": "2.4", "ray": "2.60", "torch": "2.13.0"}, "fix", "cpu.txt")
    assert check.found == "2 of 3 differ: numpy 2.1 (not 2.4), ray missing (not 2.60)"
    assert _packages({"numpy": "2.4"}, {"numpy": "2.4"}, "fix", "cpu.txt").ok
    many = _packages({}, {f"p{i}": "1" for i in range(10)}, "fix", "cpu.txt")
    assert many.found.endswith("and 4 more")


def test_unknown_roles_and_interpreters_are_refused(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match=r"'manger'.*\n.*manager"):
        verify("manger")
    with pytest.raises(InvalidInputError, match="does not run"):
        verify("base", python=str(tmp_path / "python"))
    with pytest.raises(InvalidInputError, match="not a Python"):
        verify("base", python="/bin/true")


def test_a_report_shows_text_only() -> None:
    payload = "<img src=x onerror=alert(1)>"
    html = Report(
        payload, payload, (Check(payload, ok=False, found=payload, wanted=payload, fix=payload),)
    )._repr_html_()
    assert "<img" not in html
    assert html.count("&lt;img") == 7


def test_the_script_answers_where_verl_lab_cannot_be_imported(
    make_venv: Callable[[Path], Path], tmp_path: Path
) -> None:
    python = make_venv(tmp_path / "env")
    done = subprocess.run([python, SCRIPT, "--json"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    (check,) = json.loads(done.stdout)["checks"]
    assert "not importable: No module named" in check["found"]
    done = subprocess.run([python, SCRIPT], capture_output=True, text=True, check=False)
    assert "setup_local_env.sh" in done.stdout


def test_the_script_exits_by_its_verdict() -> None:
    command = [sys.executable, SCRIPT, "--role", "base", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == (0 if json.loads(done.stdout)["ok"] else 1)
    done = subprocess.run([*command[:-2], "nothing"], capture_output=True, text=True, check=False)
    assert "The roles are base" in done.stderr
