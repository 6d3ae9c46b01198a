"""How a run did, in a sentence, and what it was, in a line."""

from __future__ import annotations

from datetime import datetime
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.domain.finding import Severity
from verl_lab.lab.comparing.origins import checkpoint_of
from verl_lab.widgets.wording import duration, number

if TYPE_CHECKING:
    from verl_lab.lab.reports.facts import Facts, FindingFact, ValueFact

_MILLION = 1e6
_BROKEN = ("failed", "lost")


def verdict(facts: Facts) -> str:
    """Return how the run did: how far it came, how its main metric went, how healthy it was."""
    parts = [_standing(facts)]
    main = main_value(facts)
    if main is not None:
        parts.append(_course(main))
    parts.append(_health(facts))
    text = "; ".join(parts)
    return f"{text[0].upper()}{text[1:]}."


def gravity(facts: Facts) -> str:
    """Return the severity that the verdict has: ``none`` where all is well."""
    if facts.state in _BROKEN:
        return "error"
    worst = _worst(facts)
    return worst.severity if worst is not None and Severity(worst.severity) >= Severity.WARNING else "none"


def identity(facts: Facts) -> str:
    """Return what the run was, in a line."""
    size = "" if facts.parameters is None else f" ({facts.parameters / _MILLION:.3g} M parameters)"
    begun = None if facts.started is None else datetime.fromtimestamp(facts.started).astimezone()
    parts = [
        facts.run,
        facts.algorithm,
        facts.recipe and f"recipe {facts.recipe}",
        facts.model and f"model {_model(facts.model)}{size}",
        None if begun is None else f"started {begun:%Y-%m-%d %H:%M}",
        None if facts.elapsed_s is None else f"took {duration(facts.elapsed_s)}",
        facts.host if facts.host != "local" else None,
        facts.verl and f"verl {facts.verl}",
    ]
    return " · ".join(part for part in parts if part)


def main_value(facts: Facts) -> ValueFact | None:
    """Return the metric that says best how the run did: the first that has a direction."""
    return next((one for one in facts.values if one.best is not None), None)


def best(value: ValueFact) -> str:
    """Return the best value and its step; empty for a metric without a direction."""
    return "" if value.best is None else f"{number(value.best)} at step {value.best_step}"


def _model(path: str) -> str:
    """Return what a model is called: a checkpoint is a run's, a folder has a name, an id stays."""
    found = checkpoint_of(path)
    if found is not None:
        return f"of run {found[1]}, step {found[2]}"
    return PurePosixPath(path).name if path.startswith(("/", "~", ".")) else path


def _standing(facts: Facts) -> str:
    of = f" of {facts.total}" if facts.total else ""
    at = "before its first step" if facts.step is None else f"at step {facts.step}{of}"
    why = f" ({facts.reason.rstrip('.')})" if facts.reason else ""
    match facts.state:
        case "completed":
            return f"completed all {facts.total} steps" if facts.total else "completed"
        case "attached":
            return f"a log of {facts.step or 0} steps, written by something else"
        case "failed":
            return f"failed {at}{why}"
        case "lost":
            return f"lost {at}{why}"
        case "stopped":
            return f"stopped {at}{why}"
        case state:
            return f"{state}, {at}, when this report was made"


def _course(value: ValueFact) -> str:
    at = "" if value.best in (None, value.last) else f" (best {best(value)})"
    name = value.label if value.label == value.metric else value.label[0].lower() + value.label[1:]
    return f"{name} went from {number(value.first)} to {number(value.last)}{at}"


def _health(facts: Facts) -> str:
    if facts.health is None:
        return (facts.health_reason or "its health is not known").rstrip(".")
    score = f"health {facts.health} of 100"
    worst = _worst(facts)
    if worst is None:
        seen = len(facts.findings)
        return f"{score}, nothing is wrong at the end" + (f" ({seen} findings are over)" if seen else "")
    others = sum(one.is_active for one in facts.findings) - 1
    more = f" and {others} more" if others else ""
    return f"{score}, {worst.severity}: {worst.title.lower()} since step {worst.first_step}{more}"


def _worst(facts: Facts) -> FindingFact | None:
    active = [one for one in facts.findings if one.is_active]
    return max(active, key=lambda one: Severity(one.severity).rank, default=None)
