"""Findings put into words."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from verl_lab.diagnostics.rule import rendered
from verl_lab.domain.finding import Finding, Severity

if TYPE_CHECKING:
    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Rule, Standing
    from verl_lab.diagnostics.track import Episode
    from verl_lab.diagnostics.watch import Watch


_LONGEST_WHOLE = 1e9


class _Number(float):
    """A number that formats itself with four digits, and with ``%`` as a percentage."""

    def __format__(self, spec: str) -> str:
        if spec == "%":
            return f"{100 * self:.3g} %"
        return f"{float(self):.0f}" if self.is_integer() and abs(self) < _LONGEST_WHOLE else f"{float(self):.4g}"


def finding_of_episode(watch: Watch, episode: Episode) -> Finding:
    """Return the finding for a stretch of breaches in a metric."""
    rule, criterion, series = watch.rule, watch.criteria[episode.criterion], watch.series
    steps = series.steps
    evidence = criterion.text.format(
        metric=watch.metric,
        value=_Number(episode.value),
        bound=_Number(episode.bound),
        raw=_Number(series.values[episode.worst]),
        step=steps[episode.worst],
    )
    if episode.count > 1:
        evidence += f"; {episode.count} values in breach since step {steps[episode.began]}"
    settings = rule.settings if criterion.settings is None else criterion.settings
    return Finding(
        rule=rule.id,
        severity=Severity.of_rank(episode.level),
        metric=watch.metric,
        first_step=int(steps[episode.first]),
        last_step=int(steps[episode.last]),
        evidence=evidence,
        cause=criterion.cause or rule.cause,
        suggestion=criterion.suggestion or rule.suggestion,
        settings=rendered(settings, watch.facts),
        source=rule.source,
        heuristic=criterion.heuristic,
        value=episode.value,
        threshold=float(f"{episode.bound:.12g}") if math.isfinite(episode.bound) else None,
        cleared_step=None if episode.cleared is None else int(steps[episode.cleared]),
        title=rule.title,
    )


def finding_of_standing(rule: Rule, standing: Standing, facts: RunFacts) -> Finding:
    """Return the finding for something that is so for the run as a whole."""
    return Finding(
        rule=rule.id,
        severity=standing.severity,
        metric=standing.metric,
        first_step=standing.first_step,
        last_step=standing.last_step,
        evidence=standing.evidence,
        cause=rule.cause,
        suggestion=rule.suggestion,
        settings=standing.settings or rendered(rule.settings, facts),
        source=rule.source,
        value=standing.value,
        threshold=standing.threshold,
        title=rule.title,
    )
