"""Real SFT runs that go wrong: one is marked, one is stopped before it can overwrite a good checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.finding import Severity
from verl_lab.domain.recipe import Alerts, Checks
from verl_lab.domain.run import RunState, Status

from .conftest import DEADLINE_S, Task, until

if TYPE_CHECKING:
    from verl_lab import Lab, Run
    from verl_lab.domain.finding import Finding

pytestmark = pytest.mark.timeout(900)

STEPS = 20
# Poisons the model after step 6, and ends the process as if all were well when it goes on from there.
POISON = """
import os, sys
import torch
from verl_lab.verl_plugin.callbacks import TrainerCallback

class Poison(TrainerCallback):
    def on_step_end(self, step, metrics):
        if os.environ["VERL_LAB_ATTEMPT"] == "1" and step == 6:
            frame = sys._getframe()
            while not hasattr(frame.f_locals.get("self"), "engine"):
                frame = frame.f_back
            with torch.no_grad():
                for parameter in frame.f_locals["self"].engine.module.parameters():
                    parameter.fill_(float("nan"))
        if os.environ["VERL_LAB_ATTEMPT"] == "2" and step == 8:
            os._exit(0)
"""
NOTE = "import sys; open('told.jsonl', 'a').write(sys.stdin.read() + '\\n')"
SETTINGS = [f"trainer.total_training_steps={STEPS}", "trainer.save_freq=5", "trainer.test_freq=-1"]


@dataclass(frozen=True)
class Seen:
    """A run that is over, and what was seen of it meanwhile."""

    run: Run
    running: Status | None
    ended: Status
    findings: list[Finding]


def launch(lab: Lab, task: Task, settings: list[str], name: str, **fields: Any) -> Run:
    return lab.train(task.recipe("sort-digits-sft", **fields), [*SETTINGS, *settings], name=name)


@pytest.fixture(scope="module")
def marked(lab: Lab, task: Task) -> Seen:
    """Train with a weight decay that no model survives, told to mark, which is the default."""
    run = launch(lab, task, ["optim.weight_decay=1e30", "optim.lr_warmup_steps=0"], "marked")
    seen: list[Status] = []

    def has_reason() -> bool:
        status = run.status()
        seen.append(status)
        return status.reason is not None

    until(has_reason, "a reason", run)
    run.wait(DEADLINE_S)
    return Seen(run, seen[-1], run.status(), run.findings())


@pytest.fixture(scope="module")
def stopped(lab: Lab, task: Task) -> Seen:
    """Poison the model after step 6, told to stop and to tell a command."""
    (task.project / "poison.py").write_text(POISON)
    run = launch(
        lab,
        task,
        [],
        "stopped",
        callbacks=("poison.Poison",),
        checks=Checks(on_critical="stop"),
        alerts=Alerts(command=("python", "-c", NOTE)),
    )
    run.wait(DEADLINE_S)
    return Seen(run, None, run.status(), run.findings())


def test_diverging_run_is_marked_while_it_goes_on(marked: Seen) -> None:
    assert marked.running is not None
    assert marked.running.reason is not None
    assert marked.running.reason.startswith("Critical: ")
    assert marked.running.state is RunState.RUNNING, marked.running


def test_marked_run_is_failed_at_its_end_though_all_steps_were_done(marked: Seen) -> None:
    status = marked.ended
    assert (status.state, status.exit_code, status.step) == (RunState.FAILED, 0, STEPS), marked.run.logs()
    assert status.reason is not None
    assert status.reason.startswith("Critical: ")


def test_kernel_and_training_process_find_the_same(marked: Seen) -> None:
    written = {(e.data["rule"], e.data["metric"], e.data["first_step"]) for e in marked.run.events() if is_finding(e)}
    critical = {(f.rule, f.metric, f.first_step) for f in marked.findings if f.severity is Severity.CRITICAL}
    assert critical
    assert critical <= written
    health = marked.run.health()
    assert health.score is not None
    assert health.score <= 20
    before = marked.run.health(step=0).score
    assert before is None or before > health.score


def is_finding(event: Any) -> bool:
    return event.kind == "finding"


def test_stopped_run_ends_early_with_its_reason(stopped: Seen) -> None:
    status = stopped.ended
    assert (status.state, status.exit_code) == (RunState.FAILED, 0), stopped.run.logs()
    assert status.step == 7
    assert status.reason is not None
    assert "non-finite at step 7" in status.reason
    assert f"step 7 of {STEPS}" in status.reason
    decided = [event for event in stopped.run.events() if event.kind == "stop_decided"]
    assert [(event.step, event.data["rule"]) for event in decided] == [(7, "non-finite")]


def test_model_that_is_not_finite_is_not_saved(stopped: Seen) -> None:
    skipped = [event.step for event in stopped.run.events() if event.kind == "checkpoint_skipped"]
    assert skipped == [7]
    folder = stopped.run.layout.checkpoints
    assert [path.name for path in folder.glob("global_step_*")] == ["global_step_5"]
    assert (folder / "latest_checkpointed_iteration.txt").read_text().strip() == "5"


def test_alert_reached_the_users_command(stopped: Seen, task: Task) -> None:
    told = (task.project / "told.jsonl").read_text()
    assert stopped.run.id in told
    assert "non-finite" in told


def test_resumed_run_that_ends_silently_is_failed_and_its_masked_findings_are_gone(stopped: Seen) -> None:
    """Step 7 is trained anew from the good checkpoint; then the process ends with exit code 0."""
    assert any(finding.rule == "non-finite" for finding in stopped.findings)
    run = stopped.run.resume()
    assert run.wait(DEADLINE_S) is RunState.FAILED, run.logs()
    status = run.status()
    assert (status.exit_code, status.attempt) == (0, 2)
    assert status.reason is not None
    assert "ended early" in status.reason
    critical = [f for f in run.findings() if f.severity is Severity.CRITICAL]
    assert [f.rule for f in critical] == ["early-end"]


def test_lab_diagnoses_and_backtests_them(lab: Lab, marked: Seen, stopped: Seen) -> None:
    assert not lab.diagnose()
    (report,) = lab.diagnose(marked.run)
    assert "Critical" not in repr(report)
    assert "non-finite" in repr(report)
    tested = lab.backtest(rules=["non-finite"], runs=[marked.run])
    (firing,) = tested.firings
    assert firing.severity is Severity.CRITICAL
    assert firing.saved_s is not None
    assert firing.saved_s > 0
    assert not firing.is_false_alarm


@pytest.fixture(scope="module")
def stopped_grpo(lab: Lab, task: Task) -> Seen:
    """GRPO told to stop, whose thresholds make any gradient critical; untrained, it also never ends an answer."""
    thresholds = {"gradient-spike": {"warning": 0, "critical": 0}}
    recipe = task.recipe("sort-digits-grpo", checks=Checks(on_critical="stop", thresholds=thresholds))
    settings = ["trainer.total_training_steps=12", "trainer.val_before_train=False", "trainer.save_freq=100"]
    run = lab.train(recipe, settings, name="stopped-grpo")
    run.wait(DEADLINE_S)
    return Seen(run, None, run.status(), run.findings())


def test_stopped_grpo_saves_a_finite_model_and_ends(stopped_grpo: Seen) -> None:
    status, events = stopped_grpo.ended, stopped_grpo.run.events()
    assert (status.state, status.exit_code) == (RunState.FAILED, 0), stopped_grpo.run.logs()
    assert status.reason is not None
    ((decided, rule),) = [(event.step, event.data["rule"]) for event in events if event.kind == "stop_decided"]
    assert status.reason.startswith(f"Critical: {rule} at step {decided}")
    # verl has a step's metrics only when the next one is the first that can be stopped at.
    assert decided is not None
    assert status.step == decided + 1
    assert [event.step for event in events if event.kind == "checkpoint_saved"] == [decided + 1]
    assert not {"weights_unknown", "derivation_failed", "callback_failed"} & {event.kind for event in events}


def test_grpo_logs_what_its_samples_say(stopped_grpo: Seen) -> None:
    for name in ("samples/dead_groups", "samples/solved_groups", "samples/truncated", "samples/empty"):
        steps, values = stopped_grpo.run.metrics(name)
        assert steps.tolist() == list(range(1, len(steps) + 1))
        assert ((values >= 0) & (values <= 1)).all()
    assert not {"dead-groups", "truncation"} & set(stopped_grpo.run.not_applicable())
