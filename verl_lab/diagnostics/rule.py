"""What a rule is: its metadata, its parameters, and the criteria by which it judges metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from verl_lab.domain.finding import Severity

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from verl_lab.diagnostics.facts import RunFacts
    from verl_lab.diagnostics.watch import Watch

Values = Mapping[str, float]  # a rule's parameters, by name
Bounds = Mapping[Severity, float]

# Where thresholds come from.
AXOLOTL = "axolotl docs, training_stability"
VERL_FAQ = "verl docs, faq"
VERL_ROLLOUT_CORRECTION = "verl docs, algo/rollout_corr"
VERL_BEST_PRACTICES = "verl docs, perf/best_practices"
VERL_TUNING = "verl docs, perf/perf_tuning"
NEMO_RL = "NeMo-RL docs, guides/grpo"
PRIME_RL = "prime-rl docs, training"
MILES = "miles dashboard advisory"
SPINNING_UP = "OpenAI Spinning Up, ppo"
PPO_DETAILS = "ICLR blog, The 37 Implementation Details of PPO"
SKYWORK = "Skywork-OR1"
DAPO = "DAPO"
HEURISTIC = "verl-lab's own heuristic"


@dataclass(frozen=True)
class Parameter:
    """A threshold or setting of a rule that a recipe or a call may change.

    Attributes
    ----------
    name, default
        An integer default asks for an integer, a float for any number.
    meaning
        What it is, with its unit.
    least
        The smallest value that makes sense; None for any.
    """

    name: str
    default: float
    meaning: str
    least: float | None = None

    @property
    def is_whole(self) -> bool:
        """Whether only whole numbers will do."""
        return isinstance(self.default, int)


@dataclass(frozen=True)
class Scaled:
    """A setting to be changed by a factor, where the configuration says what it is now."""

    key: str
    factor: float


Setting = str | Scaled


@dataclass(frozen=True)
class Criterion:
    """One way in which a metric shows a rule's signature.

    Attributes
    ----------
    metrics
        Names of the metrics it looks at; ``*`` stands for anything.
    text
        The evidence, with ``{metric} {value} {bound} {step}`` to fill in.
    bounds
        From the rule's parameters and the run to the bound of each severity.
    measure
        What is compared with the bounds, for each point from a position on; by default the metric's
        values themselves. NaN is no breach.
    above
        Whether a value beyond the bound is a larger one.
    heuristic
        Whether the bound has no published source.
    lacks
        Why it cannot be judged for this run although the metric is there; None if it can.
    cause, suggestion, settings
        What differs from the rule's own.
    """

    metrics: tuple[str, ...]
    text: str
    bounds: Callable[[Values, RunFacts], Bounds]
    measure: Callable[[Watch, int], NDArray[np.float64]] | None = None
    above: bool = True
    heuristic: bool = False
    lacks: Callable[[RunFacts, Values], str | None] | None = None
    cause: str | None = None
    suggestion: str | None = None
    settings: tuple[Setting, ...] | None = None

    def applies_to(self, metric: str) -> bool:
        """Return whether this is one of its metrics; events are no metrics, and must be named."""
        if metric in self.metrics:
            return True
        is_event = metric.startswith("events/")
        return not is_event and any("*" in pattern and fnmatchcase(metric, pattern) for pattern in self.metrics)


@dataclass(frozen=True)
class Standing:
    """Something that is so for the run as a whole, from a step on."""

    severity: Severity
    metric: str
    first_step: int
    last_step: int
    evidence: str
    value: float | None = None
    threshold: float | None = None
    settings: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rule:
    """A signature of something going wrong.

    Attributes
    ----------
    id, title
        The id is kept stable: recipes, reports and people refer to it.
    cause, suggestion, settings, source
        What its findings say; see ``Finding``.
    parameters
        What can be changed; every rule also has ``enabled``.
    criteria
        Ways to see it in a metric; a finding takes the gravest.
    patience
        Values in a row that must show the signature before it counts; None takes the parameter ``patience``.
    clears_after
        Values in a row without the signature after which it is over.
    is_about_raw
        Whether it judges a metric's NaN and infinite points too.
    standing
        What it finds without a metric.
    standing_lacks
        Why that cannot be judged; None if it can.
    """

    id: str
    title: str
    cause: str
    suggestion: str
    source: str
    parameters: tuple[Parameter, ...] = ()
    criteria: tuple[Criterion, ...] = ()
    settings: tuple[Setting, ...] = ()
    patience: int | None = None
    clears_after: int = 3
    is_about_raw: bool = False
    standing: Callable[[RunFacts, Values], tuple[Standing, ...]] | None = None
    standing_lacks: Callable[[RunFacts, Values], str | None] | None = None
    defaults: Values = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "defaults", {p.name: p.default for p in self.parameters})

    def patience_with(self, values: Values) -> int:
        """Return how many values in a row make a breach count."""
        return int(values["patience"]) if self.patience is None else self.patience


def patience(default: int = 3) -> Parameter:
    """Return the parameter that says how many values in a row make a breach count."""
    return Parameter("patience", default, "values in a row that must breach before it counts", least=1)


def at_least(bound: float) -> float:
    """Return the number just below ``bound``, so that "above" it includes the bound itself."""
    return math.nextafter(bound, -math.inf)


def at_most(bound: float) -> float:
    """Return the number just above ``bound``, so that "below" it includes the bound itself."""
    return math.nextafter(bound, math.inf)


def graded(**parameters: str) -> Callable[[Values, RunFacts], Bounds]:
    """Return bounds that stand in parameters: ``graded(warning="warning", error="high")``."""
    named = {Severity(severity): name for severity, name in parameters.items()}
    return lambda values, _: {severity: values[name] for severity, name in named.items()}


def fixed(**bounds: float) -> Callable[[Values, RunFacts], Bounds]:
    """Return bounds that nobody can change: ``fixed(error=1.645)``."""
    named = {Severity(severity): bound for severity, bound in bounds.items()}
    return lambda _values, _facts: named


def rendered(settings: tuple[Setting, ...], facts: RunFacts) -> tuple[str, ...]:
    """Return settings as overrides to copy, leaving out those this run's configuration does not have."""
    lines: list[str] = []
    for setting in settings:
        if isinstance(setting, Scaled):
            now = facts.number(setting.key)
            if now:
                new = now * setting.factor
                is_whole = isinstance(facts.setting(setting.key), int)
                lines.append(f"{setting.key}={max(1, round(new)) if is_whole else format(new, '.6g')}")
        elif facts.config is None or facts.has_setting(setting.partition("=")[0]):
            lines.append(setting)
    return tuple(lines)
