"""What a diagnosis says about runs, to be read: plain text in a terminal, HTML in a notebook."""

from __future__ import annotations

import html
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.lab.diagnosis import expected
from verl_lab.lab.table import Table

if TYPE_CHECKING:
    from verl_lab.domain.finding import Finding, Health
    from verl_lab.lab.diagnosis.expected import Outcome


@dataclass(frozen=True)
class RunReport:
    """The health of one run, what is wrong with it, and what could not be judged.

    Attributes
    ----------
    run, name, state
        The run's id, what the user called it, and where it stands now.
    step
        The step that was asked about; None for now.
    health
        The score and what it is made of.
    findings
        What is active first, then by severity and age.
    not_applicable
        Reason by rule, for the rules that say nothing about this run.
    outcomes
        What its recipe expects of its metrics, and what they came to.
    """

    run: str
    name: str
    state: str
    step: int | None
    health: Health
    findings: tuple[Finding, ...] = ()
    not_applicable: dict[str, str] = field(default_factory=dict[str, str])
    outcomes: tuple[Outcome, ...] = ()

    def __repr__(self) -> str:
        parts = [self._title()]
        if self.health.score is not None:
            parts.append(repr(self.breakdown()))
        if self.outcomes:
            parts.append(repr(expected.table(self.outcomes)))
        if self.findings:
            parts.append("\n\n".join(map(finding_text, self.findings)))
        if self.not_applicable:
            parts.append(repr(self._left_out()))
        return "\n\n".join(parts)

    def _repr_html_(self) -> str:
        return self.to_html()

    def to_html(self) -> str:
        """Return the report as HTML; whatever a run wrote is text in it."""
        parts = [f"<p><b>{html.escape(self._title())}</b></p>"]
        if self.health.score is not None:
            parts.append(self.breakdown().to_html())
        if self.outcomes:
            parts.append(expected.table(self.outcomes).to_html())
        parts += map(finding_html, self.findings)
        if self.not_applicable:
            parts.append(self.left_out_html())
        return "".join(parts)

    def left_out_html(self) -> str:
        """Return the rules that say nothing about this run, folded away."""
        count = len(self.not_applicable)
        return f"<details><summary>Not applicable: {count} rules</summary>{self._left_out().to_html()}</details>"

    def _title(self) -> str:
        at = "" if self.step is None else f" at step {self.step}"
        score = self.health.reason if self.health.score is None else f"health {self.health.score} of 100{at}"
        return f"{self.run} ({self.name}, {self.state}): {score}"

    def breakdown(self) -> Table:
        """Return what the health score is made of."""
        rows = tuple((f"-{e.weight:g}", str(e.severity), e.rule, e.why) for e in self.health.breakdown)
        return Table(("points", "severity", "rule", "why"), rows, "Nothing is known to be wrong.")

    def _left_out(self) -> Table:
        return Table(("not applicable", "because"), tuple(sorted(self.not_applicable.items())), "")


class RunReports(tuple[RunReport, ...]):
    """Reports on several runs, one after the other."""

    __slots__ = ()

    def __repr__(self) -> str:
        return "\n\n".join(map(repr, self)) if self else _NONE_LIVE

    def _repr_html_(self) -> str:
        return "<hr>".join(report.to_html() for report in self) if self else f"<p>{html.escape(_NONE_LIVE)}</p>"


_NONE_LIVE = "No run is live. To diagnose one that is over, name it."


def _steps(finding: Finding) -> str:
    since = f"{finding.first_step}" if finding.first_step == finding.last_step else _span(finding)
    return since if finding.cleared_step is None else f"{since}, over since {finding.cleared_step}"


def _span(finding: Finding) -> str:
    return f"{finding.first_step}-{finding.last_step}"


def _suggestion(finding: Finding) -> str:
    settings = " ".join(finding.settings)
    return f"{finding.suggestion} --set {settings}" if settings else finding.suggestion


def finding_html(finding: Finding) -> str:
    """Return a finding as a block of lines: in columns its sentences would be a word wide."""
    steps = "step" if finding.first_step == finding.last_step else "steps"
    head = f"<b>{finding.severity} · {html.escape(finding.rule)}</b> {steps} {_steps(finding)} "
    lines = [
        f"{head}<code>{html.escape(finding.metric)}</code>",
        html.escape(finding.evidence),
        html.escape(finding.cause),
        html.escape(f"What to do: {finding.suggestion}"),
    ]
    if finding.settings:
        lines.append(f"<code>--set {html.escape(' '.join(finding.settings))}</code>")
    lines.append(f"<small>Source: {html.escape(finding.told_source)}</small>")
    style = "border-left:3px solid currentColor;padding-left:10px;margin:10px 0"
    kind = f'class="verl-lab-finding" data-severity="{finding.severity}"'
    return f'<div {kind} style="{style}">{"<br>".join(lines)}</div>'


def finding_text(finding: Finding) -> str:
    """Return a finding as lines of text."""
    head = f"{finding.severity}: {finding.rule}, {finding.metric}, step {_steps(finding)}"
    told = {
        "evidence": finding.evidence,
        "cause": finding.cause,
        "suggestion": _suggestion(finding),
        "source": finding.told_source,
    }
    return "\n".join([head, *(f"  {name + ':':<12}{text}" for name, text in told.items())])
