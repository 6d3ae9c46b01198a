"""Whether rows are fit to train on: missing and empty values, repeated rows, held-out rows that are trained on."""

from __future__ import annotations

from array import array
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.datasets.content import pick, rows_of
from verl_lab.datasets.digests import Digests, canonical, repeats, shared
from verl_lab.datasets.needs import NEEDS, NO_NEEDS, Fault, guess
from verl_lab.domain.recipe import Problem
from verl_lab.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.datasets.content import Part
    from verl_lab.datasets.needs import Needs
    from verl_lab.domain.recipe import Trainer

_SHOWN = 5
_LACKS = "lack this column"
_LONGEST_EXAMPLE = 120


@dataclass
class _Scan:
    """What was learnt about one split while its rows went by."""

    label: str
    rows: int = 0
    columns: tuple[str, ...] = ()
    faults: dict[Fault, list[int]] = field(default_factory=dict[Fault, "list[int]"])
    counts: dict[Fault, int] = field(default_factory=dict[Fault, int])
    content: Digests = field(default_factory=Digests)
    questions: Digests = field(default_factory=Digests)
    compared: array[int] = field(default_factory=lambda: array("q"))

    def note(self, fault: Fault) -> None:
        """Count a fault of the present row, and keep the first few rows that have it."""
        self.counts[fault] = self.counts.get(fault, 0) + 1
        seen = self.faults.setdefault(fault, [])
        if len(seen) < _SHOWN:
            seen.append(self.rows)


def check_splits(splits: Mapping[str, Sequence[Part]], trainer: Trainer | None = None) -> list[Problem]:
    """Read every row once and return all that is wrong, the errors first.

    Parameters
    ----------
    splits
        Files by the name of their split. The first is what is trained on; rows of the others that ask what
        it asks are a leak. Rows are numbered from 0 within their split.
    trainer
        What the rows are for; None guesses by their columns.
    """
    meant = trainer or _guess(splits)
    needs = NEEDS[meant] if meant else NO_NEEDS
    problems: list[Problem] = []
    scans: list[_Scan] = []
    for label, parts in splits.items():
        scan = _Scan(label)
        try:
            _scan(parts, needs, scan)
        except FormatError as error:
            problems.append(Problem(label, None, error.message, error.hint))
        else:
            if not scan.rows:
                problems.append(Problem(label, 0, "it has no rows."))
        problems += [_problem(scan, fault) for fault in scan.faults]
        problems += _repeated(scan)
        scans.append(scan)
    for other in scans[1:]:
        problems += _leaked(scans[0], other, splits[scans[0].label], needs)
    return sorted(problems, key=lambda problem: problem.severity != "error")


def _guess(splits: Mapping[str, Sequence[Part]]) -> Trainer | None:
    for parts in splits.values():
        try:
            for row in rows_of(parts):
                return guess(row)
        except FormatError:
            continue
    return None


def _scan(parts: Sequence[Part], needs: Needs, scan: _Scan) -> None:
    for row in rows_of(parts):
        missing = [name for name in needs.columns if name not in row]
        if not scan.rows:
            scan.columns = tuple(map(str, row))
        for name in missing:
            scan.note(Fault(name, _LACKS))
        if not missing and all(value is None or value in ("", [], {}) for value in row.values()):
            scan.note(Fault("row", "are empty in every column"))
        elif not missing:
            for fault in needs.faults(row):
                scan.note(fault)
            scan.content.add(needs.content(row))
            scan.questions.add(needs.question(row))
            scan.compared.append(scan.rows)
        scan.rows += 1


def _problem(scan: _Scan, fault: Fault) -> Problem:
    count = scan.counts[fault]
    of = "all" if count == scan.rows else f"{count:,} of {scan.rows:,}"
    there = f"There is {', '.join(scan.columns[:8]) or 'none'}." if fault.why == _LACKS else None
    message = f"{of} rows {fault.why} ({_numbers(scan.faults[fault], count)})."
    return Problem(f"{scan.label}: {fault.column}", count, message, there, fault.severity)


def _repeated(scan: _Scan) -> list[Problem]:
    again, first = repeats(scan.content)
    if not len(again):
        return []
    rows, of = (np.array(scan.compared, dtype=np.int64)[found].tolist() for found in (again, first))
    message = (
        f"{len(rows):,} of {scan.rows:,} rows repeat an earlier one "
        f"({_numbers(rows[:_SHOWN], len(rows))}; row {rows[0]} repeats row {of[0]})."
    )
    return [Problem(f"{scan.label}: row", len(rows), message, "Each counts again in training.", "warning")]


def _leaked(trained: _Scan, other: _Scan, parts: Sequence[Part], needs: Needs) -> list[Problem]:
    rows, same = shared(trained.questions, other.questions)
    if not len(rows):
        return []
    numbers: list[int] = np.array(other.compared, dtype=np.int64)[rows].tolist()
    source = trained.compared[int(same[0])]
    example = needs.question(pick(parts, [source])[source])
    said = canonical(example).decode(errors="replace")
    said = said if len(said) <= _LONGEST_EXAMPLE else f"{said[:_LONGEST_EXAMPLE]}…"
    message = (
        f"{len(numbers):,} of {other.rows:,} rows ask what {trained.label} asks too "
        f"({_numbers(numbers[:_SHOWN], len(numbers))}; row {numbers[0]} is row {source} there: {said})."
    )
    hint = "A score on them says nothing about what was learnt; take them out of one of the two."
    return [Problem(f"{other.label}: row", len(numbers), message, hint, "warning")]


def _numbers(rows: Sequence[int], count: int) -> str:
    more = ", …" if count > len(rows) else ""
    return f"row{'s' if count > 1 else ''} {', '.join(map(str, rows))}{more}"
