"""A snapshot is complete, small, and as exact as the eye can tell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
import pytest
from replay import Replay

from verl_lab.widgets.selection import Selection
from verl_lab.widgets.snapshot import snapshot

if TYPE_CHECKING:
    from pathlib import Path


def _decoded(source: Replay, **wanted: bool) -> tuple[dict[str, Any], dict[str, Any], int]:
    message, buffers = snapshot(source, source.header(), Selection(wanted=wanted))
    series = {
        chart["metric"]: tuple(
            np.frombuffer(buffer, "<" + kind)
            for buffer, kind in zip(buffers[2 * i : 2 * i + 2], chart["traces"][0]["types"], strict=True)
        )
        for i, chart in enumerate(message["charts"])
    }
    return message, series, len(orjson.dumps(message)) + sum(map(len, buffers))


@pytest.mark.parametrize(
    ("recording", "labels"),
    [
        (
            "grpo-kl-loss-30-steps.jsonl",
            {
                "Reward",
                "Held-out score",
                "KL to reference",
                "Entropy",
                "Gradient norm",
                "Response length",
                "Throughput",
            },
        ),
        ("sft-60-steps.jsonl", {"Loss", "Validation loss", "Gradient norm", "Learning rate", "Tokens"}),
    ],
)
def test_charts_of_a_recorded_run_arrive_with_their_values(recordings: Path, recording: str, labels: set[str]) -> None:
    source = Replay(recordings / recording, 30)
    message, series, _ = _decoded(source)
    assert {chart["label"] for chart in message["charts"]} == labels
    for name, (steps, values) in series.items():
        logged_steps, logged = source.series(name)
        np.testing.assert_array_equal(steps, logged_steps)
        np.testing.assert_allclose(values, logged, rtol=1e-6)
    assert message["count"] == len(source.metric_names())


def test_seven_long_traces_fit_in_one_hundred_kilobytes(recordings: Path) -> None:
    source = Replay(recordings / "grpo-kl-loss-30-steps.jsonl", 2)
    rng = np.random.default_rng(0)
    for chart in Selection().shown(source.metric_names()):
        values = rng.normal(size=100_000)
        values[rng.integers(0, values.size, 500)] = np.nan
        source.fill(chart.metric, values, first_step=20_000_000)
    message, series, size_bytes = _decoded(source)
    assert size_bytes <= 100_000
    assert all(steps[-1] == 20_099_999 for steps, _ in series.values())
    assert len(message["charts"]) == 7


@pytest.mark.parametrize("values", [[1e300, 2e300], [1e-60, 2e-60], [1e9, 1e9 + 1, 1e9 + 2]])
def test_values_that_float32_would_distort_travel_as_float64(values: list[float]) -> None:
    source = Replay()
    source.fill("train/loss", np.array(values))
    _, series, _ = _decoded(source)
    np.testing.assert_array_equal(series["train/loss"][1], values)


def test_a_chart_can_be_switched_off_and_another_added(recordings: Path) -> None:
    source = Replay(recordings / "sft-60-steps.jsonl", 30)
    message, series, _ = _decoded(source, **{"train/lr": False, "train/mfu": True, "no/such": True})
    assert "train/lr" not in series
    assert "train/mfu" in series
    assert {"metric": "train/lr", "label": "Learning rate", "unit": "", "shown": False} in message["chips"]
    assert not any(chip["metric"] == "no/such" for chip in message["chips"])
