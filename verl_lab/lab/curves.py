"""Metrics of a run as few points as a chart can show."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.reduction import FEWEST_POINTS, kept_points
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray

    from verl_lab.lab.run import Run

    Points = tuple[NDArray[np.int64], NDArray[np.float64]]


def reduced(
    run: Run, names: Sequence[str], start_step: int | None, end_step: int | None, *, points: int
) -> dict[str, Points]:
    """Return metrics by name, each with about ``points`` points: of every stretch its minimum, maximum and first gap.

    Parameters
    ----------
    start_step, end_step
        As for ``Run.metrics``.
    points
        The most points of one metric, at least 8.

    Raises
    ------
    NotFoundError
        The run logs no such metric.
    InvalidInputError
        ``points`` is less than 8.
    """
    if points < FEWEST_POINTS:
        raise InvalidInputError(f"points: {points} is too few.", f"It is {FEWEST_POINTS} or more.")
    found: dict[str, Points] = {}
    for name in names:
        steps, values = run.metrics(name, start_step, end_step)
        kept = kept_points(values, np.isfinite(values), points=points) if values.size else np.arange(0)
        found[name] = (steps[kept], values[kept])
    return found
