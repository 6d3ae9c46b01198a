"""Time the diagnosis: 100,000 steps at once with every rule, and one more step.

Run it with ``python tests/bench/diagnostics.py``; it prints a table, and with ``--json`` a JSON object.
The run is an asynchronous PPO run and an SFT run in one, so that every rule has something to look at:
some metrics are healthy, some breach all the time or now and then.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time

import numpy as np

from verl_lab.diagnostics import RULES, Diagnosis, SampleSummary, diagnose

CONFIG = {
    "data": {"train_batch_size": 64, "max_response_length": 1024},
    "trainer": {"total_training_steps": 200_000, "test_freq": 10, "save_freq": -1, "device": "cuda"},
}
THRESHOLDS = {"memory-leak": {"node_memory_gb": 512, "gpu_memory_gb": 80}}
BARS_MS = {"whole run": 200.0, "one more step": 1.0}


def synthetic(n_steps: int) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return 40 metrics over ``n_steps`` steps, validated every tenth."""
    dice = np.random.default_rng(0)
    steps = np.arange(1, n_steps + 1)
    noise = lambda scale: dice.normal(0, scale, n_steps)  # noqa: E731 - one line for each metric below
    learning = 1 - np.exp(-steps / (n_steps / 5))
    every = {
        "actor/entropy": 0.6 - 0.3 * learning + noise(0.03),
        "actor/kl_loss": 1.2 * learning + noise(0.05),
        "actor/ppo_kl": np.abs(noise(0.006)),
        "actor/pg_clipfrac": np.abs(noise(0.05)),
        "actor/grad_norm": np.exp(noise(0.5)) * 2,
        "actor/pg_loss": noise(0.02),
        "actor/lr": np.full(n_steps, 1e-6),
        "critic/grad_norm": np.exp(noise(0.4)),
        "critic/vf_explained_var": 0.5 * learning + noise(0.2),
        "critic/score/mean": 0.1 + 0.6 * learning + noise(0.05),
        "critic/score/min": np.zeros(n_steps),
        "critic/score/max": np.ones(n_steps),
        "response_length/mean": 300 + 200 * learning + noise(20),
        "response_length/max": np.full(n_steps, 1024.0),
        "response_length/clip_ratio": 0.08 + np.abs(noise(0.02)),
        "response/aborted_ratio": np.zeros(n_steps),
        "training/rollout_probs_diff_mean": 0.004 + np.abs(noise(0.001)),
        "training/rollout_actor_probs_pearson_corr": 1 - np.abs(noise(0.01)),
        "training/off_policy/trajectory_staleness_worst/max": dice.integers(0, 6, n_steps).astype(float),
        "training/filter_groups/evicted_samples": dice.integers(0, 64, n_steps).astype(float),
        "rollout_corr/kl": noise(0.01),
        "rollout_corr/k3_kl": np.abs(noise(0.0005)),
        "rollout_corr/rollout_is_mean": 1 + noise(0.1),
        "rollout_corr/rollout_is_std": 0.5 + noise(0.1),
        "rollout_corr/rollout_is_eff_sample_size": 0.6 + noise(0.05),
        "rollout_corr/chi2_token": np.abs(noise(0.1)),
        "fully_async/trainer/idle_ratio": np.abs(noise(0.2)),
        "fully_async/rollouter/idle_ratio": np.abs(noise(0.2)),
        "agent_loop/num_preempted/mean": np.zeros(n_steps),
        "perf/mfu/actor": 0.35 + noise(0.02),
        "perf/throughput": 3000 + noise(200),
        "perf/time_per_step": 20 + noise(1),
        "actor/perf/cpu_memory_used_gb": 200 + 100 * steps / n_steps + noise(1),
        "actor/perf/max_memory_reserved_gb": 70 + 0 * steps,
        "train/loss": 2 - learning + noise(0.05),
        "train/grad_norm": np.exp(noise(0.5)),
        "train/global_tokens": 50_000 + noise(500),
        "training/global_step": steps.astype(float),
    }
    series = {name: (steps, np.asarray(values, float)) for name, values in every.items()}
    validated = steps[9::10]
    accuracy = 0.2 + 0.5 * learning[9::10] + noise(0.02)[9::10]
    series["val-core/math/acc/mean@1"] = (validated, accuracy)
    series["val/loss"] = (validated, 2 - accuracy)
    return series


def samples_of(series: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[int, SampleSummary]:
    """Return a summary for every tenth step."""
    return {int(s): SampleSummary(512, 64, 0.4, 0.2, 0.05, 0.0) for s in series["val/loss"][0]}


def measure(n_steps: int, n_rounds: int, n_more: int) -> dict[str, dict[str, float]]:
    """Return median and 95th percentile, in ms, of both."""
    series = synthetic(n_steps + n_more)
    head = {name: (steps[steps <= n_steps], values[steps <= n_steps]) for name, (steps, values) in series.items()}
    times = (np.arange(1, n_steps + 1), np.linspace(0.0, 20.0 * (n_steps - 1), n_steps))
    samples = samples_of(head)
    whole: list[float] = []
    diagnosis = Diagnosis()
    for _ in range(n_rounds):
        began = time.perf_counter()
        diagnosis = diagnose(head, config=CONFIG, thresholds=THRESHOLDS, samples=samples, times=times)
        diagnosis.health()
        whole.append(1e3 * (time.perf_counter() - began))
    short = {name: (steps[steps <= 200], values[steps <= 200]) for name, (steps, values) in head.items()}
    return {
        "whole run": _summary(whole),
        "one more step": _summary(_one_by_one(diagnosis, series, n_steps, n_more)),
        "one more step, early": _summary(
            _one_by_one(diagnose(short, config=CONFIG, thresholds=THRESHOLDS), series, 200, n_more)
        ),
    }


def _one_by_one(
    diagnosis: Diagnosis, series: dict[str, tuple[np.ndarray, np.ndarray]], after: int, n_more: int
) -> list[float]:
    columns = {name: dict(zip(s.tolist(), v.tolist(), strict=True)) for name, (s, v) in series.items()}
    taken: list[float] = []
    for step in range(after + 1, after + n_more + 1):
        values = {name: column[step] for name, column in columns.items() if step in column}
        began = time.perf_counter()
        diagnosis.add(step, values, time=step * 20.0)
        taken.append(1e3 * (time.perf_counter() - began))
    return taken


def _summary(taken: list[float]) -> dict[str, float]:
    return {"median_ms": statistics.median(taken), "p95_ms": float(np.percentile(taken, 95))}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=100_000)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    result = measure(options.steps, n_rounds=5, n_more=500)
    if options.json:
        print(json.dumps(result))
        return
    print(f"{len(RULES)} rules, 40 metrics, {options.steps:,} steps")
    for name, row in result.items():
        bar = BARS_MS.get(name.partition(",")[0], float("nan"))
        print(f"{name:24} median {row['median_ms']:8.3f} ms   p95 {row['p95_ms']:8.3f} ms   bar {bar:g} ms")


if __name__ == "__main__":
    main()
