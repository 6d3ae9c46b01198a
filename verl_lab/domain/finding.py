"""A finding: what is wrong with a run, with its evidence; and the health score made of findings."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum


class Severity(str, Enum):
    """How grave a finding is; ordered, so that ``Severity.INFO < Severity.CRITICAL``."""

    INFO = "info"
    WARNING = "warning"
    ERROR = "error"
    CRITICAL = "critical"

    @property
    def rank(self) -> int:
        """1 for info up to 4 for critical."""
        return _RANKS[self.value]

    @classmethod
    def of_rank(cls, rank: int) -> Severity:
        """Return the severity of a rank from 1 to 4."""
        return _BY_RANK[rank]

    def __lt__(self, other: str) -> bool:
        return self.rank < Severity(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Severity(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Severity(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Severity(other).rank

    def __str__(self) -> str:
        return self.value


_RANKS = {severity.value: rank for rank, severity in enumerate(Severity, start=1)}
_BY_RANK = dict(enumerate(Severity, start=1))


@dataclass(frozen=True)
class Finding:
    """One signature that a rule saw in a run, from the step at which it counts.

    Attributes
    ----------
    rule
        Id of the rule, such as ``kl-explosion``.
    severity
        The gravest it has been, held for as many values in a row as the rule asks for.
    metric
        The metric it was seen in; for a rule about the configuration, its key.
    first_step
        The first step at which it counts (after the rule's patience).
    last_step
        The last step that showed the signature.
    evidence
        What was measured against which threshold, in a sentence.
    cause
        What usually lies behind it.
    suggestion
        What to do about it, with the keys of verl's configuration to change.
    settings
        ``key=value`` overrides that can be copied; empty where there is no single good value.
    source
        Where the threshold comes from.
    heuristic
        Whether the threshold is a heuristic of verl-lab's own, without a published source.
    value, threshold
        The worst value and the bound it was compared with, in the units of the evidence; None where
        the signature is not one number against another.
    cleared_step
        The step at which the signature was seen to be gone; None while it is active.
    title
        What the rule sees, in a few words, such as ``Drift from the reference``.
    """

    rule: str
    severity: Severity
    metric: str
    first_step: int
    last_step: int
    evidence: str
    cause: str
    suggestion: str
    settings: tuple[str, ...] = ()
    source: str = ""
    heuristic: bool = False
    value: float | None = None
    threshold: float | None = None
    cleared_step: int | None = None
    title: str = ""

    @property
    def is_active(self) -> bool:
        """Whether the signature has not been seen to clear."""
        return self.cleared_step is None

    @property
    def told_source(self) -> str:
        """Where the threshold comes from, in words: a heuristic of ours is said to be one."""
        return f"{self.source} (a heuristic of verl-lab's)" if self.heuristic else self.source


@dataclass(frozen=True)
class HealthEntry:
    """What one rule takes off the health score.

    Attributes
    ----------
    rule, severity
        The rule, and the severity of its gravest finding that still weighs.
    weight
        Points off 100.
    why
        The evidence, and that it has cleared where it has.
    """

    rule: str
    severity: Severity
    weight: float
    why: str


@dataclass(frozen=True)
class Health:
    """How well a run does, from 0 to 100, and why.

    Attributes
    ----------
    score
        None where there is nothing to judge; ``reason`` then says why.
    breakdown
        What is taken off, the heaviest first.
    reason
        Why there is no score; None where there is one.
    """

    score: int | None
    breakdown: tuple[HealthEntry, ...] = ()
    reason: str | None = None
