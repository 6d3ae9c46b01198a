"""Stopping, resuming, and what is left running."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError
from verl_lab.launch import supervisor

if TYPE_CHECKING:
    from .conftest import Bench


def test_graceful_stop_saves_and_ends(bench: Bench):
    bench.start("asked", "steps=9999", "step_s=0.05")
    bench.at_step("asked")
    assert bench.launcher.stop("asked").state in (RunState.STOPPING, RunState.STOPPED)
    status = bench.finish("asked")
    assert (status.state, status.exit_code) == (RunState.STOPPED, 0)
    assert status.reason == f"Ended at step {status.step} of 9999, as asked."
    kinds = bench.kinds("asked")
    assert "checkpoint_saved" in kinds
    assert "stop_requested" in kinds
    assert "stop_escalated" not in kinds


@pytest.fixture
def impatient(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Launch with the supervisor as it is, but for how long it waits after each signal."""
    program = Path(supervisor.__file__).read_text()
    patience = "ESCALATION = ((signal.SIGINT, 10.0), (signal.SIGTERM, 10.0),"
    assert patience in program
    (tmp_path / "supervisor.py").write_text(program.replace(patience, patience.replace("10.0", "1.0")))
    monkeypatch.setattr(supervisor, "__file__", str(tmp_path / "supervisor.py"))


@pytest.mark.usefixtures("impatient")
def test_stop_escalates_when_grace_runs_out(bench: Bench):
    bench.start("deaf", "steps=99999", "deaf")
    bench.at_step("deaf")
    bench.launcher.stop("deaf", grace_s=0.3)
    status = bench.finish("deaf")
    assert (status.state, status.exit_code) == (RunState.STOPPED, 137)
    assert (status.reason or "").startswith("Ended by SIGKILL at step")
    sent = [event.data["signal"] for event in bench.events("deaf") if event.kind == "stop_escalated"]
    assert sent == ["SIGINT", "SIGTERM", "SIGKILL"]


def test_second_stop_means_now(bench: Bench):
    # A step that outlasts the test: only a signal ends it.
    bench.start("twice", "steps=2", "step_s=600")
    bench.until("twice", lambda status: status.phase == "training")
    bench.launcher.stop("twice")
    bench.eventually(lambda: "stop_requested" in bench.kinds("twice"))
    assert "stop_escalated" not in bench.kinds("twice")
    bench.launcher.stop("twice")
    assert bench.finish("twice").state is RunState.STOPPED
    assert "stop_escalated" in bench.kinds("twice")


def test_stop_before_the_first_step_does_not_wait(bench: Bench):
    bench.start("loading", "steps=2", "step_s=600", "phase=loading model")
    bench.until("loading", lambda status: status.phase == "loading model")
    assert bench.launcher.status("loading").state is RunState.STARTING
    bench.launcher.stop("loading", grace_s=600)
    assert bench.finish("loading").state is RunState.STOPPED
    assert "stop_escalated" in bench.kinds("loading")


def test_sigterm_to_the_supervisor_is_a_graceful_stop(bench: Bench):
    bench.start("shutdown", "steps=9999", "step_s=0.05")
    bench.at_step("shutdown")
    os.kill(bench.status_file("shutdown")["supervisor_pid"], signal.SIGTERM)
    assert bench.finish("shutdown").state is RunState.STOPPED
    assert "checkpoint_saved" in bench.kinds("shutdown")


def test_garbled_stop_request_is_still_a_graceful_stop(bench: Bench):
    bench.start("garbled", "steps=9999", "step_s=0.05")
    bench.at_step("garbled")
    bench.attempt("garbled").stop_request.write_bytes(b'{"grace_s": NaN, "mode": \xff')
    assert bench.finish("garbled").state is RunState.STOPPED
    assert "checkpoint_saved" in bench.kinds("garbled")


def test_failure_of_its_own_while_stopping_is_a_failure(bench: Bench):
    bench.start("worse", "steps=2", "step_s=1.5", "deaf", "exit=5")
    bench.until("worse", lambda status: status.phase == "training")
    bench.launcher.stop("worse")
    status = bench.finish("worse")
    assert (status.state, status.exit_code) == (RunState.FAILED, 5)


def test_run_that_is_over_cannot_be_stopped(bench: Bench):
    bench.start("over", "steps=1")
    bench.finish("over")
    with pytest.raises(InvalidInputError, match="it is completed"):
        bench.launcher.stop("over")


def test_resume_makes_a_new_attempt_and_overwrites_nothing(bench: Bench):
    bench.start("again", "steps=2", "exit=3")
    bench.finish("again")
    first = {path: path.read_bytes() for path in bench.attempt("again").folder.rglob("*") if path.is_file()}
    assert bench.launcher.resume("again").attempt == 2
    status = bench.finish("again")
    assert (status.attempt, status.state, status.exit_code) == (2, RunState.FAILED, 3)
    assert {path: path.read_bytes() for path in first} == first
    assert bench.events("again", 2)[0].kind == "attempt_started"
    assert bench.launcher.start("again").attempt == 2


def test_live_and_completed_runs_cannot_be_resumed(bench: Bench):
    bench.start("live", "steps=9999")
    with pytest.raises(InvalidInputError, match="Stop it first"):
        bench.launcher.resume("live")
    bench.launcher.stop("live", now=True)
    bench.finish("live")
    bench.start("through", "steps=1")
    bench.finish("through")
    with pytest.raises(InvalidInputError, match="completed"):
        bench.launcher.resume("through")
    assert not bench.attempt("through", 2).folder.exists()


def strays(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


@pytest.mark.parametrize("ending", ["by itself", "killed"])
def test_processes_that_left_the_session_are_ended(bench: Bench, tmp_path: Path, ending: str):
    pids = tmp_path / "pids"
    # The same program, started by someone else, with a mark that begins like this run's.
    mark = {**os.environ, "VERL_LAB_ATTEMPT_DIR": str(bench.attempt("daemons").folder) + "0"}
    stranger = subprocess.Popen(["sleep", "600"], env=mark, start_new_session=True)
    try:
        bench.start("daemons", f"stray={pids}", "steps=9999" if ending == "killed" else "steps=100")
        bench.eventually(lambda: len(strays(pids)) == 2)
        bench.at_step("daemons")
        assert all(bench.is_running(pid) for pid in strays(pids))
        if ending == "killed":
            os.kill(bench.status_file("daemons")["pid"], signal.SIGKILL)
        bench.finish("daemons")
        assert not any(bench.is_running(pid) for pid in strays(pids))
        assert stranger.poll() is None
        assert "left_running" not in bench.events("daemons")[-1].data
    finally:
        stranger.kill()
        stranger.wait()
