"""Checks of the data a recipe reads: that its files are there, and that their first rows are what is trained on."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.errors import nearest
from verl_lab.recipes.paths import is_elsewhere
from verl_lab.recipes.rows import Look, MissingReaderError, UnreadableError, look_into

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.recipes.shapes import Fault


@dataclass
class DataReport:
    """What was learnt about one set of files.

    Attributes
    ----------
    rows
        How many there are; None where that is not known.
    sample
        First rows, for further checks.
    """

    rows: int | None = None
    sample: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    problems: list[Problem] = field(default_factory=list[Problem])


def check_data(
    key: str,
    value: object,
    *,
    columns: Sequence[str],
    suffixes: Sequence[str],
    fault_of: Callable[[Mapping[str, Any]], Fault],
    also: Sequence[str] = (),
) -> DataReport:
    """Check that data files exist, can be read, have the columns that training needs, and rows of the right shape.

    Parameters
    ----------
    columns
        Names that every row needs.
    suffixes
        File types that the trainer reads.
    fault_of
        Finds what is wrong in a row.
    also
        Further columns to bring along in the sample, where they are.
    """
    report = DataReport()
    files = cast("list[object]", value) if isinstance(value, list) else [value]
    with_columns = f" with the columns {', '.join(columns)}" if columns else ""
    expected = f"Expected a file of type {' or '.join(sorted(suffixes))}{with_columns}."
    counts: list[int | None] = []
    for file in files:
        if not isinstance(file, str) or not file:
            report.problems.append(Problem(key, file, "no data file is given.", expected))
        elif is_elsewhere(file):
            counts.append(None)
        elif not Path(file).is_file():
            what = "is no file" if Path(file).exists() else "does not exist"
            report.problems.append(Problem(key, file, f"{file} {what}.", _beside(file) or expected))
        elif Path(file).suffix not in suffixes:
            report.problems.append(Problem(key, file, f"{file} is of a type that is not read here.", expected))
        elif (look := _look(key, file, [*columns, *also], report)) is not None:
            counts.append(look.rows)
            _judge(key, file, look, columns, fault_of, report)
        else:
            counts.append(None)
    if counts and not _errors(report) and all(count is not None for count in counts):
        report.rows = sum(count for count in counts if count is not None)
    return report


def _errors(report: DataReport) -> list[Problem]:
    return [problem for problem in report.problems if problem.severity == "error"]


def _beside(file: str) -> str | None:
    """Name the file in the same folder that was most likely meant."""
    try:
        names = [path.name for path in Path(file).parent.iterdir() if path.is_file()]
    except OSError:
        return None
    near = nearest(Path(file).name, names, count=1)
    return f"The nearest there: {near[0]}." if near else None


def _look(key: str, file: str, wanted: Sequence[str], report: DataReport) -> Look | None:
    try:
        return look_into(Path(file), wanted)
    except MissingReaderError as error:
        why = f"{file}: its rows were not checked: {error} is not installed here."
        report.problems.append(Problem(key, file, why, severity="warning"))
    except UnreadableError as error:
        report.problems.append(Problem(key, file, f"{file} {error}."))
    return None


def _judge(
    key: str,
    file: str,
    look: Look,
    columns: Sequence[str],
    fault_of: Callable[[Mapping[str, Any]], Fault],
    report: DataReport,
) -> None:
    if look.rows == 0:
        report.problems.append(Problem(key, file, f"{file} has no rows."))
        return
    missing = [column for column in columns if column not in look.columns] if look.columns else []
    if missing:
        near = nearest(missing[0], look.columns, count=1)
        found = f"It has {', '.join(sorted(look.columns)[:8])}."
        suggestion = f"The nearest: {near[0]}. {found}" if near else found
        report.problems.append(Problem(key, file, f"{file} lacks the column {', '.join(missing)}.", suggestion))
        return
    for number, row in enumerate(look.sample, start=1):
        if fault := fault_of(row):
            column, what = fault
            report.problems.append(Problem(key, file, f"{file}, row {number}: {column} {what}."))
            return
    report.sample += look.sample
