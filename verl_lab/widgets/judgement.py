"""What is known of a run's health at one moment."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.domain.finding import Finding, Health
from verl_lab.errors import VerlLabError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.widgets.source import PanelSource


@dataclass(frozen=True)
class Judgement:
    """Findings, health and the rules that say nothing, as a source gave them."""

    findings: Sequence[Finding] = ()
    health: Health = field(default_factory=lambda: Health(None, reason="The run has not been judged yet."))
    not_applicable: Mapping[str, str] = field(default_factory=dict[str, str])


def judge(source: PanelSource) -> Judgement:
    """Ask a source for its judgement; one that cannot judge still has curves to show, and says why."""
    try:
        return Judgement(source.findings(), source.health(), source.not_applicable())
    except VerlLabError as error:
        return Judgement(health=Health(None, reason=error.message))
