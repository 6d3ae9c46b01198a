"""What verl's metrics are called in words, and which of them a panel shows first.

Keys are verl 0.9.1's own (``verl/trainer/ppo/metric_utils.py``, ``verl/trainer/sft_trainer.py``), and TRL's
for preference optimisation, which verl does not have.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.domain.wire import SYSTEM

if TYPE_CHECKING:
    from collections.abc import Collection


@dataclass(frozen=True)
class Chart:
    """One chart of the panel.

    Attributes
    ----------
    metric
        The metric's key in verl's log.
    label
        What it is, for a heading.
    unit
        Unit, or how it was reduced.
    """

    metric: str
    label: str
    unit: str


@dataclass(frozen=True)
class BoundedChart(Chart):
    """A chart whose axis always shows the same range, from the least value there can be to the greatest."""

    bounds: tuple[float, float]


# (label, unit, keys in order of preference): the first key that a run logs is its chart.
_FIRST: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    ("Reward", "mean per response", ("critic/score/mean", "critic/rewards/mean")),
    ("Held-out score", "validation mean", ("val-core/*",)),
    ("Preference accuracy", "share of pairs", ("rewards/accuracies",)),
    ("Held-out preferences", "share of pairs", ("val/rewards/accuracies",)),
    ("Reward margin", "mean per pair", ("rewards/margins",)),
    ("Loss", "nats per token, of DPO per pair", ("train/loss",)),
    ("Validation loss", "nats per token, of DPO per pair", ("val/loss",)),
    ("KL to reference", "nats", ("actor/kl_loss", "actor/reward_kl_penalty")),
    ("KL of the update", "nats", ("actor/ppo_kl",)),
    ("Entropy", "nats per token", ("actor/entropy",)),
    ("Gradient norm", "L2", ("actor/grad_norm", "train/grad_norm")),
    ("Critic loss", "squared error", ("critic/vf_loss",)),
    ("Response length", "tokens, mean", ("response_length/mean",)),
    ("Learning rate", "", ("train/lr",)),
    ("Throughput", "tokens/s per device", ("perf/throughput",)),
    ("Tokens", "per step", ("train/global_tokens",)),
)
# What was measured of the training host: offered beside the others. Of a host with GPUs the first two are shown.
_SYSTEM: tuple[tuple[str, str, str], ...] = (
    ("GPU use", "%, mean of all", "system/gpu/use_percent"),
    ("GPU memory", "%, of the fullest", "system/gpu/memory_percent"),
    ("GPU temperature", "°C, of the hottest", "system/gpu/temperature_c"),
    ("GPU power", "W, of all", "system/gpu/power_w"),
    ("Processors", "% of the host's", "system/cpu_percent"),
    ("Memory", "% of the host's", "system/memory_percent"),
    ("Memory of the run", "GiB, shared pages in each process", "system/run/memory_gb"),
    ("Free disk", "GiB, where the run lies", "system/disk_free_gb"),
)
_SHOWN = frozenset(("system/gpu/use_percent", "system/gpu/memory_percent"))
_KNOWN = {key: (label, unit) for label, unit, keys in _FIRST for key in keys} | {
    key: (label, unit) for label, unit, key in _SYSTEM
}


def describe(metric: str) -> Chart:
    """Return the chart for any metric key; one without words of its own keeps its key."""
    label, unit = _KNOWN.get(metric, (metric, ""))
    return Chart(metric, label, unit)


def first_charts(logged: Collection[str]) -> list[Chart]:
    """Return the charts that say most about a run, from the metrics it logs.

    A KL to a reference replaces the KL to the rollout policy. If a run logs nothing that is known
    here, its first eight metrics by name are shown instead.
    """
    charts: list[Chart] = []
    for label, unit, keys in _FIRST:
        found = next((m for key in keys for m in _matching(key, logged)), None)
        if found is not None:
            charts.append(Chart(found, label, unit))
    if any(c.label == "KL to reference" for c in charts):
        charts = [c for c in charts if c.label != "KL of the update"]
    return charts or [describe(m) for m in sorted(m for m in logged if not m.startswith(SYSTEM))[:8]]


def system_charts(logged: Collection[str]) -> list[Chart]:
    """Return the charts that say most about the host a run trains on, from what was measured of it."""
    return [Chart(key, label, unit) for label, unit, key in _SYSTEM if key in logged]


def is_shown_first(metric: str) -> bool:
    """Say whether a chart that is offered is shown at first: of the host, what its GPUs do, where it has any."""
    return not metric.startswith(SYSTEM) or metric in _SHOWN


def _matching(key: str, logged: Collection[str]) -> list[str]:
    if not key.endswith("*"):
        return [key] if key in logged else []
    inside = sorted(m for m in logged if m.startswith(key[:-1]))
    return sorted(inside, key=lambda m: "/acc/" not in m)
