"""Two reports compared: what differs in configuration, data, values and findings."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.errors import InvalidInputError
from verl_lab.lab.comparing.diff import between
from verl_lab.lab.comparing.origins import HASH_SHOWN
from verl_lab.lab.reports.facts import facts_of, read_facts
from verl_lab.lab.reports.parts import Section, said, shown
from verl_lab.lab.reports.words import best, identity
from verl_lab.lab.run import Run
from verl_lab.lab.table import Table
from verl_lab.recipes.overrides import literal
from verl_lab.widgets.told import clipped
from verl_lab.widgets.wording import number

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from verl_lab.lab.lab import Lab
    from verl_lab.lab.reports.facts import Facts, ValueFact
    from verl_lab.lab.reports.parts import Part
    from verl_lab.recipes.diff import Diff

_ABSENT = "–"
_VALUE_LONGEST = 120
_ROWS_MOST = 150
_REPORTS = (".ipynb", ".html")


@dataclass(frozen=True)
class ReportDiff:
    """What differs between two runs, as their reports tell it.

    Attributes
    ----------
    before, after
        What the two reports say.
    configuration
        None where it is not known of both.
    note
        What is to be known first; empty mostly.
    roles
        What the two are to each other; None where they have names only.
    """

    before: Facts
    after: Facts
    configuration: Diff | None
    note: str = ""
    roles: tuple[str, str] | None = None

    def section(self) -> Section:
        """Return it as a report shows it."""
        return Section((*([said(self.note)] if self.note else []), *self._parts()))

    def __repr__(self) -> str:
        return repr(self.section())

    def _ipython_display_(self) -> None:
        self.section().show()

    def values(self) -> Table:
        """Return the metrics of both, as they began and ended."""
        before = {one.metric: one for one in self.before.values}
        after = {one.metric: one for one in self.after.values}
        rows = tuple(
            (_label(before.get(name) or after[name]), *_cells(before.get(name)), *_cells(after.get(name)))
            for name in dict.fromkeys([*after, *before])
        )
        one, other = self._names()
        heads = ("metric", f"{one}: last", "best", f"{other}: last", "best")
        return Table(heads, rows, "Neither has logged a metric that is known here.")

    def data(self) -> Table:
        """Return the data sets that only one of them has."""
        unknown = [one.name for one in (self.before, self.after) if not one.data]
        if unknown:
            return Table((), (), f"The data are not known of {' and '.join(unknown)}.")
        return self._only(
            [(one.role, one.name, _hash(one.hash)) for one in self.before.data],
            [(one.role, one.name, _hash(one.hash)) for one in self.after.data],
            ("role", "data set", "content"),
            "Both trained and validated on the same data.",
        )

    def findings(self) -> Table:
        """Return the findings that only one of them has."""
        before = [(one.severity, one.title, one.metric) for one in self.before.findings]
        after = [(one.severity, one.title, one.metric) for one in self.after.findings]
        same = "Both have the same findings." if before else "Neither has a finding."
        return self._only(before, after, ("severity", "finding", "metric"), same)

    def settings(self) -> Table:
        """Return the settings that differ; names, seeds and places are counted only."""
        found = self.configuration
        if found is None:
            unknown = [one.name for one in (self.before, self.after) if one.configuration is None]
            return Table((), (), f"The configuration is not known of {' and '.join(unknown)}.")
        rows = tuple(_setting(found, key) for key in found.telling[:_ROWS_MOST])
        notes = [f"{len(found.telling) - _ROWS_MOST} more are not listed."] if len(found.telling) > _ROWS_MOST else []
        notes += [f"{len(keys)} more differ {what}." for what, keys in found.folds()]
        empty = " ".join(["No setting differs that matters.", *notes, *found.notes])
        return Table(("setting", *self._names()), rows, empty, " ".join([*notes, *found.notes]))

    def _parts(self) -> Iterator[Part]:
        yield said(f"{self._names()[0]}: {identity(self.before)}")
        yield said(f"{self._names()[1]}: {identity(self.after)}")
        yield shown(self.values(), "Last and best values")
        yield shown(self.settings(), "Configuration that differs")
        yield shown(self.data(), "Data that differ")
        yield shown(self.findings(), "Findings that differ")

    def _names(self) -> tuple[str, str]:
        if self.roles is not None:
            return self.roles
        if self.before.name != self.after.name:
            return self.before.name, self.after.name
        if self.before.run != self.after.run:
            return f"{self.before.name} ({self.before.run[-4:]})", f"{self.after.name} ({self.after.run[-4:]})"
        return f"{self.before.name}, first report", f"{self.after.name}, second report"

    def _only(
        self, before: list[tuple[str, ...]], after: list[tuple[str, ...]], heads: tuple[str, ...], same: str
    ) -> Table:
        one, other = self._names()
        rows = [
            *((one, *row) for row in before if row not in after),
            *((other, *row) for row in after if row not in before),
        ]
        return Table(("only", *heads), tuple(rows), same)


def diff_facts(before: Facts, after: Facts, note: str = "", roles: tuple[str, str] | None = None) -> ReportDiff:
    """Return what leads from one run to another."""
    one, other = before.side(), after.side()
    return ReportDiff(before, after, None if one is None or other is None else between(one, other), note, roles)


def diff_reports(lab: Lab, a: Run | str | os.PathLike[str], b: Run | str | os.PathLike[str]) -> ReportDiff:
    """Return what differs between two reports; see ``Lab.diff_reports``."""
    (before, one), (after, other) = _facts(lab, a), _facts(lab, b)
    notes = [
        f"{name} is on {count} runs: its first is compared." for name, count in ((a, one), (b, other)) if count > 1
    ]
    return diff_facts(before, after, " ".join(notes))


def _facts(lab: Lab, thing: Run | str | os.PathLike[str]) -> tuple[Facts, int]:
    """Return the facts of the first run of a report, and how many runs it is on."""
    if isinstance(thing, Run):
        return facts_of(lab, thing), 1
    path = Path(thing).expanduser()
    if not isinstance(thing, str) or "/" in thing or path.suffix in _REPORTS:
        found = read_facts(path)
        if not found:
            raise InvalidInputError(f"report: {thing} is on no run.", "Give another report, or a run.")
        return found[0], len(found)
    return facts_of(lab, lab.run(thing)), 1


def _label(value: ValueFact) -> str:
    return f"{value.label} ({value.unit})" if value.unit else value.label


def _cells(value: ValueFact | None) -> tuple[str, str]:
    return (_ABSENT, "") if value is None else (number(value.last), best(value))


def _hash(content: str | None) -> str:
    return "not recorded" if content is None else content[:HASH_SHOWN]


def _setting(found: Diff, key: str) -> tuple[str, str, str]:
    change = found.changed.get(key)
    if change is not None:
        before, after = literal(change.before), literal(change.after)
    else:
        before = literal(found.removed[key]) if key in found.removed else _ABSENT
        after = literal(found.added[key]) if key in found.added else _ABSENT
    return key, clipped(before, _VALUE_LONGEST), clipped(after, _VALUE_LONGEST)
