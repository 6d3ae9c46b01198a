"""What a recipe expects its metrics to come to, beside what they came to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.errors import InvalidInputError
from verl_lab.lab.comparing.sides import recipe_of
from verl_lab.lab.table import Table

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Expectation
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run


@dataclass(frozen=True)
class Outcome:
    """One expectation of a run's recipe.

    Attributes
    ----------
    wanted
        What the recipe says, in words.
    value, step
        What the metric came to, and where; None where it is not logged, or the step is not reached.
    is_met
        None where there is no value to judge.
    """

    metric: str
    wanted: str
    value: float | None = None
    step: int | None = None
    is_met: bool | None = None


def outcomes(lab: Lab, run: Run, step: int | None = None) -> tuple[Outcome, ...]:
    """Return the expectations of a run's recipe, judged by what was logged up to ``step``; none for other logs."""
    try:
        expected = recipe_of(run)[0].expected
    except InvalidInputError:  # a log of something else's, or a recipe of another version: nothing is expected
        return ()
    return tuple(_outcome(lab, run.id, metric, wanted, step) for metric, wanted in expected.items())


def table(found: tuple[Outcome, ...]) -> Table:
    """Return them as a table."""
    rows = tuple((one.metric, one.wanted, _reached(one), _MET[one.is_met]) for one in found)
    return Table(("metric", "expected", "came to", "met"), rows, "")


_MET = {True: "yes", False: "no", None: "not known yet"}


def _outcome(lab: Lab, run_id: str, metric: str, wanted: Expectation, step: int | None) -> Outcome:
    words = _words(wanted)
    limit = min((one for one in (step, wanted.at_step) if one is not None), default=None)
    steps, values = lab.store.metrics.read(run_id, metric, None, limit)
    reached = lab.store.runs.get(run_id)
    last = (reached.step if reached is not None else None) if step is None else step
    if not len(steps) or (wanted.at_step is not None and (last is None or last < wanted.at_step)):
        return Outcome(metric, words)
    value = float(values[-1])
    # NaN is within no bounds and has no direction.
    is_met = (wanted.min is None or value >= wanted.min) and (wanted.max is None or value <= wanted.max)
    if wanted.direction is not None:
        finite = values[np.isfinite(values)]
        rise = float(finite[-1] - finite[0]) if len(finite) else 0.0
        is_met = is_met and (rise > 0 if wanted.direction == "up" else rise < 0)
    return Outcome(metric, words, value, int(steps[-1]), is_met)


def _words(wanted: Expectation) -> str:
    said: list[str] = []
    if wanted.min is not None and wanted.max is not None:
        said.append(f"{wanted.min:g} to {wanted.max:g}")
    elif wanted.min is not None:
        said.append(f"{wanted.min:g} or more")
    elif wanted.max is not None:
        said.append(f"{wanted.max:g} or less")
    if wanted.at_step is not None and said:
        said[-1] += f" at step {wanted.at_step}"
    if wanted.direction is not None:
        said.append("rises" if wanted.direction == "up" else "falls")
    return ", ".join(said)


def _reached(one: Outcome) -> str:
    return "" if one.value is None else f"{one.value:.4g} at step {one.step}"
