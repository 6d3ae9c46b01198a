"""Rules about the policy: its entropy, and how far it moves from the reference and in one update."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.rule import (
    AXOLOTL,
    DAPO,
    HEURISTIC,
    PPO_DETAILS,
    SKYWORK,
    SPINNING_UP,
    VERL_BEST_PRACTICES,
    Criterion,
    Parameter,
    Rule,
    Scaled,
    fixed,
    graded,
    patience,
)
from verl_lab.diagnostics.statistics import mann_kendall
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Bounds, Values
    from verl_lab.diagnostics.watch import Watch

_LEARNING_RATE = Scaled("actor_rollout_ref.actor.optim.lr", 0.5)
_RISING_Z = 1.645  # one-sided 5 %
_LENGTH_METRICS = ("samples/truncated", "response_length/mean")


def _fall_from_start(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return by which share each value lies below the median of the first ones."""
    series, count = watch.series, int(watch.values["start_values"])
    share = np.full(series.size - start, np.nan)
    if series.size <= count:
        return share
    baseline = watch.carry.get("baseline")
    if baseline is None:
        baseline = watch.carry["baseline"] = float(np.median(series.values[:count]))
    if baseline > 0:
        first = max(start, count)
        share[first - start :] = 1 - series.values[first:] / baseline
    return share


def _rise_with_truncation(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the entropy's Mann-Kendall z where truncation, or else length, rises with it."""
    series, window = watch.series, int(watch.values["rising_values"])
    rise = mann_kendall(series.values, start, window)
    rising = np.flatnonzero(rise > _RISING_Z)
    together = np.full(len(rise), np.nan)
    if len(rising) == 0:
        return together
    metric = next((m for m in _LENGTH_METRICS if watch.facts.finite(m) is not None), None)
    other = watch.facts.finite(metric) if metric else None
    if metric is None or other is None:
        return together
    at = watch.facts.positions(metric, series.steps[start:][rising])
    first = max(0, int(at.min()))
    other_rise = mann_kendall(other.values, first, window)
    is_up = (at >= 0) & (other_rise[np.maximum(at, first) - first] > _RISING_Z)
    together[rising[is_up]] = rise[rising[is_up]]
    return together


def _kl_bounds(values: Values, _: RunFacts) -> Bounds:
    threshold = values["threshold"]
    return {
        Severity.INFO: threshold * values["info_share"],
        Severity.WARNING: threshold,
        Severity.ERROR: threshold * values["error_factor"],
        Severity.CRITICAL: threshold * values["critical_factor"],
    }


ENTROPY_COLLAPSE = Rule(
    id="entropy-collapse",
    title="Entropy collapse",
    cause="The policy has become nearly deterministic: rollouts of a prompt no longer differ, so nothing is explored.",
    suggestion=(
        "Raise actor_rollout_ref.actor.clip_ratio_high to 0.28, or use policy_loss.loss_mode kl_cov or clip_cov, "
        "raise rollout.temperature, or lower the learning rate. An entropy of about 0.2 is a good target."
    ),
    settings=("actor_rollout_ref.actor.clip_ratio_high=0.28", _LEARNING_RATE),
    source=f"{AXOLOTL}; {SKYWORK}; {DAPO}; {VERL_BEST_PRACTICES}; verl docs, algo/entropy",
    parameters=(
        patience(),
        Parameter("warning", 0.05, "entropy in nats per token, below: warning", least=0),
        Parameter("critical", 0.01, "entropy in nats per token, below: critical", least=0),
        Parameter("drop", 0.7, "share lost against the start, above: error", least=0),
        Parameter("start_values", 20, "values whose median is the start", least=1),
    ),
    criteria=(
        Criterion(
            ("actor/entropy",),
            "{metric} was {value} at step {step}, below {bound}",
            graded(warning="warning", critical="critical"),
            above=False,
        ),
        Criterion(
            ("actor/entropy",),
            "{metric} was {raw} at step {step}: {value:%} below the median of its first values, more than {bound:%}",
            graded(error="drop"),
            measure=_fall_from_start,
            heuristic=True,
        ),
    ),
)

ENTROPY_BLOW_UP = Rule(
    id="entropy-blow-up",
    title="Entropy blow-up",
    cause="The policy drifts towards noise: often truncated answers, a reward that pays for length, or a mismatch.",
    suggestion=(
        "Look at truncation and engine-mismatch, read the samples with the highest reward, "
        "and lower actor_rollout_ref.actor.optim.lr."
    ),
    settings=(_LEARNING_RATE,),
    source=f"{AXOLOTL}; rllm#116; verl#2738",
    parameters=(
        patience(),
        Parameter("warning", 1.0, "entropy in nats per token, above: warning", least=0),
        Parameter("rising_values", 20, "values over which entropy and truncation rise together: error", least=4),
    ),
    criteria=(
        Criterion(("actor/entropy",), "{metric} was {value} at step {step}, above {bound}", graded(warning="warning")),
        Criterion(
            ("actor/entropy",),
            "{metric} rose to {raw} at step {step} while truncation rose too (Mann-Kendall z {value}, above {bound})",
            fixed(error=_RISING_Z),
            measure=_rise_with_truncation,
        ),
    ),
)

KL_EXPLOSION = Rule(
    id="kl-explosion",
    title="Drift from the reference",
    cause="The policy has moved far from the reference model: it may be exploiting the reward or forgetting.",
    suggestion=(
        "Raise actor_rollout_ref.actor.kl_loss_coef (0.001 is a start) or algorithm.kl_ctrl.kl_coef, and lower "
        "actor_rollout_ref.actor.optim.lr. The scale of the KL depends on its estimator: set the threshold to yours."
    ),
    settings=(Scaled("actor_rollout_ref.actor.kl_loss_coef", 5), _LEARNING_RATE),
    source=f"{AXOLOTL}; {VERL_BEST_PRACTICES}",
    parameters=(
        patience(),
        Parameter("threshold", 1.0, "KL to the reference in nats, above: warning", least=0),
        Parameter("info_share", 0.5, "share of the threshold, above: info", least=0),
        Parameter("error_factor", 2.0, "multiple of the threshold, above: error", least=0),
        Parameter("critical_factor", 5.0, "multiple of the threshold, above: critical", least=0),
    ),
    criteria=(
        Criterion(
            ("actor/kl_loss", "actor/reward_kl_penalty"),
            "{metric} was {value} at step {step}, above {bound}",
            _kl_bounds,
        ),
    ),
)

LARGE_UPDATE = Rule(
    id="large-update",
    title="Update too big",
    cause="One update moves the policy too far from the one that made the rollouts.",
    suggestion=(
        "Lower actor_rollout_ref.actor.optim.lr or actor_rollout_ref.actor.ppo_epochs, or bring "
        "actor_rollout_ref.actor.ppo_mini_batch_size nearer to data.train_batch_size. "
        "Strictly on-policy this KL is about 0."
    ),
    settings=(_LEARNING_RATE,),
    source=f"{SPINNING_UP}; {PPO_DETAILS}",
    parameters=(
        patience(),
        Parameter("warning", 0.015, "KL of one update in nats, above: warning", least=0),
        Parameter("high", 0.02, "KL of one update in nats, above: error", least=0),
    ),
    criteria=(
        Criterion(
            ("actor/ppo_kl",),
            "{metric} was {value} at step {step}, above {bound}",
            graded(warning="warning", error="high"),
        ),
    ),
)

CLIP_SATURATION = Rule(
    id="clip-saturation",
    title="Clip saturation",
    cause="Many tokens are clipped: the updates are too big for the clip range, and their gradient is lost.",
    suggestion=LARGE_UPDATE.suggestion.partition(" Strictly")[0],
    settings=(_LEARNING_RATE,),
    source=AXOLOTL,
    parameters=(
        patience(),
        Parameter("warning", 0.1, "share of clipped tokens, above: warning", least=0),
        Parameter("high", 0.3, "share of clipped tokens, above: error", least=0),
    ),
    criteria=(
        Criterion(
            ("actor/pg_clipfrac",),
            "{metric} was {value} at step {step}, above {bound}",
            graded(warning="warning", error="high"),
        ),
    ),
)

WEAK_CRITIC = Rule(
    id="weak-critic",
    title="Critic explains nothing",
    cause="The critic predicts the returns worse than their mean does, so the advantages are noise.",
    suggestion="Set trainer.critic_warmup to some tens of steps, or raise critic.optim.lr.",
    settings=("trainer.critic_warmup=20", Scaled("critic.optim.lr", 2)),
    source=f"{PPO_DETAILS} (the metric); {HEURISTIC} (the limit)",
    parameters=(
        patience(20),
        Parameter("threshold", 0.0, "explained variance, below: warning"),
    ),
    criteria=(
        Criterion(
            ("critic/vf_explained_var",),
            "{metric} was {value} at step {step}, below {bound}",
            graded(warning="threshold"),
            above=False,
            heuristic=True,
        ),
    ),
)

RULES = (ENTROPY_COLLAPSE, ENTROPY_BLOW_UP, KL_EXPLOSION, LARGE_UPDATE, CLIP_SATURATION, WEAK_CRITIC)
