"""A run that its trainer marks as failed: what the supervisor says of it, live and at its end."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from .conftest import Bench

# Writes what the trainer writes: progress with a mark, and how it ends.
MARKED = """
import json, os, sys, time
from pathlib import Path
from verl_lab.domain.wire import EventRecord, encode_event
folder, (step, total, end, code, mark) = Path(os.environ["VERL_LAB_ATTEMPT_DIR"]), sys.argv[1:]
def tell(seq, kind, **data):
    with (folder / "events.jsonl").open("ab", buffering=0) as file:
        file.write(encode_event(EventRecord(seq, time.time(), kind, int(step), "trainer", data)))
def progress(mark):
    record = {"phase": "training", "step": int(step), "total": int(total), "time": time.time(), "critical": mark}
    (folder / "new").write_text(json.dumps(record))
    (folder / "new").replace(folder / "progress.json")
tell(0, "plugin_loaded")
progress(mark or None)
for _ in range(3000):
    if (folder / "go").exists() or (folder / "stop.json").exists(): break
    time.sleep(0.02)
    if (folder / "recovered").exists(): progress(None)
if end:
    tell(1, "train_end", state=end, step=int(step))
sys.exit(int(code))
"""
WHY = "Critical: non-finite at step 5: train/loss was nan at step 5."


def start(bench: Bench, *, step: int = 20, total: int = 20, end: str = "completed", code: int = 0, mark: str = WHY):
    argv = (sys.executable, "-c", MARKED, str(step), str(total), end, str(code), mark)
    bench.start("marked", argv=argv)
    bench.until("marked", lambda status: status.state is RunState.RUNNING)


def go(bench: Bench) -> None:
    (bench.attempt("marked").folder / "go").touch()


def test_mark_is_shown_while_the_run_goes_on(bench: Bench) -> None:
    start(bench)
    status = bench.until("marked", lambda status: status.reason is not None)
    assert (status.state, status.reason) == (RunState.RUNNING, WHY)
    (bench.attempt("marked").folder / "recovered").touch()
    bench.until("marked", lambda status: status.reason is None)
    go(bench)
    assert bench.finish("marked").state is RunState.COMPLETED


@pytest.mark.parametrize(
    ("step", "end", "code", "says"),
    [
        (20, "completed", 0, [WHY]),
        (7, "stopped", 0, [WHY, "step 7 of 20"]),
        (7, "", 0, ["Training ended early at step 7 of 20", f"Before that: {WHY}"]),
        (7, "", 3, ["exit code 3", WHY]),
    ],
)
def test_marked_run_is_failed_however_it_ends(bench: Bench, step: int, end: str, code: int, says: list[str]) -> None:
    start(bench, step=step, end=end, code=code)
    go(bench)
    status = bench.finish("marked")
    assert (status.state, status.exit_code) == (RunState.FAILED, code)
    assert status.reason is not None
    for part in says:
        assert part in status.reason


def test_marked_run_that_a_user_stops_keeps_its_reason(bench: Bench) -> None:
    start(bench, step=7, end="stopped")
    bench.launcher.stop("marked")
    status = bench.finish("marked")
    assert status.state is RunState.FAILED
    assert status.reason is not None
    assert status.reason.startswith(WHY)
    assert "as asked" in status.reason


def test_trainer_that_says_it_is_done_before_its_last_step_has_failed(bench: Bench) -> None:
    start(bench, step=7, total=20, mark="")
    go(bench)
    status = bench.finish("marked")
    assert (status.state, status.exit_code) == (RunState.FAILED, 0)
    assert status.reason is not None
    assert "ended early at step 7 of 20" in status.reason
