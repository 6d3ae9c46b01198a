"""Checks of a reward function: that its file parses and binds it, and that it scores a row of the data."""

from __future__ import annotations

import ast
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.errors import nearest
from verl_lab.recipes.paths import is_elsewhere
from verl_lab.recipes.snapshot import installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping

TIMEOUT_S = 20.0
_PROBE = Path(__file__).with_name("reward_probe.py")
_LARGEST_BYTES = 1024 * 1024


def check_reward(key: str, path: str, name: str) -> list[Problem]:
    """Check that a reward file parses and binds the function; it is not imported."""
    if is_elsewhere(path):
        return []
    expected = f"Expected a Python file that defines {name}(data_source, solution_str, ground_truth, extra_info)."
    try:
        with Path(path).open("rb") as file:
            source = file.read(_LARGEST_BYTES)
    except OSError as error:
        return [Problem(f"{key}.path", path, f"{path} cannot be read: {error.strerror}.", expected)]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        return [Problem(f"{key}.path", path, f"{path}{at} is no Python: {error.args[0]}.", expected)]
    bound = _bound_names(tree)
    if name in bound:
        return []
    near = nearest(name, bound, count=1)
    there = f"It has {', '.join(sorted(bound)[:5])}." if bound else expected
    suggestion = f"The nearest: {near[0]}. {there}" if near and len(bound) > 1 else there
    return [Problem(f"{key}.name", name, f"{path} defines no {name!r}.", suggestion)]


def try_reward(
    key: str, path: str, name: str, row: Mapping[str, Any], *, source_key: str, arguments: Mapping[str, Any]
) -> list[Problem]:
    """Call a reward function on a row of the data, in a process of its own, as verl's reward workers do.

    It is called with the row's ground truth as the answer, and with an empty answer: a model gives one sooner or
    later. A function and row that were tried before are not tried again until the file changes.

    Parameters
    ----------
    source_key
        The column that says where a row comes from.
    arguments
        What the recipe adds to each call (``reward_kwargs``).
    """
    if is_elsewhere(path):
        return []
    truth: Any = _mapping(row.get("reward_model")).get("ground_truth")
    common: dict[str, Any] = {
        "data_source": row.get(source_key),
        "ground_truth": truth,
        "extra_info": {**_mapping(row.get("extra_info")), "num_turns": None, "rollout_reward_scores": {}},
        **arguments,
    }
    answers = (truth if isinstance(truth, str) else json.dumps(truth, default=str), "")
    calls = [{"solution_str": answer, **common} for answer in answers]
    request = json.dumps({"path": path, "name": name, "calls": calls}, default=str, sort_keys=True)
    try:
        stat = Path(path).stat()
    except OSError:
        return []  # check_reward has told it
    answer = json.loads(_probed(request, (stat.st_mtime_ns, stat.st_size), str(Path.cwd())))
    problem = _problem(key, path, name, answer)
    return [] if problem is None else [problem]


def _mapping(value: object) -> dict[str, Any]:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else {}


def _problem(key: str, path: str, name: str, answer: Mapping[str, Any]) -> Problem | None:
    stage = answer["stage"]
    if stage == "done":
        return None
    at = f"{path}, line {answer['line']}" if answer.get("line") else path
    if stage == "timeout":
        why = f"{path} did not score a row within {TIMEOUT_S:g} s; it was ended."
        return Problem(f"{key}.path", path, why, "verl waits for it at each answer.", severity="warning")
    if stage == "import":
        # Where nothing can be trained, what training needs may be missing.
        is_only_missing_here = "module" in answer and installed_version() is None
        severity = "warning" if is_only_missing_here else "error"
        return Problem(f"{key}.path", path, f"{at}: importing it fails: {answer['error']}.", severity=severity)
    on = "the answer that is right" if answer["call"] == 0 else "an empty answer"
    if stage == "result":
        why = f"{name} gave {answer['error']} for {on}."
        return Problem(f"{key}.name", name, why, "Return a number, or a dictionary with one under 'score'.")
    why = f"{at}: {name} fails on {on}: {answer['error']}."
    hint = "It is called with data_source, solution_str, ground_truth, extra_info and the recipe's reward_kwargs."
    return Problem(f"{key}.name", name, why, hint if answer["error"].startswith("TypeError") else None)


@lru_cache(maxsize=128)
def _probed(request: str, changed: tuple[int, int], folder: str) -> str:
    """Run the probe; ``changed`` and ``folder`` only tell one run from another."""
    del changed, folder
    with tempfile.TemporaryDirectory(prefix="verl-lab-") as scratch:
        asked, answer, errors = (Path(scratch) / name for name in ("request.json", "answer.json", "errors"))
        asked.write_text(request)
        with asked.open("rb") as given, errors.open("wb") as told:
            probe = subprocess.Popen(
                [sys.executable, str(_PROBE), str(answer)],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=told,
                start_new_session=True,  # so that what it starts can be ended with it
            )
        has_ended = _wait(probe.pid)
        os.killpg(probe.pid, signal.SIGKILL)  # its number is still its own: it was not reaped yet
        code = probe.wait()
        if not has_ended:
            return json.dumps({"stage": "timeout"})
        if answer.exists():
            return answer.read_text()
        last = errors.read_text(errors="replace").strip().splitlines()[-1:] or [f"exit code {code}"]
        return json.dumps({"stage": "import", "error": f"its process died ({last[0][:200]})", "line": None})


def _wait(pid: int) -> bool:
    """Wait for a process to end, without reaping it; return whether it did in time."""
    end = time.monotonic() + TIMEOUT_S
    while time.monotonic() < end:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT | os.WNOHANG) is not None:
            return True
        time.sleep(0.01)
    return False


def _bound_names(tree: ast.Module) -> set[str]:
    """Names that a module's top level binds to something callable, as far as the text shows."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
    return found
