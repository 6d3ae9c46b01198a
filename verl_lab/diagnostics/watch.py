"""A rule at work on one metric of one run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from verl_lab.diagnostics.track import Breaches, Track

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Criterion, Rule, Values
    from verl_lab.diagnostics.series import Series


EVENTS = "events/"  # what events of a kind are called among the metrics; their points are the run's steps


class Watch:
    """Judges the new points of one metric by one rule, and keeps what it saw.

    Attributes
    ----------
    rule, values
        The rule, and its parameters' values for this run.
    metric
        The metric it looks at.
    facts
        What else is known of the run.
    carry
        What a measure must remember from one call to the next, such as a running maximum.
    memo
        What one criterion has worked out for another, within a call.
    criteria
        The rule's criteria for this metric.
    """

    __slots__ = (
        "_done",
        "_grades",
        "_is_raw",
        "_source",
        "carry",
        "criteria",
        "facts",
        "memo",
        "metric",
        "rule",
        "track",
        "values",
    )

    def __init__(self, rule: Rule, values: Values, metric: str, facts: RunFacts) -> None:
        self.rule = rule
        self.values = values
        self.metric = metric
        self.facts = facts
        self.carry: dict[str, float] = {}
        self.memo: Any = None
        self.criteria: tuple[Criterion, ...] = tuple(c for c in rule.criteria if c.applies_to(metric))
        is_event = metric.startswith(EVENTS)
        self._source: Series = facts.clock if is_event else facts.series[metric]
        self._is_raw = rule.is_about_raw or is_event
        self._done = 0
        self._grades = tuple(_Grades(criterion, values, facts) for criterion in self.criteria)
        self.track = Track(
            patience=1 if is_event else rule.patience_with(values),
            clears_after=rule.clears_after,
            above=tuple(criterion.above for criterion in self.criteria),
        )

    @property
    def series(self) -> Series:
        """The points the rule judges: the finite ones, or all for a rule about the others."""
        return self._source if self._is_raw else self._source.finite

    def advance(self) -> bool:
        """Judge the points that are new; return whether something now counts, or counts as graver."""
        start, size = self._done, self.series.size
        if start == size:
            return False
        self._done = size
        found: list[Breaches] = []
        for k, criterion in enumerate(self.criteria):
            if criterion.lacks is not None and criterion.lacks(self.facts, self.values) is not None:
                continue
            measure = criterion.measure
            measured = self.series.values[start:] if measure is None else measure(self, start)
            breaches = self._grades[k].breaches(measured, start, k)
            if breaches is not None:
                found.append(breaches)
        if not found:
            return False
        return self.track.extend(found[0] if len(found) == 1 else _gravest(found))

    def note(self, position: int, value: float) -> bool:
        """Take in a breach at one position that was found by other means; return as ``advance``."""
        if position < self.track.last:
            return False
        for k, grades in enumerate(self._grades):
            breaches = grades.breaches(np.array([value]), position, k)
            if breaches is not None:
                return self.track.extend(breaches) if position > self.track.last else self.track.aggravate(breaches)
        return False


class _Grades:
    """A criterion's bounds, sorted for a search."""

    __slots__ = ("_levels", "_lowest", "_sign", "_sorted")

    def __init__(self, criterion: Criterion, values: Values, facts: RunFacts) -> None:
        self._sign = 1.0 if criterion.above else -1.0
        bounds = criterion.bounds(values, facts)
        order = sorted((self._sign * bound, severity.rank) for severity, bound in bounds.items())
        self._sorted = np.array([bound for bound, _ in order])
        # Bounds that are out of order (error below warning) still give the gravest that is exceeded.
        self._levels = np.maximum.accumulate(np.array([rank for _, rank in order], dtype=np.int8))
        self._lowest = float(self._sorted[0])

    def breaches(self, measured: NDArray[np.float64], start: int, criterion: int) -> Breaches | None:
        """Return the points beyond a bound, or None."""
        if len(measured) == 1:  # the step-by-step case, kept cheap
            if not self._sign * float(measured[0]) > self._lowest:
                return None
            hits = np.zeros(1, np.int64)
        else:
            hits = np.flatnonzero(self._sign * measured > self._lowest)
            if len(hits) == 0:
                return None
        values = measured[hits]
        grade = np.searchsorted(self._sorted, self._sign * values, side="left") - 1
        return Breaches(
            at=hits + start,
            level=self._levels[grade],
            criterion=np.full(len(hits), criterion, np.int8),
            value=values,
            bound=self._sign * self._sorted[grade],
        )


def _gravest(found: list[Breaches]) -> Breaches:
    """Merge breaches by several criteria: the gravest at each point, the earlier criterion where equal."""
    at = np.concatenate([b.at for b in found])
    level = np.concatenate([b.level for b in found])
    criterion = np.concatenate([b.criterion for b in found])
    order = np.lexsort((criterion, -level, at))
    keep = order[np.diff(at[order], prepend=-1) > 0]
    value = np.concatenate([b.value for b in found])
    bound = np.concatenate([b.bound for b in found])
    return Breaches(at[keep], level[keep], criterion[keep], value[keep], bound[keep])
