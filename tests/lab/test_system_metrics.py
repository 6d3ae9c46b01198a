"""What a user sees of the host a run trains on, and that it changes nothing of what is said about the run."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from verl_lab.domain.wire import Header, encode_header, encode_metrics
from verl_lab.errors import NotFoundError
from verl_lab.lab.comparing.compare import compare
from verl_lab.lab.diagnosis.replay import Replay
from verl_lab.lab.view import RunView
from verl_lab.widgets.axis import Line
from verl_lab.widgets.gather import gather
from verl_lab.widgets.selection import Selection

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab import Lab

    from .conftest import Written

CPU, GPU = "system/cpu_percent", "system/gpu/use_percent"
STEPS = 20
EVERY_S = 2.0


def measure(written: Written, *names: str, steps: int = STEPS) -> None:
    """Write samples each 2 s from 10 s before the run's first record on: a step takes 10 s."""
    lines = [encode_header(Header(written.layout.folder.name, written.attempt, 1, 1, "boot"))]
    for number in range(int(steps * written.seconds_a_step / EVERY_S)):
        at = EVERY_S * number
        step = 1 + int(at / written.seconds_a_step)
        data = {name: float(number) for name in names}
        lines.append(encode_metrics(number, step, written.begun + at, data))
    written.files.system.write_bytes(b"".join(lines))


@pytest.fixture
def written(write_run: Callable[..., Written]) -> Written:
    made = write_run("measured").begin().steps(1, STEPS, "critic/score/mean", lambda step: step / STEPS)
    measure(made, CPU, GPU)
    return made


def test_they_are_metrics_of_the_run_like_others(written: Written) -> None:
    run = written.run
    assert run.metric_names() == ["critic/score/mean", CPU, GPU]
    steps, values = run.metrics(CPU, start_step=3, end_step=4)
    assert (steps.tolist(), values.tolist()) == ([3, 4], [12.0, 17.0])
    frame = run.frame([CPU, "critic/score/mean"])
    assert frame.index.tolist() == list(range(1, STEPS + 1))
    assert frame[CPU].iloc[0] == 2.0
    with pytest.raises(NotFoundError, match="system/cpu"):
        run.metrics("system/cpu")


def test_a_table_of_everything_holds_what_was_logged(written: Written) -> None:
    measure(written, CPU, steps=STEPS + 1)  # a step that is not logged yet
    assert list(written.run.frame().columns) == ["critic/score/mean"]
    assert len(written.run.frame()) == STEPS


def test_every_sample_stays_readable_by_time(written: Written) -> None:
    frame = written.run.system()
    assert list(frame.columns) == ["attempt", "step", CPU, GPU]
    assert frame.index.name == "time"
    assert len(frame) == 100
    assert np.allclose(np.diff(frame.index), EVERY_S)
    assert frame["step"].tolist() == [1 + k // 5 for k in range(100)]
    assert list(written.run.system([GPU], kind="numpy")) == ["time", "attempt", "step", GPU]
    assert written.run.system([GPU], kind="arrow").num_rows == 100
    with pytest.raises(NotFoundError, match="use_percent") as refused:
        written.run.system(["system/gpu/use"])
    assert "not_measured" in (refused.value.hint or "")


def test_a_host_that_was_not_measured_has_an_empty_table(write_run: Callable[..., Written]) -> None:
    run = write_run("bare").begin().steps(1, 3, "critic/score/mean", float).run
    assert len(run.system()) == 0
    assert run.metric_names() == ["critic/score/mean"]


def test_a_panel_offers_them_and_shows_what_gpus_do(lab: Lab, written: Written) -> None:
    view = RunView(lab, written.run)
    choices = {choice.chart.metric: choice.shown for choice in Selection().choices(view.metric_names())}
    assert choices == {"critic/score/mean": True, GPU: True, CPU: False}
    chosen = Selection().with_metric(CPU, shown=True, names=view.metric_names())
    chosen = chosen.with_metric(GPU, shown=False, names=view.metric_names())
    assert [chart.metric for chart in chosen.shown(view.metric_names())] == ["critic/score/mean", CPU]
    only = Selection(only=("critic/score/mean",)).choices(view.metric_names())
    assert [choice.chart.metric for choice in only] == ["critic/score/mean"]


def test_a_run_without_a_known_metric_is_not_shown_as_its_host(write_run: Callable[..., Written], lab: Lab) -> None:
    written = write_run("odd").begin().steps(1, 3, "zebra", float)
    measure(written, CPU, steps=3)
    choices = Selection().choices(RunView(lab, written.run).metric_names())
    assert [(choice.chart.metric, choice.shown) for choice in choices] == [("zebra", True), (CPU, False)]


def test_the_time_axis_shows_every_sample_where_it_was_taken(lab: Lab, written: Written) -> None:
    view = RunView(lab, written.run)
    (chart,) = [choice.chart for choice in Selection().choices(view.metric_names()) if choice.chart.metric == GPU]
    sheet = gather([Line("a", view)], [chart], Selection(axis="time"))
    (curve,) = sheet.plots[0].curves
    # The axis begins with the first record, after 10 s.
    assert np.allclose(curve.places, EVERY_S * np.arange(95))
    assert curve.values.tolist() == list(range(5, 100))
    assert sheet.plots[0].last == 99
    by_step = gather([Line("a", view)], [chart], Selection()).plots[0].curves[0]
    assert by_step.places.tolist() == list(range(1, STEPS + 1))


def test_pace_and_steps_are_those_of_the_training(lab: Lab, write_run: Callable[..., Written]) -> None:
    written = write_run("paced").begin().steps(1, 5, "zebra", float)
    measure(written, CPU, steps=9)
    view = RunView(lab, written.run)
    assert view.pulse()[0].tolist() == [1, 2, 3, 4, 5]
    assert view.clock()[1].tolist() == [written.begun + 10.0 * step for step in range(1, 6)]
    assert written.run.row.step == 5
    assert len(lab.store.metrics.times(written.run.id)) == 5


def test_a_replay_knows_nothing_later(lab: Lab, written: Written) -> None:
    replay = Replay(RunView(lab, written.run))
    replay.seek(3)
    assert replay.series(CPU)[0].tolist() == [1, 2, 3]
    moments = replay.moments(CPU)
    assert moments is not None
    assert moments[0].max() == written.begun + 30
    assert replay.moments("critic/score/mean") is None


def test_an_attempt_beside_the_run_has_its_own(lab: Lab, written: Written) -> None:
    written.begin(resumed_from=10).steps(11, 12, "critic/score/mean", float)
    view = RunView(lab, written.run)
    first = view.other("attempt 1")
    assert first.series(CPU)[0].tolist() == list(range(1, STEPS + 1))
    moments = first.moments(CPU)
    assert moments is not None
    assert len(moments[0]) == 100
    assert view.other("attempt 2").series(CPU)[0].tolist() == []


def test_diagnosis_and_comparison_are_as_without_them(lab: Lab, write_run: Callable[..., Written]) -> None:
    def reward(step: int) -> float:
        return math.nan if step > 15 else 1.0

    runs = [write_run(name).begin().steps(1, STEPS, "critic/score/mean", reward) for name in "ab"]
    before = [(one.run.health(), one.run.findings(), one.run.not_applicable()) for one in runs]
    measure(runs[0], CPU, GPU)
    for one, told in zip(runs, before, strict=True):
        assert (one.run.health(), one.run.findings(), one.run.not_applicable()) == told
        lab.diagnoses.forget(one.run.id)
        assert (one.run.health(), one.run.findings(), one.run.not_applicable()) == told
    fired = [[(f.rule, f.step, f.saved_s) for f in lab.backtest(runs=[one.run]).firings] for one in runs]
    assert fired[0] == fired[1] != []
    comparison = compare(lab, [one.run for one in runs], metrics=[CPU])
    assert [value.last for value in comparison.values(CPU)] == [97.0, None]
