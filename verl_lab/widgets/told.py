"""Findings and health as they are sent to a page: plain values, clipped to what a person reads."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson

from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from verl_lab.domain.finding import Finding, Health

_LONGEST = 600
_BREAKDOWN_MOST = 12
_BYTES_MOST = 80_000


def key_of(finding: Finding) -> str:
    """Return what tells a finding from others; one that grows graver is another."""
    return f"{finding.rule} {finding.severity} {finding.first_step} {finding.metric}"


def worst(findings: Sequence[Finding], acknowledged: Collection[str] = ()) -> Finding | None:
    """Return the gravest active finding from warning on that nobody has acknowledged."""
    open_ = [f for f in findings if f.is_active and f.severity >= Severity.WARNING and key_of(f) not in acknowledged]
    return max(open_, key=lambda f: f.severity.rank, default=None)


def told_finding(finding: Finding, acknowledged: Collection[str] = ()) -> dict[str, Any]:
    """Return one finding for a page."""
    key = key_of(finding)
    return {
        "key": key,
        "rule": finding.rule,
        "title": clipped(finding.title or finding.rule),
        "severity": finding.severity.value,
        "metric": clipped(finding.metric, 200),
        "first": finding.first_step,
        "last": finding.last_step,
        "cleared": finding.cleared_step,
        "evidence": clipped(finding.evidence),
        "cause": clipped(finding.cause),
        "suggestion": clipped(finding.suggestion),
        "settings": [clipped(setting, 300) for setting in finding.settings[:8]],
        "source": clipped(finding.source, 200),
        "heuristic": finding.heuristic,
        "acknowledged": key in acknowledged,
    }


def told_findings(
    findings: Sequence[Finding], not_applicable: Mapping[str, str], acknowledged: Collection[str]
) -> dict[str, Any]:
    """Return the message that fills the list of findings, at most about 90 kB; the least grave are left out."""
    listed: list[dict[str, Any]] = []
    size = 0
    for finding in findings:
        told = told_finding(finding, acknowledged)
        size += len(orjson.dumps(told))
        if size > _BYTES_MOST:
            break
        listed.append(told)
    return {
        "type": "findings",
        "findings": listed,
        "left_out": len(findings) - len(listed),
        "not_applicable": [[clipped(rule, 100), clipped(reason, 300)] for rule, reason in not_applicable.items()][:60],
    }


def told_health(health: Health, titles: Mapping[str, str]) -> dict[str, Any]:
    """Return the health score for a page; ``titles`` puts rule ids into words."""
    ranks = [entry.severity.rank for entry in health.breakdown]
    return {
        "score": health.score,
        "reason": health.reason,
        "worst": Severity.of_rank(max(ranks)).value if ranks else None,
        "breakdown": [
            {
                "title": clipped(titles.get(entry.rule) or entry.rule, 200),
                "severity": entry.severity.value,
                "weight": entry.weight,
                "why": clipped(entry.why, 300),
            }
            for entry in health.breakdown[:_BREAKDOWN_MOST]
        ],
        "left_out": max(0, len(health.breakdown) - _BREAKDOWN_MOST),
    }


def clipped(text: str, longest: int = _LONGEST) -> str:
    """Return ``text``, its end cut off where it is longer than a person would read here."""
    return text if len(text) <= longest else text[: longest - 1] + "…"
