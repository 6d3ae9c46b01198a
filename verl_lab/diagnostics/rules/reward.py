"""Rules about the reward: whether it teaches anything, still does, and teaches what was meant."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.rule import (
    AXOLOTL,
    HEURISTIC,
    MILES,
    PRIME_RL,
    VERL_BEST_PRACTICES,
    Criterion,
    Parameter,
    Rule,
    Scaled,
    at_least,
    at_most,
    fixed,
    graded,
    patience,
)
from verl_lab.diagnostics.statistics import mann_kendall, theil_sen, trailing_sum
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Bounds, Values
    from verl_lab.diagnostics.watch import Watch

_SCORE = "critic/score/mean"
_RISING_Z = 1.645  # one-sided 5 %
_LEAST_FOR_TREND = 4  # values below which no rise is significant
_SMOOTHED = 5  # values in the mean that is compared for a collapse
_BINS = 12  # of the training score, when it is held against validations
_REF_BATCH = "data.train_batch_size"


def _extreme(watch: Watch, metric: str, steps: NDArray[np.int64], *, user: str, largest: bool) -> NDArray[np.float64]:
    """Return the largest or smallest value of another metric up to each of ``steps``; NaN before it has one.

    Each ``user`` goes through the steps once, in order.
    """
    series = watch.facts.finite(metric)
    if series is None or len(steps) == 0:
        return np.full(len(steps), np.nan)
    accumulate = np.fmax.accumulate if largest else np.fmin.accumulate
    key = f"{user} {metric}"
    done = int(watch.carry.get(f"{key} seen", 0))
    at = watch.facts.positions(metric, steps)
    known = np.append(watch.carry.get(key, np.nan), series.values[done : int(at[-1]) + 1])
    running = accumulate(known)
    watch.carry[key] = float(running[-1])
    watch.carry[f"{key} seen"] = max(done, int(at[-1]) + 1)
    return running[np.maximum(at - done + 1, 0)]


def _flat_at_floor(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return scores that do not rise, of a reward that is never negative."""
    series, window = watch.series, int(watch.values["patience"])
    scores = series.values[start:].copy()
    lowest = _extreme(watch, "critic/score/min", series.steps[start:], user="floor", largest=False)
    scores[lowest < 0] = np.nan
    low = np.flatnonzero(scores < at_most(watch.values["threshold"]))
    if len(low) and window >= _LEAST_FOR_TREND:
        first, last = int(low[0]), int(low[-1])
        rises = mann_kendall(series.values[: start + last + 1], start + first, window) > _RISING_Z
        scores[first : last + 1][rises] = np.nan
    return scores


def _distance_from_lowest(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return how far the mean lies above the lowest reward ever given, as a share of the range of rewards."""
    series = watch.series
    steps, scores = series.steps[start:], series.values[start:]
    lowest = _extreme(watch, "critic/score/min", steps, user="lowest", largest=False)
    span = _extreme(watch, "critic/score/max", steps, user="lowest", largest=True) - lowest
    share = np.full(len(scores), np.nan)
    np.divide(scores - lowest, span, out=share, where=span > 0)
    # One and the same reward throughout: a negative one is the floor, any other may be anything.
    share[(span == 0) & (scores < 0)] = 0.0
    return share


def _share_of_gain(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return how much of its greatest gain the smoothed score still has."""
    series, carry = watch.series, watch.carry
    share = np.full(series.size - start, np.nan)
    mean = trailing_sum(series.values, start, _SMOOTHED) / _SMOOTHED
    first = int(np.isnan(mean).sum())
    if first == len(mean):
        return share
    mean = mean[first:]
    steps = series.steps[start + first :]
    begin = carry.setdefault("begin", float(mean[0]))
    best = np.maximum.accumulate(np.append(carry.get("best", -np.inf), mean))[1:]
    carry["best"] = float(best[-1])
    highest = _extreme(watch, "critic/score/max", steps, user="gain", largest=True)
    lowest = _extreme(watch, "critic/score/min", steps, user="gain", largest=False)
    span = np.where(highest > lowest, highest - lowest, np.maximum(np.abs(best), abs(begin)))
    gain = best - begin
    np.divide(mean - begin, gain, out=share[first:], where=gain > watch.values["least_gain"] * span)
    return share


def _fall_in_validation(watch: Watch, start: int) -> NDArray[np.float64]:
    watch.memo = _against_validation(watch, start)
    return watch.memo[0]


def _rise_in_training_alone(watch: Watch, _: int) -> NDArray[np.float64]:
    return watch.memo[1]  # worked out for the criterion before


def _against_validation(watch: Watch, start: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compare the training score with a validation score over the last validations.

    Returns
    -------
    falling
        The validation's Mann-Kendall z where it falls while the training score rises.
    flat
        The training score's rise where the validation does not rise, but length or KL does.
    """
    series, facts = watch.series, watch.facts
    falling, flat = np.full((2, series.size - start), np.nan)
    score = facts.finite(_SCORE)
    least, most = int(watch.values["validations"]), int(watch.values["most_validations"])
    if score is None:
        return falling, flat
    z = np.full(series.size - start, np.nan)
    for count in range(least, most):  # the first validations, before the window is full
        if start <= count - 1 < series.size:
            z[count - 1 - start] = mann_kendall(series.values[:count], count - 1, count)[0]
    full = max(start, most - 1)
    if full < series.size:
        z[full - start :] = mann_kendall(series.values, full, most)
    chosen = np.flatnonzero(z <= 0)
    if len(chosen) == 0:
        return falling, flat
    last = series.steps[start + chosen]
    first = series.steps[np.maximum(start + chosen - most + 1, 0)]
    rise = _rises(watch, _SCORE, first, last)
    rising = np.isfinite(rise)
    chosen, first, last, rise = chosen[rising], first[rising], last[rising], rise[rising]
    falling[chosen] = z[chosen]
    longer = np.isfinite(_rises(watch, "response_length/mean", first, last))
    farther = np.isfinite(_rises(watch, "actor/kl_loss", first, last))
    alone = longer | farther
    flat[chosen[alone]] = rise[alone]
    return falling, flat


def _rises(
    watch: Watch, metric: str, first_step: NDArray[np.int64], last_step: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return by how much a metric rose from ``first_step`` to ``last_step``; NaN unless it did so significantly."""
    series = watch.facts.finite(metric)
    rise = np.full(len(first_step), np.nan)
    if series is None:
        return rise
    first = np.searchsorted(series.steps, first_step, side="right")
    last = np.searchsorted(series.steps, last_step, side="right") - 1
    enough = np.flatnonzero(last - first + 1 >= _SMOOTHED)
    if len(enough):
        trend = theil_sen(series.steps, series.values, first[enough], last[enough], bins=_BINS)
        rise[enough] = np.where(trend.low > 0, trend.slope * trend.span, np.nan)
    return rise


def _dead_share(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the share of dead groups, held below 1 where most of them are solved: then nothing is broken."""
    series = watch.series
    share = series.values[start:].copy()
    solved = watch.facts.at("samples/solved_groups", series.steps[start:])
    mostly_solved = solved > share / 2
    share[mostly_solved] = np.minimum(share[mostly_solved], at_least(at_least(1.0)))
    return share


def _share_filtered(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the groups filtered out as a share of all that were generated for the step."""
    batch = watch.facts.number(_REF_BATCH)
    evicted = watch.series.values[start:]
    return np.full(len(evicted), np.nan) if batch is None else evicted / (evicted + batch)


def _dead_bounds(values: Values, _: RunFacts) -> Bounds:
    return {
        Severity.WARNING: values["warning"],
        Severity.ERROR: values["high"],
        Severity.CRITICAL: at_least(values["critical"]),
    }


def _lacks_batch_size(facts: RunFacts, _: Values) -> str | None:
    return None if facts.number(_REF_BATCH) else f"{_REF_BATCH} is not known"


def _lacks_score(facts: RunFacts, _: Values) -> str | None:
    return None if _SCORE in facts.series else f"the run logs no {_SCORE}"


DEAD_GROUPS = Rule(
    id="dead-groups",
    title="Dead groups",
    cause=(
        "All responses to a prompt get the same score, so its advantages are zero and it teaches nothing: "
        "the prompts are too hard where all fail, too easy where all succeed."
    ),
    suggestion=(
        "All fail: take easier data or train SFT first. All succeed: take harder data. "
        "Either way raise actor_rollout_ref.rollout.n (to 8 or more) or turn algorithm.filter_groups on."
    ),
    settings=(Scaled("actor_rollout_ref.rollout.n", 2), "algorithm.filter_groups.enable=True"),
    source=f"{MILES}; {AXOLOTL}; {PRIME_RL}",
    parameters=(
        patience(),
        Parameter("warning", 0.5, "share of groups with one score only, above: warning", least=0),
        Parameter("high", 0.8, "share of groups with one score only, above: error", least=0),
        Parameter("critical", 1.0, "share of groups with one score only, from: critical", least=0),
    ),
    criteria=(
        Criterion(
            ("samples/dead_groups",),
            "{value:%} of the sampled groups had one and the same score at step {step} (bound {bound:%})",
            _dead_bounds,
            measure=_dead_share,
        ),
        Criterion(
            ("training/filter_groups/evicted_samples",),
            "{value:%} of the groups generated for step {step} were filtered out for having one score only, "
            "more than {bound:%}",
            graded(warning="warning", error="high"),
            measure=_share_filtered,
            lacks=_lacks_batch_size,
        ),
    ),
)

REWARD_FLOOR = Rule(
    id="reward-floor",
    title="Reward flat at its floor",
    cause="The policy earns no reward: the reward function or the prompt format is wrong, or the task too hard.",
    suggestion=(
        "Call the reward function by hand on dumped samples (trainer.rollout_data_dir), and look whether the prompts "
        "carry the model's chat template."
    ),
    settings=("trainer.rollout_data_dir=@attempt@/samples/rollout",),
    source=AXOLOTL,
    parameters=(
        patience(20),
        Parameter("threshold", 0.15, "mean score of a reward that is never negative, up to: error"),
        Parameter("at_lowest", 0.01, "distance from the lowest reward as a share of the range, up to: error", least=0),
    ),
    criteria=(
        Criterion(
            (_SCORE,),
            "{metric} was {raw} at step {step}, not above {bound}, and does not rise",
            lambda v, _: {Severity.ERROR: at_most(v["threshold"])},
            measure=_flat_at_floor,
            above=False,
        ),
        Criterion(
            (_SCORE,),
            "{metric} was {raw} at step {step}, the lowest reward there is",
            lambda v, _: {Severity.ERROR: at_most(v["at_lowest"])},
            measure=_distance_from_lowest,
            above=False,
        ),
    ),
)

REWARD_COLLAPSE = Rule(
    id="reward-collapse",
    title="Reward collapse",
    cause="The policy has lost most of what it had learned: an update broke it.",
    suggestion=(
        "Start again from the best checkpoint (trainer.resume_mode=resume_path), with a lower learning rate; "
        "see whether non-finite or engine-mismatch came first."
    ),
    settings=(Scaled("actor_rollout_ref.actor.optim.lr", 0.5),),
    source=HEURISTIC,
    parameters=(
        patience(),
        Parameter("share", 0.5, "share of the greatest gain that is left, below: critical"),
        Parameter("least_gain", 0.1, "gain worth losing, as a share of the range of rewards", least=0),
    ),
    criteria=(
        Criterion(
            (_SCORE,),
            "{metric} was {raw} at step {step}: its mean over 5 values keeps {value:%} of its greatest gain, "
            "less than {bound:%}",
            graded(critical="share"),
            measure=_share_of_gain,
            above=False,
            heuristic=True,
        ),
    ),
)

REWARD_HACKING = Rule(
    id="reward-hacking",
    title="Reward hacking",
    cause="The training score rises while validation does not: the policy learns what the reward pays, not the task.",
    suggestion=(
        "Read the samples with the highest reward, add a second verifier, raise "
        "actor_rollout_ref.actor.kl_loss_coef, and shape the reward for length."
    ),
    settings=(Scaled("actor_rollout_ref.actor.kl_loss_coef", 5),),
    source=f"{AXOLOTL} (length); {VERL_BEST_PRACTICES} (KL); {HEURISTIC} (the test)",
    patience=1,
    clears_after=1,
    parameters=(
        Parameter("validations", 3, "validations needed before anything is said", least=3),
        Parameter("most_validations", 6, "validations looked at, counted back from the last", least=3),
    ),
    criteria=(
        Criterion(
            ("val-core/*",),
            "{metric} fell to {raw} at step {step} (Mann-Kendall z {value}, below {bound}) "
            "while critic/score/mean rose",
            fixed(error=-_RISING_Z),
            measure=_fall_in_validation,
            above=False,
            heuristic=True,
            lacks=_lacks_score,
        ),
        Criterion(
            ("val-core/*",),
            "{metric} did not rise ({raw} at step {step}) while critic/score/mean rose by {value} "
            "and responses grew longer or the KL grew",
            fixed(warning=0.0),
            measure=_rise_in_training_alone,
            heuristic=True,
            lacks=_lacks_score,
        ),
    ),
)

RULES = (DEAD_GROUPS, REWARD_FLOOR, REWARD_COLLAPSE, REWARD_HACKING)
