"""Rules about speed and memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.diagnostics.facts import RECORD_TIME
from verl_lab.diagnostics.rule import (
    HEURISTIC,
    MILES,
    Criterion,
    Parameter,
    Rule,
    graded,
    patience,
)
from verl_lab.diagnostics.rules.carried import carried_baseline, carried_trend
from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Values
    from verl_lab.diagnostics.statistics import Trend
    from verl_lab.diagnostics.watch import Watch

_BLOCK = 10
_BASELINE = 50
_LEAST_BASELINE = 10
_KILLED_AT = 0.95  # Ray kills workers at this share of the node's memory (verl#4995)


def _measured_mfu(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the utilisation where it was measured: verl logs 0 for a device whose peak it does not know."""
    values = watch.series.values[start:]
    return np.where(values > 0, values, np.nan)


def _share_of_median(watch: Watch, start: int) -> NDArray[np.float64]:
    return _relative(watch, start, lambda first: watch.series.values[first:])


def _share_of_median_by_time(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return tokens per second, from tokens a step and the times of the records, against their trailing median."""

    def speeds(first: int) -> NDArray[np.float64]:
        steps, tokens = watch.series.steps[first:], watch.series.values[first:]
        elapsed = watch.facts.at(RECORD_TIME, steps) - watch.facts.at(RECORD_TIME, steps - 1)
        # An unknown speed is taken as infinite: no breach, and no finite median where there are many.
        speed = np.full(len(tokens), np.inf)
        np.divide(tokens, elapsed, out=speed, where=elapsed > 0)
        return speed

    return _relative(watch, start, speeds)


def _relative(watch: Watch, start: int, values_from: Callable[[int], NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return values as a share of the median of those before."""
    baseline = carried_baseline(watch, start, values_from, window=_BASELINE, every=_BLOCK, minimum=_LEAST_BASELINE)
    share = np.full(len(baseline.median), np.nan)
    is_known = (baseline.median > 0) & np.isfinite(baseline.median)
    np.divide(values_from(start), baseline.median, out=share, where=is_known)
    return share


def _time_left_share(watch: Watch, start: int) -> NDArray[np.float64]:
    """Return the steps until memory is full over the steps that are left, where memory grows."""
    limit, total = _memory_gb(watch.metric, watch.values), watch.facts.total_steps
    if limit is None or total is None:
        return np.full(watch.series.size - start, np.nan)

    def share(trend: Trend, last: NDArray[np.int64]) -> NDArray[np.float64]:
        room = np.maximum(_KILLED_AT * limit - watch.series.values[last], 0.0)
        left = total - watch.series.steps[last]
        result = np.full(len(last), np.nan)
        np.divide(room, trend.slope * left, out=result, where=(trend.low > 0) & (trend.slope > 0) & (left > 0))
        return result

    return carried_trend(watch, start, share, window_steps=50, window_share=0.2, least_values=20)


def _memory_gb(metric: str, values: Values) -> float | None:
    return values["node_memory_gb" if "cpu_memory" in metric else "gpu_memory_gb"] or None


def _lacks_mfu_meaning(facts: RunFacts, _: Values) -> str | None:
    is_cpu = "cpu" in (facts.setting("trainer.device"), facts.platform)
    return "utilisation means nothing on a CPU" if is_cpu else None


def _lacks_times(facts: RunFacts, _: Values) -> str | None:
    return None if facts.series[RECORD_TIME].finite.size else "the records carry no time"


def _lacks_node_memory(facts: RunFacts, values: Values) -> str | None:
    return _lacks_limit(facts, values, "node_memory_gb")


def _lacks_gpu_memory(facts: RunFacts, values: Values) -> str | None:
    return _lacks_limit(facts, values, "gpu_memory_gb")


def _lacks_limit(facts: RunFacts, values: Values, name: str) -> str | None:
    if not values[name]:
        return f"how much memory there is is not known (set memory-leak's {name})"
    return "how many steps are left is not known" if facts.total_steps is None else None


SLOWDOWN = Rule(
    id="slowdown",
    title="Slow, or slower than before",
    cause="The devices wait: for data, for memory, for each other, or for another job on the machine.",
    suggestion=(
        "Turn on use_dynamic_bsz and sequence packing (use_remove_padding), switch off param_offload and "
        "optimizer_offload where memory allows, and look for other jobs on the machine."
    ),
    settings=("actor_rollout_ref.actor.use_dynamic_bsz=True", "actor_rollout_ref.model.use_remove_padding=True"),
    source=f"{MILES}; {HEURISTIC} (the drop)",
    parameters=(
        patience(),
        Parameter("mfu", 0.15, "model FLOPs utilisation, below: warning", least=0),
        Parameter("share", 0.7, "share of the median of the last 50 values, below: warning", least=0),
    ),
    criteria=(
        Criterion(
            ("perf/mfu/actor", "perf/mfu/critic", "train/mfu"),
            "{metric} was {value} at step {step}, below {bound}",
            graded(warning="mfu"),
            measure=_measured_mfu,
            above=False,
            lacks=_lacks_mfu_meaning,
        ),
        Criterion(
            ("perf/throughput",),
            "{metric} was {raw} tokens/s at step {step}: {value:%} of the median of its last 50 values, "
            "less than {bound:%}",
            graded(warning="share"),
            measure=_share_of_median,
            above=False,
            heuristic=True,
        ),
        Criterion(
            ("train/global_tokens",),
            "tokens per second were {value:%} of the median of the last 50 steps at step {step}, less than {bound:%}",
            graded(warning="share"),
            measure=_share_of_median_by_time,
            above=False,
            heuristic=True,
            lacks=_lacks_times,
        ),
    ),
)

MEMORY_LEAK = Rule(
    id="memory-leak",
    title="Memory leak",
    cause="Memory grows steadily and will be full before the run is over; Ray kills workers at 95 % of the node.",
    suggestion=(
        "Save a checkpoint and resume before it is full (trainer.save_freq), and lower data.dataloader_num_workers."
    ),
    settings=("trainer.save_freq=10",),
    source="verl#4995 (Ray kills at 95 %)",
    parameters=(
        patience(),
        Parameter("node_memory_gb", 0.0, "memory of the node in GiB; 0 is unknown", least=0),
        Parameter("gpu_memory_gb", 0.0, "memory of one GPU in GiB; 0 is unknown", least=0),
        Parameter("share", 1.0, "steps until full over steps left, below: error", least=0),
    ),
    criteria=tuple(
        Criterion(
            metrics,
            "{metric} was {raw} GiB at step {step} and grows: 95 % is reached after {value:%} of the remaining steps",
            lambda v, _: {Severity.ERROR: v["share"]},
            measure=_time_left_share,
            above=False,
            lacks=lacks,
        )
        for metrics, lacks in (
            (("perf/cpu_memory_used_gb", "actor/perf/cpu_memory_used_gb"), _lacks_node_memory),
            (("perf/max_memory_reserved_gb", "actor/perf/max_memory_reserved_gb"), _lacks_gpu_memory),
        )
    ),
)

RULES = (SLOWDOWN, MEMORY_LEAK)
