"""What tells runs apart: their last and best values, and what differs in their configuration."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.domain.noise import is_noise
from verl_lab.widgets.flatten import flatten

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.widgets.source import Curves

# What is better, by the last word of verl's keys that has a direction.
_HIGHER = re.compile(r"(?:^|[/_])(?:score|scores|rewards?|acc|accuracy|throughput|mfu|explained_var)(?:$|[/_@])")
_LOWER = re.compile(r"(?:^|[/_])(?:loss|perplexity|ppl)(?:$|[/_@])")
# Losses that measure something else than how well the run does.
_POLICY_LOSSES = ("pg_loss", "kl_loss", "entropy_loss")
_SPREADS = ("/min", "/std", "min@", "std@")


@dataclass(frozen=True)
class Value:
    """Where a metric of one run stands.

    Attributes
    ----------
    last, best
        The last value, and the best one in the metric's own direction; None where there is none.
    best_step
        The step of the best value.
    """

    last: float | None = None
    best: float | None = None
    best_step: int | None = None


@dataclass(frozen=True)
class Difference:
    """A key of the configuration that is not the same in all runs.

    Attributes
    ----------
    values
        One for each run, as text; None where a run does not have the key.
    is_noise
        Whether it names a place to write to or the run itself, which says nothing about the training.
    """

    key: str
    values: tuple[str | None, ...]
    is_noise: bool


def direction(metric: str) -> int:
    """Return 1 where more of a metric is better, -1 where less is, and 0 where neither is."""
    if metric.endswith(_SPREADS[:2]) or any(word in metric for word in (*_SPREADS[2:], *_POLICY_LOSSES)):
        return 0
    if _LOWER.search(metric):
        return -1
    return 1 if _HIGHER.search(metric) else 0


def value_of(curves: Curves, metric: str) -> Value:
    """Return the last and the best value of a metric; values that are not finite are never the best."""
    steps, values = curves.series(metric)
    if not steps.size:
        return Value()
    sense = direction(metric)
    finite = np.isfinite(values)
    if not sense or not finite.any():
        return Value(float(values[-1]))
    at = int(np.argmax(np.where(finite, sense * values, -np.inf)))
    return Value(float(values[-1]), float(values[at]), int(steps[at]))


def best_of(values: Sequence[Value], metric: str) -> int | None:
    """Return which run's best value is the best of all; None where that has no meaning or two are equal."""
    known = [(direction(metric) * value.best, k) for k, value in enumerate(values) if value.best is not None]
    if len(known) < 2:  # noqa: PLR2004  a best needs another to be better than
        return None
    known.sort(reverse=True)
    return None if known[0][0] == known[1][0] else known[0][1]


def differences(configs: Sequence[Mapping[str, Any]]) -> list[Difference]:
    """Return the keys that differ, in the order of the first configuration that has them.

    A run whose configuration is not known has no say.
    """
    flat = [flatten(config) for config in configs]
    keys = dict.fromkeys(key for one in flat for key in one)
    found: list[Difference] = []
    for key in keys:
        values = tuple(one.get(key) for one in flat)
        known = {value for value, one in zip(values, flat, strict=True) if one}
        if len(known) > 1:
            found.append(Difference(key, values, is_noise(key)))
    return found
