"""``Sections``: a report on runs, one call a section, so that its notebook can be run again and edited."""

from __future__ import annotations

from datetime import datetime
from functools import cached_property
from html import escape
from importlib import metadata
from typing import TYPE_CHECKING

from verl_lab.errors import InvalidInputError, VerlLabError
from verl_lab.lab.comparing.diff import diff_table
from verl_lab.lab.comparing.sides import recipe_of
from verl_lab.lab.diagnosis import expected
from verl_lab.lab.diagnosis.report import finding_html, finding_text
from verl_lab.lab.reports import curves, origin
from verl_lab.lab.reports.difference import diff_facts
from verl_lab.lab.reports.facts import FACTS_MIME, facts_of, told
from verl_lab.lab.reports.parts import Section, heading, said, shown
from verl_lab.lab.reports.samples import samples
from verl_lab.lab.reports.words import best, gravity, identity, verdict
from verl_lab.lab.table import Table
from verl_lab.lab.view import RunView
from verl_lab.widgets.selection import OVERLAYS_MOST
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from verl_lab.lab.lab import Lab
    from verl_lab.lab.reports.facts import Facts
    from verl_lab.lab.reports.parts import Part
    from verl_lab.lab.run import Run

RUNS_MOST = OVERLAYS_MOST
_PAIR = 2


class Sections:
    """The parts of a report; each is shown by the cell that asks for it. Get it from ``lab.sections``.

    Parameters
    ----------
    runs
        What the report is on; findings are marked on the curves of the first.
    baseline
        What they are compared with; None for no baseline.
    """

    def __init__(self, lab: Lab, runs: Sequence[Run], baseline: Run | None = None) -> None:
        self._lab = lab
        self._runs = tuple(runs)
        self._baseline = baseline

    @property
    def ids(self) -> list[str]:
        """The runs' ids."""
        return [run.id for run in self._runs]

    @property
    def names(self) -> list[str]:
        """What the runs are called."""
        return [run.name for run in self._runs]

    @property
    def baseline_id(self) -> str | None:
        """The id of the baseline."""
        return None if self._baseline is None else self._baseline.id

    @cached_property
    def facts(self) -> tuple[Facts, ...]:
        """What there is to say of each run in figures."""
        return tuple(facts_of(self._lab, run) for run in self._runs)

    def title(self) -> Section:
        """Show what the report is on; what it says in figures is kept in the output, for ``%verl_report --diff``."""
        names = [facts.name for facts in self.facts]
        text = f"Report: {names[0]}" if len(names) == 1 else f"Report on {len(names)} runs"
        made = f"Made {datetime.now().astimezone():%Y-%m-%d %H:%M} with verl-lab {metadata.version('verl-lab')}."
        lines = [identity(facts) if len(names) == 1 else f"{facts.name}: {identity(facts)}" for facts in self.facts]
        faint = "".join(f'<div class="verl-lab-faint">{escape(line)}</div>' for line in [*lines, made])
        return Section(
            (
                {
                    FACTS_MIME: told(self.facts),
                    "text/html": f"<h1>{escape(text)}</h1>{faint}",
                    "text/plain": "\n".join([text, *lines, made]),
                },
            )
        )

    def summary(self) -> Section:
        """Show in a sentence how each run did, with its first, last and best values."""
        return self._of_each(self._summary)

    def lineage(self) -> Section:
        """Show what each run was made from: recipe, data, model, reward function."""
        return self._of_each(lambda run: origin.origin(self._lab, run))

    def settings(self) -> Section:
        """Show what was set for each run, beside verl's defaults."""
        return self._of_each(lambda run: origin.settings(self._lab, run))

    def curves(self) -> Section:
        """Show the curves that say most, all runs in the same charts."""
        return Section(tuple(curves.curves(self._views(self._runs), title="curves")))

    def findings(self) -> Section:
        """Show what is wrong or was, with evidence, source and what to do."""
        return self._of_each(self._findings)

    def health(self) -> Section:
        """Show the health score over the steps, and what it is made of at the end."""
        charts = curves.health(self._lab, self._views(self._runs), self._runs)
        return Section((*charts, *self._of_each(self._breakdown).parts))

    def samples(self) -> Section:
        """Show what each run's model wrote: first and last, best and worst, and group by group."""
        return self._of_each(lambda run: samples(RunView(self._lab, run)))

    def system(self) -> Section:
        """Show what each run's host did meanwhile."""
        return self._of_each(lambda run: curves.system(RunView(self._lab, run), run))

    def comparison(self) -> Section:
        """Show the runs beside the baseline, or beside each other: curves, values, and what differs."""
        runs = [*self._runs, *([self._baseline] if self._baseline is not None else [])]
        if len(runs) < _PAIR:
            return Section((said("No baseline was given. %verl_report RUN --baseline RUN compares with one."),))
        views = self._views(runs)
        charts = curves.curves(views, title="comparison", flagged=False) if self._baseline is not None else []
        facts = [facts_of(self._lab, run) for run in runs]
        if len(runs) == _PAIR:
            # What leads from the baseline to the run.
            before, after = reversed(facts) if self._baseline is not None else facts
            roles = None if self._baseline is None else ("baseline", "this run")
            return Section((*charts, *diff_facts(before, after, roles=roles).section().parts))
        return Section((*charts, *self._compared(runs, facts)))

    def _of_each(self, parts: Callable[[Run], Sequence[Part]]) -> Section:
        """Return parts of every run, under its name where there are several; what a run lacks says so in a line."""
        found: list[Part] = []
        for run in self._runs:
            if len(self._runs) > 1:
                found.append(heading(f"{run.name} ({run.id})"))
            try:
                found += parts(run)
            except VerlLabError as error:
                found.append(said(str(error)))
        return Section(tuple(found))

    def _views(self, runs: Sequence[Run]) -> list[RunView]:
        return [RunView(self._lab, run) for run in runs]

    def _summary(self, run: Run) -> list[Part]:
        facts = next(one for one in self.facts if one.run == run.id)
        text = verdict(facts)
        html = f'<p class="verl-lab-verdict" data-severity="{gravity(facts)}">{escape(text)}</p>'
        parts: list[Part] = [{"text/html": html, "text/plain": text}]
        try:
            recipe = recipe_of(run)[0]
        except InvalidInputError:  # a log of something else's
            recipe = None
        if recipe is not None and recipe.description:
            parts.append(said(f"What it was: {recipe.description}"))
        rows = tuple(
            (f"{one.label} ({one.unit})" if one.unit else one.label, number(one.first), number(one.last), best(one))
            for one in facts.values
        )
        parts.append(shown(Table(("", "first", "last", "best"), rows, "Nothing was logged.")))
        outcomes = expected.outcomes(self._lab, run)
        return [*parts, shown(expected.table(outcomes), "What the recipe expects")] if outcomes else parts

    def _findings(self, run: Run) -> list[Part]:
        judged = self._lab.diagnose(run)[0]
        left_out = judged.left_out_html() if judged.not_applicable else ""
        if not judged.findings:
            text = judged.health.reason or "No rule has found anything."
            return [{"text/html": f"<p>{escape(text)}</p>{left_out}", "text/plain": text}]
        return [
            {
                "text/html": "".join(map(finding_html, judged.findings)) + left_out,
                "text/plain": "\n\n".join(map(finding_text, judged.findings)),
            }
        ]

    def _breakdown(self, run: Run) -> list[Part]:
        judged = self._lab.diagnose(run)[0]
        if judged.health.score is None:
            return [said(judged.health.reason or "There is no health score.")]
        return [shown(judged.breakdown(), f"Health at the end: {judged.health.score} of 100")]

    def _compared(self, runs: Sequence[Run], facts: Sequence[Facts]) -> list[Part]:
        metrics = dict.fromkeys((value.metric, value.label) for one in facts for value in one.values)
        rows = tuple((label, *(_last_and_best(one, metric) for one in facts)) for metric, label in metrics)
        names = [one.name for one in facts]
        heads = tuple(one.run if names.count(one.name) > 1 else one.name for one in facts)
        parts = [shown(Table(("metric", *heads), rows, "Nothing was logged."), "Last and best values")]
        ours = [run for run in runs if not run.is_attached]
        if len(ours) < _PAIR:
            return [*parts, said("The configuration of fewer than two of them is known.")]
        return [*parts, shown(diff_table(self._lab, ours).table(), "Configuration that differs")]


def _last_and_best(facts: Facts, metric: str) -> str:
    found = next((one for one in facts.values if one.metric == metric), None)
    if found is None:
        return "–"
    at = best(found)
    return f"{number(found.last)} (best {at})" if at else number(found.last)
