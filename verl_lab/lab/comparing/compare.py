"""Runs side by side."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.view import RunView
from verl_lab.widgets.comparison import Comparison

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run


def compare(lab: Lab, runs: Sequence[Run], metrics: Sequence[str] = ()) -> Comparison:
    """Return a widget that compares runs; its ``values`` and ``differences`` are there for programs.

    Parameters
    ----------
    runs
        Two to seven different runs.
    metrics
        What to draw at first; by default the charts that say most.

    Raises
    ------
    InvalidInputError
        There are too few runs or too many, or one comes twice.
    NotFoundError
        No run logs one of the metrics.
    """
    ids = [run.id for run in runs]
    twice = next((one for one in ids if ids.count(one) > 1), None)
    if twice is not None:
        raise InvalidInputError(f"runs: {twice} is given twice.", "Give different runs.")
    known = {name for run in runs for name in run.metric_names()} if metrics else set[str]()
    for name in metrics:
        if name not in known:
            raise NotFoundError.of("metric", name, known)
    widget = Comparison([RunView(lab, run) for run in runs], metrics=metrics)
    lab.panels.add(widget)
    return widget
