"""What the routes about runs answer with; see ``answers``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from typing_extensions import TypedDict

from verl_lab.domain.finding import Severity
from verl_lab.lab.summary import RunSummary
from verl_lab.widgets.source import PanelHeader

Number = float | Literal["NaN", "Infinity", "-Infinity"]
"""In JSON there is no number that is not finite."""


class RunList(TypedDict):
    """Some of the runs, and how many there are of those asked for."""

    rows: Sequence[RunSummary]
    total: int


@dataclass(frozen=True, kw_only=True)
class RunDetails(RunSummary):
    """One run, and what there is to see of it."""

    command: str | None
    overrides: Sequence[str]
    config_available: bool
    metrics: Sequence[str]
    findings: int


class Finding(TypedDict):
    """One thing that is wrong with a run; ``set`` is text to copy behind a launch."""

    key: str
    rule: str
    title: str
    severity: Severity
    active: bool
    first_step: int
    last_step: int
    message: str
    evidence: Sequence[str]
    cause: str
    suggestion: str
    set: str | None
    source: str


class HealthPart(TypedDict):
    """What one rule takes off the score."""

    rule: str
    severity: Severity
    weight: float
    why: str


class Health(TypedDict):
    """The score from 0 to 100; where there is none, the reason."""

    score: int | None
    reason: str | None
    breakdown: Sequence[HealthPart]


class Findings(TypedDict):
    """What is wrong with a run."""

    findings: Sequence[Finding]


class Judgement(Findings):
    """What is wrong with a run, and its health."""

    health: Health


class JudgementOf(Judgement):
    """The same, of one run of several."""

    run: str


class Judgements(TypedDict):
    """The same, of several runs."""

    reports: Sequence[JudgementOf]


class Series(TypedDict):
    """One metric over the steps."""

    steps: Sequence[int]
    values: Sequence[Number]


class Metrics(TypedDict):
    """Metrics by name."""

    series: Mapping[str, Series]


class Event(TypedDict):
    """Something that happened to a run besides a step."""

    seq: int
    time: Number | None
    kind: str
    step: int | None
    source: str
    data: dict[str, Any]
    attempt: int


class EventList(TypedDict):
    """Some of the events, and how many there are."""

    rows: Sequence[Event]
    total: int


class Configuration(TypedDict):
    """verl's resolved configuration."""

    config: dict[str, Any]


class Log(TypedDict):
    """The end of what training printed."""

    text: str


class Sample(TypedDict):
    """A response, its score, and what was expected."""

    response: str
    score: Number | None
    expected: str | None


class SampleGroup(TypedDict):
    """A prompt and its responses."""

    prompt: str
    samples: Sequence[Sample]


class Samples(TypedDict):
    """Samples of one step; ``steps`` names those that have some, by kind, and ``total`` counts the prompts."""

    kind: str
    step: int
    steps: Mapping[str, Sequence[int]]
    groups: Sequence[SampleGroup]
    total: int


class Replayed(TypedDict):
    """A run as it stood at a step."""

    header: PanelHeader
    health: Health
    findings: Sequence[Finding]
    values: Mapping[str, Number]
