"""Rules about rollouts: whether they come from the policy being trained, whole, fresh and in time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.rule import (
    AXOLOTL,
    HEURISTIC,
    MILES,
    NEMO_RL,
    PRIME_RL,
    VERL_BEST_PRACTICES,
    VERL_FAQ,
    VERL_ROLLOUT_CORRECTION,
    VERL_TUNING,
    Criterion,
    Parameter,
    Rule,
    Scaled,
    at_least,
    graded,
    patience,
)
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Bounds, Values
    from verl_lab.diagnostics.watch import Watch

_ROLLOUT = "actor_rollout_ref.rollout"
_STALENESS_LIMIT = "trainer.v1.sampler.max_off_policy_threshold"
_ABOVE = "{metric} was {value} at step {step}, above {bound}"
_BELOW = "{metric} was {value} at step {step}, below {bound}"


def _magnitude(watch: Watch, start: int) -> NDArray[np.float64]:
    return np.abs(watch.series.values[start:])


def _share_at_cap(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the share of responses as long as the limit.

    verl's trainer compares with the longest response of the batch, not with the limit (verl#7817):
    its ratio is the truncated share where that longest one is at the limit, and says nothing elsewhere.
    """
    series, cap = watch.series, _response_limit(watch.facts)
    ratio, steps = series.values[start:], series.steps[start:]
    if cap is None:
        return np.full(len(ratio), np.nan)
    return np.where(watch.facts.at("response_length/max", steps) >= cap, ratio, np.nan)


def _share_evicted(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return evicted prompts as a share of all that were sampled in the step."""
    batch = watch.facts.number("data.train_batch_size")
    evicted = watch.series.values[start:]
    return np.full(len(evicted), np.nan) if batch is None else evicted / (evicted + batch)


def _share_of_generated(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return dropped samples as a share of all generated; both are counted from the beginning."""
    steps = watch.series.steps[start:]
    generated = watch.facts.at("fully_async/count/total_generated_samples", steps)
    return np.where(generated > 0, watch.series.values[start:] / np.maximum(generated, 1), np.nan)


def _response_limit(facts: RunFacts) -> float | None:
    return facts.number("data.max_response_length")


def _lacks_response_limit(facts: RunFacts, _: Values) -> str | None:
    if _response_limit(facts) is None:
        return "data.max_response_length is not known, and no samples with their lengths are at hand"
    return None if "response_length/max" in facts.series else "the run logs no response_length/max"


def _lacks_batch_size(facts: RunFacts, _: Values) -> str | None:
    return None if facts.number("data.train_batch_size") else "data.train_batch_size is not known"


def _staleness_bounds(values: Values, facts: RunFacts) -> Bounds:
    limit = values["versions"] or facts.number(_STALENESS_LIMIT) or 8
    return {Severity.WARNING: at_least(limit)}


_TRUNCATED = graded(warning="warning", error="high", critical="critical")

ENGINE_MISMATCH = Rule(
    id="engine-mismatch",
    title="Rollout and training disagree",
    cause="The rollout engine and the trainer give different probabilities to the same tokens.",
    suggestion=(
        f"Set {_ROLLOUT}.logprobs_mode=processed_logprobs and disable_cascade_attn in the engine, use the same "
        "precision (fp16) on both sides, or correct for it with algorithm.rollout_correction.rollout_is=token."
    ),
    settings=(f"{_ROLLOUT}.logprobs_mode=processed_logprobs", "algorithm.rollout_correction.rollout_is=token"),
    source=f"{VERL_FAQ}; {VERL_ROLLOUT_CORRECTION}; {NEMO_RL}",
    parameters=(
        patience(),
        Parameter("warning", 0.005, "mean difference of probabilities, above: warning", least=0),
        Parameter("high", 0.01, "mean difference of probabilities, above: error", least=0),
        Parameter("kl", 0.1, "absolute KL between the two in nats, above: critical", least=0),
        Parameter("k3_kl", 0.001, "k3 estimate of that KL in nats, above: info", least=0),
        Parameter("correlation", 0.95, "Pearson correlation of the probabilities, below: warning"),
    ),
    criteria=(
        Criterion(("training/rollout_probs_diff_mean",), _ABOVE, graded(warning="warning", error="high")),
        Criterion(
            ("rollout_corr/kl",),
            "the absolute value of {metric} was {value} at step {step}, above {bound}",
            graded(critical="kl"),
            measure=_magnitude,
        ),
        Criterion(("rollout_corr/k3_kl",), _ABOVE, graded(info="k3_kl")),
        Criterion(
            ("training/rollout_actor_probs_pearson_corr",),
            _BELOW,
            graded(warning="correlation"),
            above=False,
            heuristic=True,
        ),
    ),
)

IMPORTANCE_WEIGHTS = Rule(
    id="importance-weights",
    title="Importance weights degenerate",
    cause="The correction for off-policy rollouts rests on a few samples with extreme weights.",
    suggestion=(
        "Use a geometric or sequence level in algorithm.rollout_correction, tighten rollout_is_threshold, and check "
        f"that {_ROLLOUT}.calculate_log_probs is on."
    ),
    settings=(Scaled("algorithm.rollout_correction.rollout_is_threshold", 0.75),),
    source=VERL_ROLLOUT_CORRECTION,
    parameters=(
        patience(),
        Parameter("mean_low", 0.5, "mean weight, below: error", least=0),
        Parameter("mean_high", 2.0, "mean weight, above: error", least=0),
        Parameter("deviation", 1.0, "standard deviation of the weights, above: error", least=0),
        Parameter("effective_share", 0.3, "effective sample size as a share, below: error", least=0),
        Parameter("chi2", 1.0, "chi-squared divergence per token, above: error", least=0),
    ),
    criteria=(
        Criterion(("rollout_corr/rollout_is_mean",), _BELOW, graded(error="mean_low"), above=False),
        Criterion(("rollout_corr/rollout_is_mean",), _ABOVE, graded(error="mean_high")),
        Criterion(("rollout_corr/rollout_is_std",), _ABOVE, graded(error="deviation")),
        Criterion(("rollout_corr/rollout_is_eff_sample_size",), _BELOW, graded(error="effective_share"), above=False),
        Criterion(("rollout_corr/chi2_token",), _ABOVE, graded(error="chi2")),
    ),
)

TRUNCATION = Rule(
    id="truncation",
    title="Truncated responses",
    cause="Responses end at the length limit before they are finished, so right reasoning is scored as wrong.",
    suggestion="Raise data.max_response_length, or let the reward punish length (DAPO's overlong_buffer_cfg).",
    settings=(Scaled("data.max_response_length", 2),),
    source=f"{VERL_BEST_PRACTICES}; {MILES}; {AXOLOTL}; verl#7817",
    parameters=(
        patience(),
        Parameter("warning", 0.10, "share of truncated responses, above: warning", least=0),
        Parameter("high", 0.25, "share of truncated responses, above: error", least=0),
        Parameter("critical", 0.80, "share of truncated responses, above: critical", least=0),
    ),
    criteria=(
        Criterion(
            ("samples/truncated",),
            "{value:%} of the sampled responses were cut at step {step}, more than {bound:%}",
            _TRUNCATED,
        ),
        Criterion(
            ("response_length/clip_ratio",),
            "{value:%} of the responses were as long as data.max_response_length at step {step}, more than {bound:%}",
            _TRUNCATED,
            measure=_share_at_cap,
            lacks=_lacks_response_limit,
        ),
    ),
)

ABORTED = Rule(
    id="aborted",
    title="Empty or aborted responses",
    cause="Rollouts end without an answer: the engine aborts them, they time out, or the reward function raises.",
    suggestion="Read the log of the rollout engine and of the reward function, and look for timeouts.",
    source=f"{PRIME_RL}; {MILES}",
    clears_after=20,
    parameters=(
        patience(),
        Parameter("share", 0.05, "share of rollouts without an answer, above: error", least=0),
        Parameter("exceptions", 16, "exceptions of rollouts or the reward function so far, from: error", least=1),
    ),
    criteria=(
        Criterion(
            ("response/aborted_ratio", "samples/empty"),
            "{value:%} of the responses were empty at step {step}, more than {bound:%}",
            graded(error="share"),
        ),
        Criterion(
            ("training/rollout_failure/evicted_samples",),
            "{value:%} of the prompts failed and were evicted at step {step}, more than {bound:%}",
            graded(error="share"),
            measure=_share_evicted,
            lacks=_lacks_batch_size,
        ),
        Criterion(
            ("events/reward_exception", "events/rollout_exception"),
            "{value} exceptions had been logged by step {step} ({metric})",
            lambda v, _: {Severity.WARNING: at_least(1), Severity.ERROR: at_least(v["exceptions"])},
            heuristic=True,
        ),
    ),
)

STALENESS = Rule(
    id="staleness",
    title="Stale rollouts",
    cause="Trajectories were made by a policy many versions old, or are thrown away for it.",
    suggestion=(
        "Lower trainer.v1.separate_async.parameter_sync_step, or give the rollouts more devices so that they keep up."
    ),
    settings=(Scaled("trainer.v1.separate_async.parameter_sync_step", 0.5),),
    source=f"{PRIME_RL} (default 8); verl, trainer.v1.sampler.max_off_policy_threshold",
    parameters=(
        patience(),
        Parameter("versions", 0, "model versions behind, from: warning; 0 takes verl's limit, else 8", least=0),
        Parameter("evicted", 0.05, "share of trajectories thrown away as stale, above: warning", least=0),
    ),
    criteria=(
        Criterion(
            ("training/off_policy/trajectory_staleness/max", "training/off_policy/trajectory_staleness_worst/max"),
            "{metric} was {value} model versions at step {step}, not below {bound}",
            _staleness_bounds,
        ),
        Criterion(
            ("training/off_policy/evicted_samples",),
            "{value:%} of the prompts were evicted as stale at step {step}, more than {bound:%}",
            graded(warning="evicted"),
            measure=_share_evicted,
            lacks=_lacks_batch_size,
        ),
        Criterion(
            ("fully_async/count/*stale_samples*",),
            "{value:%} of all generated samples counted in {metric} at step {step}, more than {bound:%}",
            graded(warning="evicted"),
            measure=_share_of_generated,
            lacks=lambda facts, _: (
                None
                if "fully_async/count/total_generated_samples" in facts.series
                else "the run logs no fully_async/count/total_generated_samples"
            ),
        ),
    ),
)

ASYNC_IMBALANCE = Rule(
    id="async-imbalance",
    title="One side waits for the other",
    cause="Trainer and rollouts of an asynchronous run are not in balance: one of them is idle much of the time.",
    suggestion="Move GPUs from the idle side to the other (trainer.n_gpus_per_node, rollout.n_gpus_per_node).",
    source=f"verl docs, advance/fully_async; {HEURISTIC} (the limit)",
    parameters=(patience(), Parameter("idle", 0.4, "share of time one side is idle, above: info", least=0)),
    criteria=(
        Criterion(
            ("fully_async/trainer/idle_ratio", "fully_async/rollouter/idle_ratio"),
            "{metric} was {value} at step {step}, above {bound}",
            graded(info="idle"),
            heuristic=True,
        ),
    ),
)

PREEMPTION = Rule(
    id="preemption",
    title="Preempted requests",
    cause="The rollout engine runs out of KV cache and computes requests again.",
    suggestion=f"Raise {_ROLLOUT}.gpu_memory_utilization, or lower {_ROLLOUT}.max_num_seqs.",
    settings=(Scaled(f"{_ROLLOUT}.max_num_seqs", 0.5),),
    source=f"{MILES}; {VERL_TUNING}",
    parameters=(
        patience(),
        Parameter("preempted", 0.0, "preemptions per response, above: info", least=0),
        Parameter("cache_info", 0.90, "share of the KV cache in use, from: info", least=0),
        Parameter("cache_warning", 0.95, "share of the KV cache in use, from: warning", least=0),
    ),
    criteria=(
        # -1 is verl's "not available" (agent_loop.py, AgentLoopMetrics.num_preempted).
        Criterion(("agent_loop/num_preempted/mean",), _ABOVE, graded(info="preempted")),
        Criterion(
            ("*kv_cache_usage*", "*gpu_cache_usage*"),
            "{metric} was {value} at step {step}, not below {bound}",
            lambda v, _: {Severity.INFO: at_least(v["cache_info"]), Severity.WARNING: at_least(v["cache_warning"])},
        ),
    ),
)

RULES = (
    ENGINE_MISMATCH,
    IMPORTANCE_WEIGHTS,
    TRUNCATION,
    ABORTED,
    STALENESS,
    ASYNC_IMBALANCE,
    PREEMPTION,
)
