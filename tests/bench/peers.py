"""What other experiment trackers cost for the same work on the same machine, measured in the same run.

    python tests/bench/peers.py [--json] [--rounds 3] [--python PYTHON ...]

A tracker is measured where it is installed: in this environment, or in one of those given with
``--python`` (a tracker's own requirements need not fit verl's). W&B works offline.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from parts.rows import Row, show
from parts.subject import IMPORTS

SUBJECT = Path(__file__).parent / "parts" / "subject.py"
# As many as take a tracker seconds: (log calls, runs to list).
COUNTS = {
    "verl-lab": (10_000, 1000),
    "trackio": (10_000, 1000),
    "mlflow": (150, 100),
    "tensorboard": (1000, 0),
    "wandb": (3000, 0),
}
FRESH_STEPS = 60
TIMES_TRACKIO = {
    "call_us": 10,
    "import_s": 5,
    "fresh_ms": 10,
    "stored_k_points_s": 5,
    "again_ms": 100,
    "list_ms": 100,
    "bytes_a_point": 5,
}
WORDS = {
    "call_us": "a log call, us",
    "call_p99_us": "the slowest 1 % of them, us",
    "k_points_s": "log calls and storing together, k points/s",
    "stored_k_points_s": "into the database, k points/s",
    "bytes_a_point": "disk, bytes a point",
    "import_s": "import, s",
    "first_ms": "one metric of the run just logged, ms",
    "again_ms": "the same again, ms",
    "list_ms": "list of runs, ms",
    "fresh_ms": "until another process sees a step, ms",
    "fresh_worst_ms": "the longest of them, ms",
}


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--rounds", type=int, default=3)
    arguments.add_argument("--python", action="append", default=[], help="another environment to look for trackers in")
    chosen = arguments.parse_args()
    pythons = {name: python for name in IMPORTS if (python := having(name, [sys.executable, *chosen.python]))}
    found = measure(pythons, chosen.rounds)
    rows = [
        Row(f"{name}: {WORDS[what]}", f"{value:,.2f}") for name, all_ in found.items() for what, value in all_.items()
    ]
    rows += [Row(name, "not installed") for name in IMPORTS if name not in pythons]
    show([*rows, *bars(found)], as_json=chosen.json)


def having(name: str, pythons: list[str]) -> str | None:
    """Return the first Python that has a tracker."""
    package = IMPORTS[name].partition(".")[0] if name != "tensorboard" else "tensorboard, torch"
    for python in pythons:
        if subprocess.run([python, "-c", f"import {package}"], capture_output=True, check=False).returncode == 0:
            return python
    return None


def measure(pythons: dict[str, str], rounds: int) -> dict[str, dict[str, float]]:
    """Let the trackers work in turns; return the medians of what they measured."""
    taken: dict[str, dict[str, list[float]]] = {name: {} for name in pythons}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(rounds):
            for name, python in pythons.items():
                folder = Path(scratch) / f"{name}-{number}"
                calls, runs = COUNTS[name]
                parts = [
                    ask(python, name, "import", folder / "import", 0),
                    ask(python, name, "log", folder / "log", calls),
                ]
                parts.append(ask(python, name, "read", folder / "log", calls))
                if runs:
                    parts.append(ask(python, name, "list", folder / "list", runs))
                if name in ("verl-lab", "trackio"):
                    parts.append(freshness(python, name, folder / "fresh"))
                for what, value in [item for part in parts for item in part.items()]:
                    if value is not None:
                        taken[name].setdefault(what, []).append(value)
    return {name: {what: statistics.median(v) for what, v in all_.items()} for name, all_ in taken.items()}


def ask(python: str, name: str, task: str, folder: Path, count: int) -> dict[str, Any]:
    argv = [python, str(SUBJECT), name, task, str(folder), str(count)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{name} failed at {task}:\n{done.stderr[-3000:]}")
    return json.loads(done.stdout.splitlines()[-1])


def freshness(python: str, name: str, folder: Path) -> dict[str, float]:
    """Let one process log and another one look."""
    argv = [python, str(SUBJECT), name]
    rest = [str(folder), str(FRESH_STEPS)]
    watcher = subprocess.Popen([*argv, "watch", *rest], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    writer = subprocess.run([*argv, "write", *rest], capture_output=True, text=True, check=True)
    said, _ = watcher.communicate(timeout=180)
    logged, seen = moments(writer.stdout, "logged"), moments(said, "seen")
    # The first ones wait for the watcher to come up.
    delays = [1e3 * (seen[step] - logged[step]) for step in logged if step in seen and step > FRESH_STEPS // 2]
    if not delays:
        raise SystemExit(f"{name}: the other process saw nothing")
    return {"fresh_ms": statistics.median(delays), "fresh_worst_ms": max(delays)}


def moments(said: str, word: str) -> dict[int, float]:
    parts = [line.split() for line in said.splitlines() if line.startswith(word)]
    return {int(step): float(moment) for _, step, moment in parts}


def bars(found: dict[str, dict[str, float]]) -> list[Row]:
    """Compare with Trackio, the nearest relative."""
    ours, theirs = found["verl-lab"], found.get("trackio", {})
    rows: list[Row] = []
    for what, times in TIMES_TRACKIO.items():
        if what in theirs:
            more_is_better = what == "stored_k_points_s"
            ratio = ours[what] / theirs[what] if more_is_better else theirs[what] / max(ours[what], 1e-9)
            rows.append(Row(f"better than Trackio: {WORDS[what]}", f"{ratio:,.1f}x", f">= {times}x", ratio >= times))
    return rows


if __name__ == "__main__":
    main()
