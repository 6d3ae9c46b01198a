"""What is drawn: axes, ranges, overlays, markers and thresholds."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from replay import Replay

from verl_lab.domain.finding import Finding, Severity
from verl_lab.domain.metric import describe
from verl_lab.widgets.axis import Line
from verl_lab.widgets.flags import flags_of
from verl_lab.widgets.gather import Sheet, gather
from verl_lab.widgets.packing import pack
from verl_lab.widgets.selection import CHARTS_MOST, Selection
from verl_lab.widgets.snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path

LOSS = [describe("train/loss")]


def _sheet(selection: Selection, *sources: Replay) -> Sheet:
    return gather([Line(str(k), source) for k, source in enumerate(sources)], LOSS, selection)


def _filled(size: int, first_step: int = 1) -> Replay:
    source = Replay()
    source.fill("train/loss", np.arange(size, dtype=np.float64), first_step=first_step)
    return source


def test_time_axis_counts_each_run_from_its_own_start_in_a_fitting_unit() -> None:
    sheet = _sheet(Selection(axis="time"), _filled(10), _filled(301, first_step=50))
    assert [curve.places[0] for curve in sheet.plots[0].curves] == [0.0, 0.0]
    assert sheet.extent == (0.0, 600.0)
    assert (sheet.scale, sheet.suffix) == (60.0, " m")


def test_line_without_times_is_not_drawn_on_a_time_axis() -> None:
    untimed = _filled(10)
    untimed.is_timed = False
    sheet = _sheet(Selection(axis="time"), _filled(10), untimed)
    assert sheet.is_drawn == [True, False]
    assert [curve.line for curve in sheet.plots[0].curves] == [0]


def test_clock_that_was_set_back_never_turns_the_line_round() -> None:
    source = _filled(6)
    source.clock = lambda: (np.arange(1, 7), np.array([100.0, 110, 90, 95, 130, np.nan]))
    places = _sheet(Selection(axis="time"), source).plots[0].curves[0].places
    assert places.tolist() == [0.0, 10.0, 10.0, 10.0, 30.0, 30.0]


def test_range_keeps_one_point_beyond_either_end_and_names_the_last_inside() -> None:
    sheet = _sheet(Selection(span=(10.5, 20.0)), _filled(100))
    plot = sheet.plots[0]
    assert plot.curves[0].places.tolist() == list(range(10, 22))
    assert plot.last == 19.0
    assert sheet.extent == (10.5, 20.0)
    assert _sheet(Selection(span=(200.0, 300.0)), _filled(100)).plots[0].last is None


def test_range_gets_points_that_the_whole_had_no_room_for() -> None:
    source = _filled(200_000)
    message, buffers = pack(_sheet(Selection(span=(1_000.0, 1_500.0)), source))
    assert np.frombuffer(buffers[0], message["charts"][0]["traces"][0]["types"][0]).size == 503


def test_average_of_a_range_begins_before_it() -> None:
    source = _filled(100)
    whole = _sheet(Selection(smooth=0.9), source).plots[0]
    part = _sheet(Selection(smooth=0.9, span=(50.0, 60.0)), source).plots[0]
    assert [curve.is_raw for curve in part.curves] == [True, False]
    np.testing.assert_array_equal(part.curves[1].values, whole.curves[1].values[48:61])


def _finding(**given: Any) -> Finding:
    base = Finding("r", Severity.WARNING, "train/loss", 3, 9, "e", "c", "s", value=7.0, threshold=2.5)
    return replace(base, **given)


@pytest.mark.parametrize(
    ("finding", "flags", "limits"),
    [
        (_finding(), [(3.0, 2.0)], [2.5]),
        (_finding(value=1.2345), [(3.0, 2.0)], []),  # a ratio made from the curve: its bound is no height in it
        (_finding(cleared_step=9), [(3.0, 2.0)], []),
        (_finding(first_step=5), [], [2.5]),  # nothing finite there to mark
        (_finding(metric="other"), [], []),
        (_finding(threshold=None), [(3.0, 2.0)], []),
    ],
)
def test_finding_is_marked_where_it_begins(finding: Finding, flags: list[object], limits: list[float]) -> None:
    steps, values = np.arange(1, 10), np.array([0.0, 1, 2, 3, np.nan, 5, 6, 7, 8])
    marked, drawn = flags_of([finding], "train/loss", steps, steps, values)
    assert [(flag["x"], flag["y"]) for flag in marked] == flags
    assert [limit["y"] for limit in drawn] == limits


def test_everything_at_once_still_fits_in_one_hundred_kilobytes(recordings: Path) -> None:
    rng = np.random.default_rng(0)
    source = Replay(recordings / "grpo-kl-loss-30-steps.jsonl", 30, reason="r" * 5_000, notice="n" * 5_000)
    source.besides = {str(k): Replay(recordings / "grpo-30-steps.jsonl", 30, name="n" * 500) for k in range(6)}
    names = source.metric_names()[:CHARTS_MOST]
    for name in names:
        for one in (source, *source.besides.values()):
            values = rng.normal(size=20_000)
            values[rng.integers(0, values.size, 500)] = np.nan
            one.fill(name, values, first_step=20_000_000)
    long: dict[str, Any] = {
        "evidence": "e" * 5_000,
        "cause": "c" * 5_000,
        "title": "t" * 900,
        "settings": ("k=v",) * 99,
    }
    source.raised = [_finding(rule=f"r{k}", metric=name, **long) for k, name in enumerate(names * 20)]
    selection = Selection(only=tuple(names), over=tuple(source.besides), smooth=0.5)
    message, buffers = snapshot(source, source.header(), selection, findings=source.raised, health=source.health())
    assert len(message["charts"]) == CHARTS_MOST
    assert len(orjson.dumps(message)) + sum(map(len, buffers)) <= 100_000
