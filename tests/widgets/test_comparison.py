"""Runs side by side: values, best ones, and what differs in their configuration."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from replay import Replay

from verl_lab.errors import InvalidInputError
from verl_lab.widgets.comparison import Comparison
from verl_lab.widgets.contrast import Value, best_of, differences, direction, value_of

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def comparison(recordings: Path) -> Iterator[Comparison]:
    """Compare two recorded runs."""
    runs = [Replay(recordings / f"{name}-30-steps.jsonl", 30, name=name) for name in ("grpo-kl-loss", "grpo")]
    runs[0].settings = {"actor": {"lr": 1e-6, "kl": True}, "trainer": {"default_local_dir": "/a"}}
    runs[1].settings = {"actor": {"lr": 1e-5, "kl": True}, "trainer": {"default_local_dir": "/b"}}
    made = Comparison(runs)
    yield made
    made.close()


@pytest.mark.parametrize(
    ("metric", "sense"),
    [
        ("critic/score/mean", 1), ("val-core/add/acc/mean@1", 1), ("perf/throughput", 1), ("perf/mfu/actor", 1),
        ("train/loss", -1), ("val/loss", -1), ("critic/vf_loss", -1), ("critic/vf_explained_var", 1),
        ("actor/pg_loss", 0), ("actor/kl_loss", 0), ("actor/entropy", 0), ("critic/score/min", 0), ("timing_s/step", 0),
        ("actor/lr", 0), ("response_length/mean", 0),
    ],
)  # fmt: skip
def test_better_is_known_only_where_it_means_something(metric: str, sense: int) -> None:
    assert direction(metric) == sense


def test_best_is_finite_in_the_metrics_direction_and_never_a_tie() -> None:
    source = Replay()
    source.fill("train/loss", np.array([3.0, 1.0, np.nan, -np.inf, 2.0]))
    assert value_of(source, "train/loss") == Value(2.0, 1.0, 2)
    assert value_of(source, "no/such") == Value()
    values = [Value(1.0, 0.5, 1), Value(1.0, 0.25, 2), Value()]
    assert best_of(values, "train/loss") == 1
    assert best_of(values, "critic/score/mean") == 0
    assert best_of([values[0], values[0]], "train/loss") is None
    assert best_of([values[0], Value()], "train/loss") is None


def test_differences_fold_names_but_not_what_is_read_and_skip_the_unknown() -> None:
    first = {"lr": 1, "same": 2, "model": {"path": "/models/a"}, "data": ["/x/1.parquet"]}
    second = {"lr": 3, "same": 2, "model": {"path": "~/models/b"}, "data": ["/x/2.parquet"], "extra": 1}
    first["trainer"], second["trainer"] = {"experiment_name": "a"}, {"experiment_name": "b"}
    found = {one.key: one for one in differences([first, {}, second])}
    assert found["lr"].values == ("1", None, "3")
    assert found["extra"].values == (None, None, "1")
    assert "same" not in found
    assert {key for key, one in found.items() if one.is_noise} == {"trainer.experiment_name"}
    assert differences([{}, {}]) == []


def test_text_and_picture_tell_runs_values_and_settings(comparison: Comparison) -> None:
    bundle = comparison._still()
    text: Any = bundle["text/plain"]
    for part in ("Comparison of 2 runs", "A  grpo-kl-loss", "B  grpo", "Reward", "actor.lr: 1e-6 | 0.00001", "health"):
        assert part in text, part
    assert "default_local_dir" not in text
    assert bundle["image/png"]


def test_message_holds_both_curves_and_fits(comparison: Comparison) -> None:
    message, buffers = comparison._shown.snapshot()
    assert [line["name"] for line in message["lines"]] == ["grpo-kl-loss", "grpo"]
    reward = next(chart for chart in message["charts"] if chart["label"] == "Reward")
    assert [trace["line"] for trace in reward["traces"]] == [0, 1]
    assert len(buffers) == 2 * sum(len(chart["traces"]) for chart in message["charts"])
    assert sum(map(len, buffers)) < 100_000


def test_runs_of_one_name_are_told_apart_by_id(recordings: Path) -> None:
    runs = [Replay(recordings / "grpo-30-steps.jsonl", 5, name="same", run_id=f"id-{k}") for k in range(2)]
    made = Comparison(runs)
    assert [line["name"] for line in made._shown.snapshot()[0]["lines"]] == ["id-0", "id-1"]
    made.close()


@pytest.mark.parametrize("count", [0, 1, 8])
def test_too_few_and_too_many_runs_are_refused(count: int) -> None:
    with pytest.raises(InvalidInputError, match="2 to 7"):
        Comparison([Replay() for _ in range(count)])
