"""Rules about the loss and its gradient: finite, going down, and for the right reason."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.rule import (
    AXOLOTL,
    HEURISTIC,
    PRIME_RL,
    VERL_FAQ,
    Criterion,
    Parameter,
    Rule,
    Scaled,
    at_least,
    fixed,
    graded,
    patience,
)
from verl_lab.diagnostics.rules.carried import carried_baseline, carried_trend
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Values
    from verl_lab.diagnostics.statistics import Trend
    from verl_lab.diagnostics.watch import Watch

_TRAINED = ("actor/*", "critic/*", "train/*", "val/loss", "loss")
_LOSSES = ("train/loss", "val/loss", "loss")
_LEARNING_RATES = (Scaled("actor_rollout_ref.actor.optim.lr", 0.5), Scaled("optim.lr", 0.5))
_WINDOW = 20  # steps in which several values that are not finite count together
_BLOCK = 25  # values after which a trailing baseline moves on
_BASELINE = 50  # values of a trailing baseline
_LEAST_BASELINE = 25
_BEST_OF = 10  # values in a median that counts as the best so far
_LEAST_SHARE = 0.1  # of the first loss: below it, a preference loss is noise, whose ratios mean nothing
_TRAIN_MEDIAN = 5  # training losses compared at two validations


def _count_not_finite(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return how many of the last values are not finite, at each value that is not."""
    first = max(0, start - _WINDOW + 1)
    bad = ~np.isfinite(watch.series.values[first:])
    total = np.cumsum(bad)
    count = (total - np.append(np.zeros(min(_WINDOW, len(total)), int), total[:-_WINDOW]))[start - first :]
    return np.where(bad[start - first :], count.astype(np.float64), np.nan)


def _is_not_finite(watch: Watch, start: int) -> NDArray[np.float64]:
    return np.where(np.isfinite(watch.series.values[start:]), np.nan, 1.0)


def _ratio_to_best(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the median of the last three losses over the best median of ten before them.

    A best below a tenth of the run's first loss counts as that tenth.
    """
    values = watch.series.values
    ratio = np.full(len(values) - start, np.nan)
    baseline = carried_baseline(
        watch, start, lambda first: values[first:], window=_BEST_OF, every=_BEST_OF // 2, minimum=_BEST_OF // 2
    )
    best = np.fmin.accumulate(np.append(watch.carry.get("best", np.nan), baseline.median))[1:]
    watch.carry["best"] = float(best[-1])
    best = np.where(np.isnan(best), best, np.fmax(best, _LEAST_SHARE * values[0]))
    first = max(start, 2)
    if first < len(values):
        a, b, c = values[first - 2 : -2], values[first - 1 : -1], values[first:]
        middle = np.maximum(np.minimum(a, b), np.minimum(np.maximum(a, b), c))
        np.divide(middle, best[first - start :], out=ratio[first - start :], where=best[first - start :] > 0)
    return ratio


def _deviations_above(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return how many median absolute deviations each value lies above the trailing median."""
    values = watch.series.values
    median, deviation = carried_baseline(
        watch,
        start,
        lambda first: values[first:],
        window=_BASELINE,
        every=_BLOCK,
        minimum=_LEAST_BASELINE,
        with_deviation=True,
    )
    # A quiet stretch has next to no deviation; a twentieth of the level is taken as its least.
    return (values[start:] - median) / np.maximum(np.maximum(deviation, 0.05 * np.abs(median)), 1e-12)


def _steady_rise(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the significant rise over the trend window, as a share of the level."""

    def rise(trend: Trend, _: NDArray[np.int64]) -> NDArray[np.float64]:
        share = trend.slope * trend.span / np.maximum(np.abs(trend.level), 1e-12)
        return np.where(trend.low > 0, share, np.nan)

    return carried_trend(watch, start, rise, window_steps=50, window_share=0.2, least_values=20)


def _change_without_trend(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the measured change over the trend window where it cannot be told from none."""

    def change(trend: Trend, _: NDArray[np.int64]) -> NDArray[np.float64]:
        spans_zero = (trend.low <= 0) & (trend.high >= 0)
        return np.where(spans_zero, trend.slope * trend.span, np.nan)

    return carried_trend(
        watch,
        start,
        change,
        window_steps=watch.values["patience"],
        window_share=watch.values["share"],
        least_values=int(watch.values["least_values"]),
    )


def _rise_while_training_falls(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the validation loss's rise where it rose at each of the last validations while the training loss fell."""
    series, count = watch.series, int(watch.values["validations"])
    rise = np.full(series.size - start, np.nan)
    train = watch.facts.finite("train/loss")
    first = max(start, count)
    if train is None or first >= series.size:
        return rise
    values = series.values
    rose = np.ones(series.size - first, bool)
    for lag in range(count):
        rose &= values[first - lag : series.size - lag] > values[first - lag - 1 : series.size - lag - 1]
    for at in (np.flatnonzero(rose) + first).tolist():
        before = train.count_at(int(series.steps[at - count]))
        now = train.count_at(int(series.steps[at]))
        if before >= 1 and now > before:
            old = np.median(train.values[max(0, before - _TRAIN_MEDIAN) : before])
            new = np.median(train.values[max(before, now - _TRAIN_MEDIAN) : now])
            if new < old:
                rise[at - start] = values[at] - values[at - count]
    return rise


def _lacks_train_loss(facts: RunFacts, _: Values) -> str | None:
    return None if "train/loss" in facts.series else "the run logs no train/loss"


NON_FINITE = Rule(
    id="non-finite",
    title="Not a number",
    cause="A loss, gradient or other value became NaN or infinite; weights updated with it are lost.",
    suggestion=(
        "Go back to the last checkpoint before it (trainer.resume_mode=resume_path). Check that "
        "ppo_micro_batch_size_per_gpu does not exceed the share of one GPU (verl#2505), be careful with fp8 and fp16, "
        'and look for outputs of "!!!!" in the samples.'
    ),
    settings=_LEARNING_RATES,
    source="verl, non-finite gradient check; verl#747; verl#2505",
    patience=1,
    is_about_raw=True,
    parameters=(Parameter("count", 3, "values in 20 that are not finite, in any other metric, from: error", least=1),),
    criteria=(
        Criterion(
            _TRAINED,
            "{metric} was {raw} at step {step}",
            fixed(critical=at_least(1)),
            measure=_is_not_finite,
        ),
        Criterion(
            ("events/non_finite_gradient",),
            "verl skipped the update of step {step}: its gradient norm was not finite",
            fixed(critical=at_least(1)),
        ),
        Criterion(
            ("*",),
            "{value} of the last 20 values of {metric} up to step {step} were not finite, {bound} or more",
            lambda v, _: {Severity.ERROR: at_least(v["count"])},
            measure=_count_not_finite,
        ),
    ),
)

DIVERGENCE = Rule(
    id="divergence",
    title="Loss runs away",
    cause="The optimiser has left the good region: the learning rate is too high, or bad rows came at that step.",
    suggestion=(
        "Lower the learning rate, warm up longer (optim.lr_warmup_steps_ratio), clip the gradient "
        "(optim.clip_grad), and look at the rows of that step."
    ),
    settings=(*_LEARNING_RATES, "optim.lr_warmup_steps_ratio=0.1", "optim.clip_grad=1.0"),
    source=HEURISTIC,
    parameters=(
        patience(),
        Parameter("error", 1.5, "ratio of the loss to its best, above: error", least=1),
        Parameter("critical", 3.0, "ratio of the loss to its best, above: critical", least=1),
    ),
    criteria=(
        Criterion(
            _LOSSES,
            "{metric} was {raw} at step {step}: the median of 3 is {value} times the best median of 10, above {bound}",
            graded(error="error", critical="critical"),
            measure=_ratio_to_best,
            heuristic=True,
        ),
    ),
)

GRADIENT_SPIKE = Rule(
    id="gradient-spike",
    title="Gradient spikes",
    cause="Some updates are far larger than the others: bad rows, too high a learning rate, or a rollout mismatch.",
    suggestion=(
        "Clip the gradient (grad_clip, optim.clip_grad), lower the learning rate, or enlarge the batch. "
        "If it rises steadily, look at engine-mismatch."
    ),
    settings=_LEARNING_RATES,
    source=f"{AXOLOTL}; {VERL_FAQ}; {PRIME_RL}",
    parameters=(
        patience(),
        Parameter("warning", 10.0, "gradient norm, above: warning", least=0),
        Parameter("critical", 100.0, "gradient norm, above: critical", least=0),
        Parameter("deviations", 6.0, "median absolute deviations above the last 50 values, above: warning", least=0),
        Parameter("rise", 1.0, "steady rise over 50 steps or more as a share of the level, above: info", least=0),
    ),
    criteria=(
        Criterion(
            ("actor/grad_norm", "critic/grad_norm", "train/grad_norm"),
            "{metric} was {value} at step {step}, above {bound}",
            graded(warning="warning", critical="critical"),
        ),
        Criterion(
            ("actor/grad_norm", "critic/grad_norm", "train/grad_norm"),
            "{metric} was {raw} at step {step}: {value} median absolute deviations above its last 50 values, "
            "more than {bound}",
            graded(warning="deviations"),
            measure=_deviations_above,
            heuristic=True,
        ),
        Criterion(
            ("actor/grad_norm", "critic/grad_norm", "train/grad_norm"),
            "{metric} rose steadily to {raw} at step {step}, by {value:%} of its level, more than {bound:%}",
            graded(info="rise"),
            measure=_steady_rise,
            heuristic=True,
        ),
    ),
)

PLATEAU = Rule(
    id="plateau",
    title="Plateau",
    cause="Training no longer changes this: it has converged, or it is stuck.",
    suggestion=(
        "If there is more to gain: two to five times the learning rate in SFT, or other data. If not: stop here."
    ),
    settings=(Scaled("optim.lr", 2),),
    source=f"{AXOLOTL} (the advice); {HEURISTIC} (the test)",
    patience=1,
    clears_after=1,
    parameters=(
        Parameter("patience", 50, "steps over which nothing improves, at least", least=2),
        Parameter("share", 0.2, "the same as a share of the steps so far, where that is longer", least=0),
        Parameter("least_values", 5, "values in that window, at least", least=5),
    ),
    criteria=(
        Criterion(
            ("train/loss", "loss", "val-core/*"),
            "{metric} was {raw} at step {step}: a measured change of {value} over the window, "
            "no trend that can be told from none (95 % interval of the Theil-Sen slope)",
            fixed(info=np.inf),
            measure=_change_without_trend,
            above=False,
            heuristic=True,
        ),
    ),
)

OVERFIT = Rule(
    id="overfit",
    title="Overfitting",
    cause="The training loss still falls but the validation loss rises: the model learns the rows by heart.",
    suggestion="Use the checkpoint with the lowest val/loss, train fewer epochs (trainer.total_epochs), or add data.",
    source=f"{AXOLOTL}; {HEURISTIC} (the count)",
    patience=1,
    clears_after=1,
    parameters=(Parameter("validations", 3, "validations in a row at which the loss rises: warning", least=1),),
    criteria=(
        Criterion(
            ("val/loss",),
            "{metric} rose at each of the last validations, by {value} up to step {step}, while train/loss fell",
            fixed(warning=0.0),
            measure=_rise_while_training_falls,
            heuristic=True,
            lacks=_lacks_train_loss,
        ),
    ),
)

RULES = (NON_FINITE, DIVERGENCE, GRADIENT_SPIKE, PLATEAU, OVERFIT)
