"""A recipe checked as a whole while it is being written: what is wrong with it, and what it comes to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.domain.host import LOCAL
from verl_lab.domain.recipe import Problem
from verl_lab.errors import InvalidConfigurationError
from verl_lab.lab.launching.planned import PlannedRun

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.lab.lab import Lab


@dataclass(frozen=True)
class Validation:
    """What was found.

    Attributes
    ----------
    problems
        The errors first; with none of those a launch goes through.
    command
        What would be started; None where there are errors.
    facts
        Name and text of what there is to know: steps, batches, memory.
    rules
        How many of the diagnosis rules that are about this algorithm will have data, and how many there are.
    """

    problems: tuple[Problem, ...]
    command: str | None = None
    facts: tuple[tuple[str, str], ...] = ()
    rules: tuple[int, int] | None = None


def validation(
    lab: Lab, recipe: str, overrides: Sequence[str] = (), *, preset: str | None = None, host: str = LOCAL
) -> Validation:
    """Check a recipe as for a launch on a host, and say what would run. Nothing is written.

    Raises
    ------
    NotFoundError
        There is no such recipe, preset or host.
    EnvironmentMismatchError, TransportError
        The other machine cannot train, or was not reached.
    """
    problems: Sequence[Problem] = ()
    if host == LOCAL:
        problems = lab.validate(recipe, overrides, preset=preset)
        if any(problem.severity == "error" for problem in problems):
            return Validation(tuple(problems))
    try:
        planned = lab.train(recipe, overrides, host=host, preset=preset, dry_run=True)
    except InvalidConfigurationError as error:
        return Validation(tuple(_problem(text) for text in error.problems) or (Problem("", None, error.message),))
    if not isinstance(planned, PlannedRun):  # a dry run gives no other
        raise TypeError(planned)
    report = planned.report()
    judged, missing = len(report.coverage.judged), len(report.coverage.missing)
    found = tuple(problems) or planned.rendered.warnings
    return Validation(tuple(found), report.command, report.facts, (judged, judged + missing))


def _problem(text: str) -> Problem:
    key, colon, why = text.partition(": ")
    return Problem(key, None, why) if colon else Problem("", None, text)
