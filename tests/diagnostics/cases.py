"""For every rule: runs in which it must fire, with step and severity, and runs in which it must not."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.diagnostics import Diagnosis, SampleSummary, diagnose
from verl_lab.domain.run import RunState, Status
from verl_lab.domain.wire import EventRecord

if TYPE_CHECKING:
    from verl_lab.domain.finding import Finding

Values = Sequence[float]
Fired = tuple[str, int]  # severity and first step


@dataclass(frozen=True)
class Case:
    """A run and what one rule must say about it: severity and first step, or None for nothing.

    A metric is a list (values at steps 1, 2, 3, …) or a mapping from step to value.
    """

    rule: str
    metrics: Mapping[str, Values | Mapping[int, float]]
    fires: Fired | None
    why: str
    config: Mapping[str, Any] | None = None
    thresholds: Mapping[str, Any] = field(default_factory=dict)
    samples: Mapping[int, SampleSummary] | None = None
    events: tuple[EventRecord, ...] = ()
    step_s: Values | None = None
    silence_s: float | None = None
    ended: Status | None = None

    @property
    def label(self) -> str:
        return f"{self.rule}: {self.why}".replace(" ", "-")

    def diagnose(self, changes: Mapping[str, Any] | None = None) -> Diagnosis:
        thresholds = {**self.thresholds}
        if changes:
            thresholds[self.rule] = {**changes, **thresholds.get(self.rule, {})}
        times = None
        if self.step_s is not None:
            times = (np.arange(1, len(self.step_s) + 1), 1e9 + np.cumsum(self.step_s))
        return diagnose(
            {name: as_points(values) for name, values in self.metrics.items()},
            config=self.config,
            thresholds=thresholds,
            samples=self.samples,
            events=self.events,
            times=times,
            now=None if self.silence_s is None or times is None else float(times[1][-1]) + self.silence_s,
            ended=self.ended,
        )

    def findings(self, changes: Mapping[str, Any] | None = None) -> list[Finding]:
        return [f for f in self.diagnose(changes).findings() if f.rule == self.rule]


def as_points(values: Values | Mapping[int, float]) -> tuple[np.ndarray, np.ndarray]:
    """Return steps and values."""
    if isinstance(values, Mapping):
        return np.array(list(values), np.int64), np.array(list(values.values()), float)
    return np.arange(1, len(values) + 1), np.array(values, float)


def dead(share: float, solved: float = 0.0) -> SampleSummary:
    """Return samples with a share of dead groups."""
    return SampleSummary(64, 8, share, solved, None, 0.0)


def cut(share: float) -> SampleSummary:
    """Return samples with a share of truncated responses."""
    return SampleSummary(64, 8, 0.0, 0.0, share, 0.0)


def ramp(first: float, last: float, count: int) -> list[float]:
    """Return evenly spaced values."""
    return np.linspace(first, last, count).tolist()


def at(every: int, values: Values, first: int | None = None) -> dict[int, float]:
    """Return values at every so many steps."""
    begin = every if first is None else first
    return {begin + k * every: value for k, value in enumerate(values)}


def exceptions(count: int, step: int = 2) -> tuple[EventRecord, ...]:
    """Return the events of so many exceptions in a reward function, noted at 1, 2, 4, …"""
    counts = [2**k for k in range(20) if 2**k <= count]
    return tuple(EventRecord(k, None, "reward_exception", step, "agent", {"count": n}) for k, n in enumerate(counts))


NAN = float("nan")
BATCH = {"data": {"train_batch_size": 64}}
CAP = {"data": {"max_response_length": 8}}
BOUNDED = {"critic/score/min": [0.0] * 80, "critic/score/max": [1.0] * 80}
SIGNED = {"critic/score/min": [-1.0] * 40, "critic/score/max": [1.0] * 40}
NODE = {"memory-leak": {"node_memory_gb": 64}}
GPU = {"memory-leak": {"gpu_memory_gb": 80}}
LEFT = {"trainer": {"total_training_steps": 1067}}
DONE = Status("r", 1, RunState.FAILED, step=30, total=100, exit_code=0)
COLLAPSING = [0.1] * 5 + [0.8] * 10 + [0.3] * 10
TURNING = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.55, 0.5, 0.45, 0.4, 0.35, 0.3]
FLAT_AFTER_FALL = [5.0 - 0.01 * k for k in range(340)] + [1.61 + 0.01 * (-1) ** k for k in range(60)]


def simple(rule: str, metric: str, *graded: tuple[float, str | None], healthy: float) -> list[Case]:
    """Return a case for each value that is in breach from the sixth step on; three in a row make it count."""
    return [
        Case(
            rule,
            {metric: [healthy] * 5 + [value] * 5},
            None if severity is None else (severity, 8),
            f"{metric} at {value}",
        )
        for value, severity in graded
    ]


CASES: list[Case] = [
    Case("non-finite", {"actor/grad_norm": [1, 1, NAN, 1, 1]}, ("critical", 3), "one NaN gradient"),
    Case("non-finite", {"critic/vf_loss": [1, float("inf"), 1]}, ("critical", 2), "one infinite critic loss"),
    Case("non-finite", {"train/loss": [1, 2, 3, float("-inf")]}, ("critical", 4), "one infinite SFT loss"),
    Case("non-finite", {"timing_s/gen": [1, NAN, 1, NAN, 1, NAN, 1]}, ("error", 6), "third NaN elsewhere"),
    Case("non-finite", {"timing_s/gen": [1, NAN, 1, NAN, 1, 1]}, None, "two NaN elsewhere"),
    Case("non-finite", {"timing_s/gen": [1, NAN, *[1] * 9, NAN, *[1] * 10, NAN]}, None, "three NaN in 22"),
    Case("non-finite", {"timing_s/gen": [1, NAN, *[1] * 9, NAN, *[1] * 8, NAN]}, ("error", 21), "three NaN in 20"),
    Case(
        "non-finite",
        {"actor/lr": [1, 1, 1]},
        ("critical", 2),
        "a skipped update that only an event tells of",
        events=(EventRecord(1, None, "non_finite_gradient", 2, "trainer", {"count": 1}),),
    ),
    Case("divergence", {"train/loss": [2.0] * 5 + [1.0] * 15 + [1.6] * 6}, ("error", 24), "1.6 times the best"),
    Case("divergence", {"val/loss": [2.0] * 5 + [1.0] * 15 + [3.2] * 6}, ("critical", 24), "3.2 times the best"),
    Case("divergence", {"loss": [2.0] * 5 + [1.0] * 15 + [2.9] * 6}, ("error", 24), "2.9 times the best"),
    Case("divergence", {"loss": [2.0] * 7 + [1.0] * 8 + [2.0] * 9}, ("error", 19), "the best of ten was short"),
    Case("divergence", {"train/loss": [2.0] * 5 + [1.0] * 15 + [1.45] * 6}, None, "1.45 times the best"),
    Case("divergence", {"train/loss": [2.0] * 5 + [1.0] * 15 + [9.0, 1.0] * 6}, None, "single bad batches"),
    Case("divergence", {"train/loss": [0.69] * 5 + [0.0005] * 15 + [0.002] * 6}, None, "noise of a learnt preference"),
    Case(
        "divergence", {"train/loss": [0.69] * 5 + [0.3] * 15 + [0.95] * 6}, ("critical", 24), "preferences lost again"
    ),
    *simple("gradient-spike", "actor/grad_norm", (10.5, "warning"), (9.5, None), (101, "critical"), healthy=2),
    *simple("gradient-spike", "train/grad_norm", (95, "warning"), healthy=2),
    Case("gradient-spike", {"critic/grad_norm": [1.0] * 50 + [1.32] * 5}, ("warning", 53), "6.4 deviations above"),
    Case("gradient-spike", {"critic/grad_norm": [1.0] * 50 + [1.28] * 5}, None, "5.6 deviations above"),
    Case("gradient-spike", {"actor/grad_norm": [0.9 + 0.05 * k for k in range(1, 60)]}, ("info", 52), "steady rise"),
    Case("gradient-spike", {"actor/grad_norm": [2.0 + 0.05 * k for k in range(1, 80)]}, None, "slow rise"),
    Case(
        "gradient-spike",
        {"actor/grad_norm": [3.0] * 25 + [1.0, 1.1] * 25 + [1.4] * 5},
        ("warning", 78),
        "against the last fifty values only",
    ),
    Case("plateau", {"train/loss": [1.0, 1.01] * 30}, ("info", 51), "fifty flat steps"),
    Case("plateau", {"train/loss": [1.0, 1.01] * 25}, None, "forty-nine flat steps"),
    Case("plateau", {"train/loss": ramp(2, 1, 80)}, None, "a falling loss"),
    Case("plateau", {"train/loss": FLAT_AFTER_FALL}, None, "flat for less than a fifth of the run"),
    Case("plateau", {"val-core/math/acc/mean@1": at(12, [0.5] * 6)}, ("info", 72), "five equal validations"),
    Case("plateau", {"val-core/math/acc/mean@1": at(13, [0.5] * 9)}, None, "four validations in the window"),
    Case(
        "overfit",
        {"train/loss": ramp(2, 1, 40), "val/loss": at(10, [1.0, 1.1, 1.2, 1.3])},
        ("warning", 40),
        "three rises of val/loss",
    ),
    Case(
        "overfit",
        {"train/loss": [*ramp(2, 1, 39), 5.0], "val/loss": at(10, [1.0, 1.1, 1.2, 1.3])},
        ("warning", 40),
        "one bad training batch at the validation",
    ),
    Case("overfit", {"train/loss": ramp(2, 1, 40), "val/loss": at(10, [1.2, 1.1, 1.2, 1.3])}, None, "two rises"),
    Case("overfit", {"train/loss": [1.0] * 40, "val/loss": at(10, [1.0, 1.1, 1.2, 1.3])}, None, "training flat"),
    *simple("entropy-collapse", "actor/entropy", (0.049, "warning"), (0.009, "critical"), (0.051, None), healthy=0.1),
    Case("entropy-collapse", {"actor/entropy": [0.9] * 20 + [0.26] * 10}, ("error", 23), "71 % lost"),
    Case("entropy-collapse", {"actor/entropy": [0.9] * 20 + [0.28] * 10}, None, "69 % lost"),
    *simple("entropy-blow-up", "actor/entropy", (1.05, "warning"), (0.95, None), healthy=0.5),
    Case(
        "entropy-blow-up",
        {"actor/entropy": ramp(0.3, 0.5, 30), "response_length/mean": ramp(100, 200, 30)},
        ("error", 22),
        "entropy and length rise together",
    ),
    Case(
        "entropy-blow-up",
        {"actor/entropy": ramp(0.3, 0.5, 30), "response_length/mean": [100] * 30},
        None,
        "entropy alone rises",
    ),
    *simple("kl-explosion", "actor/kl_loss", (0.45, None), (0.55, "info"), (0.95, "info"), healthy=0.1),
    *simple("kl-explosion", "actor/kl_loss", (1.05, "warning"), (1.95, "warning"), (2.1, "error"), healthy=0.1),
    *simple("kl-explosion", "actor/reward_kl_penalty", (4.8, "error"), (5.2, "critical"), healthy=0.1),
    Case("kl-explosion", {"actor/kl_loss": [0.1, 0.1, 9, 9, 0.1, 9, 9, 0.1]}, None, "never three in a row"),
    Case("kl-explosion", {"actor/kl_loss": [1.1, 1.1, 9.0, 9.0, 1.1]}, ("warning", 3), "two spikes in a breach"),
    *simple("large-update", "actor/ppo_kl", (0.0145, None), (0.0155, "warning"), (0.021, "error"), healthy=0.001),
    *simple("large-update", "actor/ppo_kl", (0.0195, "warning"), healthy=0.001),
    *simple("clip-saturation", "actor/pg_clipfrac", (0.095, None), (0.105, "warning"), (0.31, "error"), healthy=0.01),
    *simple("clip-saturation", "actor/pg_clipfrac", (0.29, "warning"), healthy=0.01),
    Case("weak-critic", {"critic/vf_explained_var": [-0.1] * 25}, ("warning", 20), "twenty values below zero"),
    Case("weak-critic", {"critic/vf_explained_var": [-0.1] * 19 + [0.1]}, None, "nineteen values below zero"),
    Case("dead-groups", {"actor/lr": [1] * 4}, ("warning", 3), "55 %", samples={k: dead(0.55) for k in range(1, 5)}),
    Case("dead-groups", {"actor/lr": [1] * 4}, None, "48 %", samples={k: dead(0.48) for k in range(1, 5)}),
    Case("dead-groups", {"actor/lr": [1] * 4}, ("error", 3), "85 %", samples={k: dead(0.85) for k in range(1, 5)}),
    Case("dead-groups", {"actor/lr": [1] * 4}, ("warning", 3), "79 %", samples={k: dead(0.79) for k in range(1, 5)}),
    Case("dead-groups", {"actor/lr": [1] * 4}, ("critical", 3), "all", samples={k: dead(1.0) for k in range(1, 5)}),
    Case(
        "dead-groups",
        {"actor/lr": [1] * 4},
        ("error", 3),
        "all, because they are solved",
        samples={k: dead(1.0, solved=1.0) for k in range(1, 5)},
    ),
    Case("dead-groups", {"training/filter_groups/evicted_samples": [70] * 4}, ("warning", 3), "filtered", config=BATCH),
    Case("dead-groups", {"training/filter_groups/evicted_samples": [60] * 4}, None, "few filtered", config=BATCH),
    Case("reward-floor", {"critic/score/mean": [0.14] * 25}, ("error", 20), "flat at 0.14"),
    Case("reward-floor", {"critic/score/mean": [0.16] * 25}, None, "flat at 0.16"),
    Case("reward-floor", {"critic/score/mean": [0.14] * 19 + [0.3]}, None, "nineteen values"),
    Case("reward-floor", {"critic/score/mean": ramp(0.01, 0.14, 40)}, None, "low but rising"),
    Case("reward-floor", {"critic/score/mean": [-0.981] * 30, **SIGNED}, ("error", 20), "next to the lowest"),
    Case("reward-floor", {"critic/score/mean": [-0.979] * 30, **SIGNED}, None, "not quite the lowest"),
    Case("reward-floor", {"critic/score/mean": [0.0] * 30, **SIGNED}, None, "zero of a signed reward"),
    Case("reward-collapse", {"critic/score/mean": COLLAPSING, **BOUNDED}, ("critical", 21), "most of the gain lost"),
    Case(
        "reward-collapse",
        {"critic/score/mean": [0.1] * 5 + [0.195] * 10 + [0.1] * 10, **BOUNDED},
        None,
        "a small gain lost",
    ),
    Case("reward-collapse", {"critic/score/mean": ramp(0.1, 0.9, 60), **BOUNDED}, None, "still learning"),
    Case(
        "reward-hacking",
        {"critic/score/mean": ramp(0.1, 0.9, 60), "val-core/m/acc/mean@1": at(10, [0.5, 0.45, 0.4, 0.35])},
        ("error", 40),
        "validation falls",
    ),
    Case(
        "reward-hacking",
        {
            "critic/score/mean": ramp(0.1, 0.9, 60),
            "val-core/m/acc/mean@1": at(10, [0.5] * 4),
            "response_length/mean": ramp(100, 200, 60),
        },
        ("warning", 30),
        "validation flat and responses longer",
    ),
    Case(
        "reward-hacking",
        {"critic/score/mean": ramp(0.1, 0.9, 60), "val-core/m/acc/mean@1": at(10, [0.5] * 4)},
        None,
        "validation flat and nothing else",
    ),
    Case(
        "reward-hacking",
        {"critic/score/mean": ramp(0.1, 0.9, 120), "val-core/m/acc/mean@1": at(10, TURNING)},
        ("error", 100),
        "validation turns",
    ),
    Case(
        "reward-hacking",
        {"critic/score/mean": [0.5, 0.51] * 30, "val-core/m/acc/mean@1": at(10, [0.5, 0.45, 0.4, 0.35])},
        None,
        "training score does not rise",
    ),
    *simple(
        "engine-mismatch",
        "training/rollout_probs_diff_mean",
        (0.0048, None),
        (0.0052, "warning"),
        (0.0095, "warning"),
        (0.0105, "error"),
        healthy=0.001,
    ),
    *simple("engine-mismatch", "rollout_corr/kl", (-0.105, "critical"), (0.095, None), healthy=0.0),
    *simple("engine-mismatch", "rollout_corr/k3_kl", (0.0011, "info"), (0.0009, None), healthy=0.0),
    *simple(
        "engine-mismatch",
        "training/rollout_actor_probs_pearson_corr",
        (0.94, "warning"),
        (0.96, None),
        healthy=0.999,
    ),
    *simple(
        "importance-weights",
        "rollout_corr/rollout_is_mean",
        (0.48, "error"),
        (0.52, None),
        (2.1, "error"),
        (1.9, None),
        healthy=1.0,
    ),
    *simple("importance-weights", "rollout_corr/rollout_is_std", (1.1, "error"), (0.9, None), healthy=0.2),
    *simple(
        "importance-weights", "rollout_corr/rollout_is_eff_sample_size", (0.28, "error"), (0.32, None), healthy=0.9
    ),
    *simple("importance-weights", "rollout_corr/chi2_token", (1.1, "error"), (0.9, None), healthy=0.1),
    Case("truncation", {"actor/lr": [1] * 4}, None, "9 %", samples={k: cut(0.09) for k in range(1, 5)}),
    Case("truncation", {"actor/lr": [1] * 4}, ("warning", 3), "11 %", samples={k: cut(0.11) for k in range(1, 5)}),
    Case("truncation", {"actor/lr": [1] * 4}, ("warning", 3), "24 %", samples={k: cut(0.24) for k in range(1, 5)}),
    Case("truncation", {"actor/lr": [1] * 4}, ("error", 3), "26 %", samples={k: cut(0.26) for k in range(1, 5)}),
    Case("truncation", {"actor/lr": [1] * 4}, ("critical", 3), "82 %", samples={k: cut(0.82) for k in range(1, 5)}),
    Case(
        "truncation",
        {"response_length/clip_ratio": [0.9] * 4, "response_length/max": [8] * 4},
        ("critical", 3),
        "the longest is at the limit",
        config=CAP,
    ),
    Case(
        "truncation",
        {"response_length/clip_ratio": [0.9] * 4, "response_length/max": [7] * 4},
        None,
        "the longest is below the limit",
        config=CAP,
    ),
    *simple("aborted", "response/aborted_ratio", (0.055, "error"), (0.045, None), healthy=0.0),
    Case("aborted", {"training/rollout_failure/evicted_samples": [4] * 4}, ("error", 3), "4 of 68", config=BATCH),
    Case("aborted", {"training/rollout_failure/evicted_samples": [3] * 4}, None, "3 of 67", config=BATCH),
    Case("aborted", {"actor/lr": [1] * 4}, ("warning", 2), "an exception", events=exceptions(1)),
    Case("aborted", {"actor/lr": [1] * 4}, ("error", 2), "sixteen exceptions", events=exceptions(16)),
    *simple("staleness", "training/off_policy/trajectory_staleness_worst/max", (8, "warning"), (7, None), healthy=1),
    Case("staleness", {"training/off_policy/evicted_samples": [4] * 4}, ("warning", 3), "4 of 68", config=BATCH),
    Case("staleness", {"training/off_policy/evicted_samples": [3] * 4}, None, "3 of 67", config=BATCH),
    Case(
        "staleness",
        {
            "fully_async/count/stale_samples_processed": [11, 22, 33],
            "fully_async/count/total_generated_samples": [200, 400, 600],
        },
        ("warning", 3),
        "5.5 % of all generated",
    ),
    Case(
        "staleness",
        {"training/off_policy/trajectory_staleness/max": [4] * 4},
        ("warning", 3),
        "a lower limit in the configuration",
        config={"trainer": {"v1": {"sampler": {"max_off_policy_threshold": 4}}}},
    ),
    *simple("async-imbalance", "fully_async/trainer/idle_ratio", (0.42, "info"), (0.38, None), healthy=0.1),
    *simple("preemption", "agent_loop/num_preempted/mean", (0.1, "info"), (-1, None), (0, None), healthy=0),
    *simple("preemption", "vllm:kv_cache_usage_perc", (0.89, None), (0.92, "info"), (0.96, "warning"), healthy=0.5),
    *simple("slowdown", "perf/mfu/actor", (0.14, "warning"), (0.16, None), (0.0, None), healthy=0.4),
    Case("slowdown", {"perf/throughput": [100] * 20 + [68] * 4}, ("warning", 23), "68 % of before"),
    Case("slowdown", {"perf/throughput": [100] * 12 + [68] * 4}, ("warning", 15), "soon after the start"),
    Case("slowdown", {"perf/throughput": [100] * 20 + [72] * 4}, None, "72 % of before"),
    Case(
        "slowdown",
        {"train/global_tokens": [1000] * 35},
        ("warning", 33),
        "by the times of the records",
        step_s=[10.0] * 30 + [15.0] * 5,
    ),
    Case("slowdown", {"train/global_tokens": [1000] * 35}, None, "steady times", step_s=[10.0] * 35),
    Case(
        "slowdown",
        {"perf/mfu/actor": [0.01] * 9},
        None,
        "utilisation on a CPU",
        config={"trainer": {"device": "cpu"}},
    ),
    Case(
        "memory-leak",
        {"actor/perf/cpu_memory_used_gb": [10 + 0.05 * k for k in range(1, 60)]},
        ("error", 53),
        "full before the end",
        config=LEFT,
        thresholds=NODE,
    ),
    Case(
        "memory-leak",
        {"perf/max_memory_reserved_gb": [30 + 0.5 * k for k in range(1, 60)]},
        ("error", 53),
        "GPU memory full before the end",
        config=LEFT,
        thresholds=GPU,
    ),
    Case(
        "memory-leak",
        {"actor/perf/cpu_memory_used_gb": [10 + 0.04 * k for k in range(1, 60)]},
        None,
        "not full before the end",
        config=LEFT,
        thresholds=NODE,
    ),
    Case(
        "memory-leak",
        {
            "actor/perf/cpu_memory_used_gb": [50 + 0.05 * k for k in range(1, 60)],
            "actor/perf/max_memory_reserved_gb": [50 + 0.05 * k for k in range(1, 60)],
        },
        None,
        "of unknown size",
        config=LEFT,
    ),
    Case("stall", {"actor/lr": [1] * 9}, ("critical", 9), "slow steps", step_s=[600.0] * 9, silence_s=3700),
    Case("stall", {"actor/lr": [1] * 9}, None, "slow steps, not long", step_s=[600.0] * 9, silence_s=3500),
    Case("stall", {"actor/lr": [1] * 9}, ("critical", 9), "fast steps", step_s=[10.0] * 9, silence_s=1850),
    Case("stall", {"actor/lr": [1] * 9}, None, "fast steps, not long", step_s=[10.0] * 9, silence_s=1750),
    Case("stall", {"actor/lr": [1] * 9}, None, "one fast step", step_s=[600.0] * 8 + [60.0], silence_s=3000),
    Case("early-end", {"training/global_step": ramp(1, 30, 30)}, ("critical", 30), "exit 0 too soon", ended=DONE),
    Case(
        "early-end",
        {"training/global_step": ramp(1, 30, 30)},
        None,
        "stopped on request",
        ended=Status("r", 1, RunState.STOPPED, step=30, total=100, exit_code=0),
    ),
    Case(
        "early-end",
        {"training/global_step": ramp(1, 100, 100)},
        None,
        "last step reached",
        ended=Status("r", 1, RunState.COMPLETED, step=100, total=100, exit_code=0),
    ),
    Case("no-evidence", {}, ("warning", 0), "never validated", config={"trainer": {"test_freq": -1}}),
    Case("no-evidence", {}, None, "all is kept", config={"trainer": {"test_freq": 5, "save_freq": 5}}),
]
