"""GRPO with real verl and Ray, in two attempts: killed with -9, completed."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from .conftest import GrpoHistory

pytestmark = pytest.mark.timeout(1500)


def test_killed_trainer_is_failed_with_its_exit_code(grpo: GrpoHistory) -> None:
    assert (grpo.killed_state, grpo.killed_exit_code) == (RunState.FAILED, 137)


def test_resume_goes_on_from_the_checkpoint_to_the_end(grpo: GrpoHistory) -> None:
    status = grpo.run.status()
    assert (status.state, status.attempt, status.step, status.total) == (RunState.COMPLETED, 2, 10, 10)
    begun = [e.data.get("resumed_from") for e in grpo.run.events() if e.kind == "train_begin"]
    assert begun == [0, grpo.saved_at]
    assert 3 <= grpo.saved_at < 10


def test_curve_is_whole_over_the_attempts(grpo: GrpoHistory) -> None:
    steps, _ = grpo.run.metrics("critic/score/mean")
    assert steps.tolist() == list(range(1, 11))
    assert grpo.run.metrics("actor/entropy")[0].tolist() == list(range(1, 11))


def test_every_step_returned_before_the_kill_is_on_disk(grpo: GrpoHistory) -> None:
    records = grpo.run.layout.attempt(1).metrics.read_text().splitlines()[1:]
    steps = {json.loads(line)["step"] for line in records}
    assert set(range(1, grpo.last_step_before_kill + 1)) <= steps


def test_users_callback_hears_everything(grpo: GrpoHistory) -> None:
    lines = (grpo.run.layout.attempt(2).folder / "diary.jsonl").read_text().splitlines()
    diary = [json.loads(line) for line in lines]
    hooks = [entry["hook"] for entry in diary]
    assert hooks[0] == "on_train_begin"
    assert hooks[-1] == "on_train_end"
    steps = [entry for entry in diary if entry["hook"] == "on_step_end"]
    assert [entry["step"] for entry in steps] == list(range(grpo.saved_at + 1, 11))
    assert all(entry["count"] > 50 for entry in steps)
    assert {"on_validation_end", "on_checkpoint_saved"} <= set(hooks)


def test_failing_callback_is_recorded_and_training_goes_on(grpo: GrpoHistory) -> None:
    failed = [e for e in grpo.run.events() if e.kind == "callback_failed"]
    assert failed
    assert "Clumsy" in failed[0].data["callback"]
    assert "a user's callback that fails" in failed[0].data["error"]


def test_exceptions_of_the_reward_function_become_events(grpo: GrpoHistory) -> None:
    seen = [e for e in grpo.run.events() if e.kind == "reward_exception"]
    assert seen
    assert "does not like nines" in seen[0].data["error"]


def test_validation_samples_are_kept(grpo: GrpoHistory) -> None:
    samples = grpo.run.samples()
    assert {"input", "output", "score", "step"} <= set(samples[0])
    assert {s["step"] for s in samples} == {10}
    assert grpo.run.samples(step=10, kind="rollout")


def test_nothing_listens_outside_loopback(grpo: GrpoHistory) -> None:
    assert not grpo.listening_outside_loopback


def test_no_process_is_left(grpo: GrpoHistory, processes_of: Callable[[str], list[Path]]) -> None:
    left = processes_of(grpo.run.id)
    assert not left, [(p / "cmdline").read_bytes() for p in left]
