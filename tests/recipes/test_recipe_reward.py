"""The reward function is called on a row before launch, in a process of its own."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.recipes import reward as reward_module
from verl_lab.recipes.validate import validate

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.domain.recipe import Problem
    from verl_lab.recipes.catalog import Catalog

SIGNATURE = "def compute_score(data_source, solution_str, ground_truth, extra_info=None"


@pytest.fixture
def judge(catalog: Catalog, inputs: Any, tmp_path: Path) -> Callable[..., list[Problem]]:
    """Return what says what is wrong with a reward function of a given source."""

    def problems(source: str, *overrides: str) -> list[Problem]:
        file = tmp_path / "reward.py"
        file.write_text(source)
        found = validate(catalog.get("grpo-cpu"), [*inputs.grpo, f"reward.path={file}", *overrides])
        assert all(problem.key.startswith("reward.custom_reward_function") for problem in found), found
        return list(found)

    return problems


@pytest.mark.parametrize(
    "source",
    [
        f"{SIGNATURE}):\n    return float(solution_str == ground_truth)\n",
        f"async {SIGNATURE}):\n    return {{'score': 1, 'acc': True}}\n",
        "def compute_score(**given):\n    given['extra_info']['num_turns']\n    return True\n",
        f"from threading import *\n{SIGNATURE}):\n    Thread(target=Event().wait).start()\n    return 0\n",
    ],
)
def test_a_function_that_scores_a_row_is_fine(source: str, judge: Any) -> None:
    assert judge(source) == []


@pytest.mark.parametrize(
    ("source", "told"),
    [
        ("def compute_score(:\n", "line 1 is no Python"),
        ("x = 1\ny = 1 / 0\ndef compute_score(**k):\n    return 0\n", "line 2: importing it fails: ZeroDivisionError"),
        ("import no_such_module\ndef compute_score(**k):\n    return 0\n", "No module named 'no_such_module'"),
        ("import os\nos._exit(3)\ndef compute_score(**k):\n    return 0\n", "its process died (exit code 3)"),
        ("raise SystemExit('no')\ndef compute_score(**k):\n    return 0\n", "importing it fails: SystemExit: no"),
        ("def compute_score(answer):\n    return 0\n", "unexpected keyword argument"),
        (
            f"{SIGNATURE}):\n    return ground_truth['value']\n",
            "line 2: compute_score fails on the answer that is right",
        ),
        (f"{SIGNATURE}):\n    return float(solution_str[0])\n", "line 2: compute_score fails on an empty answer"),
        (f"{SIGNATURE}):\n    return None\n", "gave None for the answer that is right"),
        (f"{SIGNATURE}):\n    return {{'reward': 1}}\n", "without a number under 'score'"),
    ],
)
def test_what_goes_wrong_is_told_with_the_line(source: str, told: str, judge: Any) -> None:
    (problem,) = judge(source)
    assert problem.severity == "error"
    assert told in str(problem), str(problem)


def test_the_recipes_own_arguments_are_handed_over(judge: Any) -> None:
    source = f"{SIGNATURE}, scale=None):\n    return scale * 1\n"
    assert judge(source, "reward.custom_reward_function.reward_kwargs={scale: 2}") == []
    assert "unsupported operand" in str(judge(source)[0])


def test_modules_beside_the_notebook_can_be_imported(judge: Any, tmp_path: Path, monkeypatch: Any) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "beside.py").write_text("def score():\n    return 1\n")
    source = "import beside\nimport source\ndef compute_score(**k):\n    return beside.score()\n"
    monkeypatch.chdir(tmp_path / "mine")
    assert "No module named 'source'" in str(judge(source)[0]), "ours are out of its reach"
    assert judge(source.replace("import source\n", "")) == []


def test_a_function_that_hangs_is_ended_with_all_it_started(judge: Any, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr(reward_module, "TIMEOUT_S", 5)  # its interpreter has to start within
    pids = tmp_path / "pids"
    source = (
        "import subprocess, os, time\n"
        f"{SIGNATURE}):\n"
        "    child = subprocess.Popen(['sleep', '999'])\n"
        f"    open({str(pids)!r}, 'w').write(f'{{os.getpid()}} {{child.pid}}')\n"
        "    time.sleep(999)\n"
    )
    (problem,) = judge(source)
    assert problem.severity == "warning"
    assert "did not score a row within" in problem.message
    end = time.monotonic() + 30
    for pid in map(int, pids.read_text().split()):
        while not _is_gone(pid):  # it was killed before `judge` returned; a busy machine ends it a moment later
            assert time.monotonic() < end, f"process {pid} goes on"
            time.sleep(0.01)


def test_it_is_tried_once_until_the_file_changes(catalog: Catalog, inputs: Any, tmp_path: Path) -> None:
    log, file = tmp_path / "log", tmp_path / "reward.py"
    source = f"open({str(log)!r}, 'a').write('x')\n{SIGNATURE}):\n    return 0\n"
    for text, tries in ((source, "x"), (source, "x"), (source + "\n", "xx")):
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
        assert validate(catalog.get("grpo-cpu"), [*inputs.grpo, f"reward.path={file}"]) == ()
        assert log.read_text() == tries


def _is_gone(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return True
    return state == "Z"  # ended; whoever adopted it has not looked yet
