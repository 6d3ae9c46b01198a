"""The health score: 100 less the weight of what is wrong."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from verl_lab.domain.finding import Finding, Health, HealthEntry, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable

_WEIGHTS = {Severity.INFO: 2.0, Severity.WARNING: 10.0, Severity.ERROR: 30.0, Severity.CRITICAL: 80.0}
_HALF_LIFE_STEPS = 20  # after a signature has cleared, its weight halves over so many steps
_LEAST_WEIGHT = 0.5
# What cleared longer ago than this weighs nothing any more.
MEMORY_STEPS = math.ceil(_HALF_LIFE_STEPS * math.log2(_WEIGHTS[Severity.CRITICAL] / _LEAST_WEIGHT))


def score(findings: Iterable[Finding], step: int) -> Health:
    """Return the health at ``step`` from the findings as they stood then.

    A rule counts once, by its heaviest finding. What has cleared weighs less and less. A critical
    finding weighs so much that the score is at most 20 while it is active.
    """
    entries: dict[str, HealthEntry] = {}
    for finding in findings:
        weight, why = _WEIGHTS[finding.severity], finding.evidence
        if finding.cleared_step is not None:
            weight *= 0.5 ** ((step - finding.cleared_step) / _HALF_LIFE_STEPS)
            why = f"{why}; over since step {finding.cleared_step}"
        known = entries.get(finding.rule)
        if weight >= _LEAST_WEIGHT and (known is None or weight > known.weight):
            entries[finding.rule] = HealthEntry(finding.rule, finding.severity, round(weight, 1), why)
    breakdown = tuple(sorted(entries.values(), key=lambda entry: (-entry.weight, entry.rule)))
    return Health(max(0, round(100 - sum(entry.weight for entry in breakdown))), breakdown)
