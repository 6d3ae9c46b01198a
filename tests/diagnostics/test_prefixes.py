"""One step at a time, in chunks, or all at once: the same findings at every step."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from verl_lab.diagnostics import Diagnosis, SampleSummary, diagnose
from verl_lab.domain.wire import EventRecord
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

CONFIG = {
    "data": {"train_batch_size": 64, "max_response_length": 8},
    "trainer": {"total_training_steps": 400, "test_freq": -1},
}
THRESHOLDS = {"memory-leak": {"node_memory_gb": 20, "gpu_memory_gb": 10}, "plateau": {"patience": 20}}
# Levels around the thresholds, so that every rule fires now and then.
LEVELS = {
    "actor/entropy": (0.0, 1.5),
    "actor/kl_loss": (0.3, 6.0),
    "actor/ppo_kl": (0.0, 0.03),
    "actor/pg_clipfrac": (0.0, 0.5),
    "actor/grad_norm": (0.5, 30.0),
    "critic/vf_explained_var": (-0.5, 0.2),
    "critic/score/mean": (-0.1, 0.9),
    "critic/score/min": (-0.2, 0.0),
    "critic/score/max": (0.5, 1.0),
    "response_length/mean": (3.0, 8.0),
    "response_length/max": (6.0, 8.9),
    "response_length/clip_ratio": (0.0, 1.0),
    "response/aborted_ratio": (0.0, 0.1),
    "training/rollout_probs_diff_mean": (0.0, 0.02),
    "rollout_corr/kl": (-0.2, 0.2),
    "rollout_corr/rollout_is_mean": (0.3, 2.5),
    "training/filter_groups/evicted_samples": (0.0, 400.0),
    "perf/throughput": (40.0, 120.0),
    "actor/perf/cpu_memory_used_gb": (5.0, 25.0),
    "train/loss": (0.5, 3.0),
    "train/global_tokens": (400.0, 1200.0),
    "timing_s/gen": (1.0, 2.0),
}


def _wandering(dice: np.random.Generator, low: float, high: float, count: int) -> np.ndarray:
    walk = np.cumsum(dice.normal(0, 0.15, count)) + dice.uniform(0, 1)
    return low + (high - low) * np.abs((walk % 2) - 1)


def _hostile_run(seed: int, last: int) -> list[dict]:
    """Return records with gaps, NaN, metrics that come late and go, and validation-only steps."""
    dice = np.random.default_rng(seed)
    begins = {name: int(dice.choice([1, 1, 1, 30])) for name in LEVELS}
    ends = {name: int(dice.choice([last, last, last, last - 40])) for name in LEVELS}
    walks = {name: _wandering(dice, *bounds, last + 1) for name, bounds in LEVELS.items()}
    records: list[dict] = []
    now, step = 1e9, 0
    while step < last:
        values: dict[str, float] = {}
        for name, walk in walks.items():
            if step and begins[name] <= step <= ends[name] and dice.random() > 0.03:
                values[name] = float(walk[step]) if dice.random() > 0.01 else float(dice.choice([np.nan, np.inf]))
        if step % 5 == 0:
            values["val-core/m/acc/mean@1"] = float(np.round(dice.uniform(0, 0.5), 2))
            values["val/loss"] = float(dice.uniform(1, 3))
        now += float(dice.uniform(5, 20))
        samples = None
        if step and step % 2 == 0:
            share = float(dice.choice([0.3, 0.6, 0.9, 1.0]))
            samples = SampleSummary(64, 8, share, share / 3, float(dice.uniform(0, 1)), 0.0)
        events: list[EventRecord] = []
        if dice.random() < 0.05:
            count = {"count": int(dice.integers(1, 40))}
            events.append(EventRecord(step, now, "reward_exception", step, "agent", count))
        records.append({"step": step, "values": values, "time": now, "samples": samples, "events": events})
        step += int(dice.choice([1, 1, 1, 1, 2, 7]))
    return records


def _at_once(records: list[dict]) -> Diagnosis:
    points: dict[str, tuple[list[int], list[float]]] = {}
    for record in records:
        for name, value in record["values"].items():
            steps, values = points.setdefault(name, ([], []))
            steps.append(record["step"])
            values.append(value)
    return diagnose(
        {name: (np.array(s, np.int64), np.array(v, float)) for name, (s, v) in points.items()},
        config=CONFIG,
        thresholds=THRESHOLDS,
        samples={r["step"]: r["samples"] for r in records if r["samples"] is not None},
        events=[event for r in records for event in r["events"]],
        times=(np.array([r["step"] for r in records]), np.array([r["time"] for r in records])),
    )


@pytest.mark.parametrize("seed", range(6))
def test_step_by_step_and_replay_agree_with_diagnosing_each_prefix(seed: int):
    records = _hostile_run(seed, 220)
    whole = _at_once(records)
    live = Diagnosis(config=CONFIG, thresholds=THRESHOLDS)
    chosen = set(random.Random(seed).sample(range(len(records)), 25)) | {0, len(records) - 1}

    for k, r in enumerate(records):
        live.add(r["step"], r["values"], time=r["time"], samples=r["samples"], events=r["events"])
        if k in chosen:
            prefix = _at_once(records[: k + 1])
            assert live.findings() == prefix.findings()
            assert live.health() == prefix.health()
            assert whole.findings(r["step"]) == prefix.findings()
            assert whole.health(r["step"]) == prefix.health()

    assert len({f.rule for f in whole.findings()}) >= 14, "the run is too tame to prove anything"
    assert whole.not_applicable() == live.not_applicable()


def test_recordings_step_by_step_agree_with_all_at_once(recorded: Callable[[str], Any]):
    for name in ("grpo-30-steps", "grpo-kl-loss-30-steps", "grpo-sort-digits-30-steps", "sft-60-steps"):
        series = recorded(name)
        live = Diagnosis()
        for step in sorted({int(s) for steps, _ in series.values() for s in steps}):
            live.add(step, {m: float(v[steps == step][0]) for m, (steps, v) in series.items() if step in steps})

        assert live.findings() == diagnose(series).findings()


def test_chunks_of_any_size_agree_with_all_at_once(run_of: Callable[..., Any]):
    dice = np.random.default_rng(3)
    series = run_of({name: _wandering(dice, *bounds, 700).tolist() for name, bounds in LEVELS.items()})
    whole = diagnose(series, config=CONFIG, thresholds=THRESHOLDS)
    chunked = Diagnosis(config=CONFIG, thresholds=THRESHOLDS)
    at = 0
    while at < 700:
        size = int(dice.integers(1, 90))
        chunk = slice(at, at + size)
        chunked.extend({name: (steps[chunk], values[chunk]) for name, (steps, values) in series.items()})
        at += size

    assert chunked.findings() == whole.findings()


def test_add_returns_a_finding_when_it_begins_and_when_it_gets_graver():
    diagnosis = Diagnosis()
    kl = [0.1, 1.2, 1.2, 1.2, 1.2, 2.5, 2.5, 2.5, 2.5, 0.1, 0.1, 0.1]
    found = [diagnosis.add(step, {"actor/kl_loss": value}) for step, value in enumerate(kl)]
    raised = [[(f.severity.value, f.first_step) for f in now] for now in found]

    assert raised[3] == [("warning", 3)]
    assert raised[7] == [("error", 3)]
    assert [k for k, found in enumerate(raised) if found] == [3, 7]


def test_all_findings_that_ever_counted_were_raised():
    records = _hostile_run(11, 150)
    live = Diagnosis(config=CONFIG, thresholds=THRESHOLDS)
    raised = set()
    for r in records:
        for f in live.add(r["step"], r["values"], time=r["time"], samples=r["samples"], events=r["events"]):
            raised.add((f.rule, f.metric, f.first_step, f.severity))

    told = {(f.rule, f.metric, f.first_step, f.severity) for f in live.findings() if f.rule != "no-evidence"}
    assert told <= raised


def test_two_records_of_one_step_are_one_step():
    diagnosis = Diagnosis()
    diagnosis.add(60, {"train/loss": 1.0})
    diagnosis.add(60, {"val/loss": float("nan"), "train/loss": float("nan")})

    assert [f.metric for f in diagnosis.findings()] == ["val/loss"]


def test_step_that_goes_back_is_refused_with_what_to_do():
    diagnosis = Diagnosis()
    diagnosis.add(30, {"train/loss": 1.0})

    with pytest.raises(InvalidInputError, match="21 comes after 30") as caught:
        diagnosis.add(21, {"train/loss": 1.0})
    assert "anew" in (caught.value.hint or "")


def test_steps_without_their_values_are_refused_by_name():
    with pytest.raises(InvalidInputError, match="train/loss: 3 steps but 2 values"):
        diagnose({"train/loss": (np.arange(3), np.zeros(2))})


def test_log_with_a_resume_in_it_counts_the_later_steps():
    steps = np.array([1, 2, 3, 4, 5, 3, 4, 5, 6])
    values = np.array([0.1, 0.1, 9.0, 9.0, 9.0, 0.1, 0.1, 0.1, 0.1])

    assert diagnose({"actor/kl_loss": (steps, values)}).findings() == ()


def test_arrays_given_are_not_changed(run_of: Callable[..., Any]):
    series = run_of({"train/loss": [1.0, 2.0, float("nan"), 4.0]})
    diagnosis = diagnose(series)
    diagnosis.add(5, {"train/loss": 9.0})

    steps, values = series["train/loss"]
    assert steps.tolist() == [1, 2, 3, 4]
    assert values[[0, 1, 3]].tolist() == [1.0, 2.0, 4.0]


@pytest.mark.parametrize(
    "values",
    [[], [float("nan")] * 40, [float("inf")] * 40, [1e308] * 40, [0.0] * 40, [-1e308, 1e308] * 30],
    ids=["none", "nan", "infinity", "huge", "zero", "huge both ways"],
)
def test_strange_values_in_every_metric_do_not_raise(values: Any, run_of: Callable[..., Any]):
    names = [*LEVELS, "val/loss", "val-core/m/acc/mean@1", "rollout_corr/chi2_token", "vllm:kv_cache_usage_perc"]
    series = run_of(dict.fromkeys(names, values))
    times = (np.arange(1, len(values) + 1), np.full(len(values), 1e9))
    diagnosis = diagnose(series, config=CONFIG, thresholds=THRESHOLDS, times=times, now=1e9)

    for step in (0, 1, 20, None):
        diagnosis.findings(step)
        diagnosis.health(step)
    diagnosis.not_applicable()
