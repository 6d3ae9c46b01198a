"""Back-tests: when rules would have fired on past runs, what a stop saves, and false alarms."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.finding import Severity
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Written

    WriteRun = Callable[..., Written]


def kl_from(first: int) -> Callable[[int], float]:
    """Return a KL that leaves in three steps: warning, error and critical, one severity every ten steps."""
    return lambda step: 0.1 if step < first else 1.5 if step < first + 10 else 3.0 if step < first + 20 else 8.0


def completed(written: Written, last: int = 100) -> Written:
    return written.status(
        "completed", exit_code=0, step=last, total=last, ended=written.begun + last * written.seconds_a_step + 5
    )


def test_firing_tells_when_and_what_a_stop_would_have_saved(lab: Lab, write_run: WriteRun) -> None:
    completed(write_run("bad").begin().steps(1, 100, "actor/kl_loss", kl_from(41)))
    result = lab.backtest(rules=["kl-explosion"])
    (firing,) = result.firings
    assert (firing.severity, firing.first_step, firing.step, firing.last_step) == (Severity.CRITICAL, 43, 63, 100)
    assert firing.saved_s == pytest.approx(37 * 10 + 5)
    assert (firing.gpus, firing.saved_gpu_s) == (8, pytest.approx(375 * 8))
    assert not firing.is_false_alarm, "it was still so at the end"
    (record,) = result.rules
    assert (record.judged, record.fired, record.grave, record.false_alarms) == (1, 1, 1, 0)
    assert record.saved_gpu_s == pytest.approx(3000)


def test_run_that_recovered_and_completed_makes_it_a_false_alarm(lab: Lab, write_run: WriteRun) -> None:
    spike = write_run("spiky").begin().steps(1, 100, "actor/kl_loss", lambda s: 8.0 if 5 <= s <= 9 else 0.1)
    completed(spike)
    (firing,) = lab.backtest(rules=["kl-explosion"]).firings
    assert (firing.step, firing.is_false_alarm) == (7, True)
    assert lab.backtest(rules=["kl-explosion"]).rules[0].saved_gpu_s == 0
    spike.status("failed", exit_code=1, step=50)
    assert not lab.backtest(rules=["kl-explosion"]).firings[0].is_false_alarm, "it did not complete"
    # A run that its critical finding marked as failed, and that went on to its end in good health.
    spike.status("failed", exit_code=0, step=100, total=100)
    assert lab.backtest(rules=["kl-explosion"]).firings[0].is_false_alarm


def test_thresholds_that_are_tried_do_not_judge_themselves(lab: Lab, write_run: WriteRun) -> None:
    """With a threshold so low that it is exceeded to the end, a run that was well by its own is a false alarm."""
    completed(write_run("fine").begin().steps(1, 100, "actor/kl_loss", lambda _: 0.1))
    assert not lab.backtest().firings
    (firing,) = lab.backtest(thresholds={"kl-explosion": {"threshold": 0.01}}).firings
    assert (firing.severity, firing.step, firing.is_false_alarm) == (Severity.CRITICAL, 3, True)


def test_warning_stops_nothing_and_so_saves_nothing(lab: Lab, write_run: WriteRun) -> None:
    completed(write_run("warned").begin().steps(1, 100, "actor/kl_loss", lambda _: 1.5))
    (firing,) = lab.backtest(rules=["kl-explosion"]).firings
    assert (firing.severity, firing.saved_s, firing.is_false_alarm) == (Severity.WARNING, None, False)


def test_time_between_attempts_is_not_saved(lab: Lab, write_run: WriteRun) -> None:
    written = write_run("paused").begin().steps(1, 40, "actor/kl_loss", kl_from(11))
    written.status("stopped")
    written.begun += 50_000
    written.begin(resumed_from=40).steps(41, 60, "actor/kl_loss", kl_from(11))
    completed(written, 60)
    (firing,) = lab.backtest(rules=["kl-explosion"]).firings
    assert firing.step == 33
    assert firing.saved_s == pytest.approx(7 * 10 + 19 * 10 + 5)


def test_log_without_times_is_timed_by_what_it_says_of_its_steps(lab: Lab, tmp_path: Path) -> None:
    log = tmp_path / "verl.jsonl"
    steps = [{"step": s, "data": {"actor/kl_loss": 9.0, "perf/time_per_step": 2.0}} for s in range(1, 21)]
    log.write_text("".join(json.dumps(step) + "\n" for step in steps))
    run = lab.attach(log)
    (firing,) = lab.backtest(["kl-explosion"], [run]).firings
    assert (firing.step, firing.saved_s, firing.gpus) == (3, 34.0, 1)


def test_recordings_of_healthy_runs_raise_no_grave_alarm(lab: Lab, recordings: Path) -> None:
    for log in sorted(recordings.iterdir()):
        lab.attach(log)
    result = lab.backtest()
    assert len(result.runs) == 6
    assert not [firing for firing in result.firings if firing.severity >= Severity.ERROR]


def test_broken_run_costs_none_of_the_others(lab: Lab, write_run: WriteRun) -> None:
    completed(write_run("bad").begin().steps(1, 100, "actor/kl_loss", kl_from(41)))
    broken = write_run("broken").begin().steps(1, 5, "train/loss", lambda _: 1.0)
    lab.runs()
    (broken.layout.folder / "run.json").write_text("[]")
    result = lab.backtest()
    assert len(result.firings) == 1
    assert list(result.skipped) == [broken.layout.folder.name]
    assert "broken" in repr(result)


def test_unknown_rule_run_and_parameter_are_refused_with_the_nearest(lab: Lab) -> None:
    with pytest.raises(NotFoundError, match="kl-explosion"):
        lab.backtest(["kl-explosoin"])
    with pytest.raises(NotFoundError, match="no run"):
        lab.backtest(runs=["nothing"])
    with pytest.raises(InvalidInputError, match="treshhld"):
        lab.backtest(thresholds={"kl-explosion": {"treshhld": 1}})


def test_table_shows_rules_firings_and_time_as_text_and_as_html(lab: Lab, write_run: WriteRun) -> None:
    completed(write_run("bad").begin().steps(1, 100, "actor/kl_loss", kl_from(41)))
    result = lab.backtest(rules=["kl-explosion", "entropy-collapse"])
    for shown in (repr(result), result._repr_html_()):
        for part in ("kl-explosion", "critical", "63 of 100", "50 m 00 s of GPU time", "1 run"):
            assert part in shown
    assert "No rule would have fired" in repr(lab.backtest(rules=["entropy-collapse"]))
