"""Which rules cannot be judged for a run, and why."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.diagnostics.watch import EVENTS

if TYPE_CHECKING:
    from collections.abc import Collection

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.rule import Rule, Values


def why_not_applicable(rule: Rule, values: Values, facts: RunFacts, watched: Collection[str]) -> str | None:
    """Return why a rule says nothing about this run; None if it can.

    Parameters
    ----------
    watched
        Metrics and events, out of those logged, that the rule looks at.
    """
    if rule.standing is not None:
        return None if rule.standing_lacks is None else rule.standing_lacks(facts, values)
    missing: list[str] = []
    reasons: list[str] = []
    for criterion in rule.criteria:
        if not any(criterion.applies_to(metric) for metric in watched):
            missing += [name for name in criterion.metrics if not name.startswith(EVENTS) and name not in missing]
            continue
        reason = None if criterion.lacks is None else criterion.lacks(facts, values)
        if reason is None:
            return None
        if reason not in reasons:
            reasons.append(reason)
    if missing:
        reasons.append(f"the run logs no {_listed(missing)}")
    return "; ".join(reasons)


def looks_at(rule: Rule, metric: str) -> bool:
    """Return whether any criterion of a rule is about a metric."""
    return any(criterion.applies_to(metric) for criterion in rule.criteria)


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} or {names[-1]}"
