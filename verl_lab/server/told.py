"""Runs, findings and health as the API says them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.widgets.told import key_of

if TYPE_CHECKING:
    from verl_lab.domain.finding import Finding, Health
    from verl_lab.server import run_answers as told


def told_finding(finding: Finding) -> told.Finding:
    """Return one finding."""
    settings = " ".join(finding.settings)
    measured = [f"{finding.metric}: {finding.evidence}"]
    if finding.value is not None and finding.threshold is not None:
        measured.append(f"{finding.value:g} against {finding.threshold:g}")
    return {
        "key": key_of(finding),
        "rule": finding.rule,
        "title": finding.title or finding.rule,
        "severity": finding.severity,
        "active": finding.is_active,
        "first_step": finding.first_step,
        "last_step": finding.last_step,
        "message": finding.evidence,
        "evidence": measured,
        "cause": finding.cause,
        "suggestion": finding.suggestion,
        "set": f"--set {settings}" if settings else None,
        "source": finding.told_source,
    }


def told_health(health: Health) -> told.Health:
    """Return the score, and what is taken off it."""
    parts: list[told.HealthPart] = [
        {"rule": one.rule, "severity": one.severity, "weight": one.weight, "why": one.why} for one in health.breakdown
    ]
    return {"score": health.score, "reason": health.reason, "breakdown": parts}
