"""Checks of what a recipe reads: model folder, data files, reward function. Nothing is run or loaded."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.recipes.paths import is_elsewhere, is_path

if TYPE_CHECKING:
    from collections.abc import Collection

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_LARGEST_REWARD_BYTES = 1024 * 1024


@dataclass
class DataReport:
    """What was learnt about one set of files: its rows if known, and what is wrong with it."""

    rows: int | None = None
    problems: list[Problem] = field(default_factory=list[Problem])


def check_model(key: str, value: object) -> list[Problem]:
    """Check that the model is a folder in Hugging Face's layout, or could be an id on the hub."""
    example = "Set model to a folder with a config.json, or to the id of a model on the hub."
    if not isinstance(value, str) or not value:
        return [Problem(key, value, "no model is given.", example)]
    if is_elsewhere(value):
        return []
    if not is_path(value):
        return [] if _HUB_ID.fullmatch(value) else [Problem(key, value, f"{value!r} is no model.", example)]
    folder = Path(value)
    if not folder.exists():
        return [Problem(key, value, f"{value} does not exist.", example)]
    if not (folder / "config.json").is_file():
        return [Problem(key, value, f"{value} is no model folder: it has no config.json.", example)]
    return []


def check_data(key: str, value: object, columns: Collection[str], suffixes: Collection[str]) -> DataReport:
    """Check that data files exist, can be read, and have the columns that training needs.

    Parameters
    ----------
    columns
        Names that every row needs.
    suffixes
        File types that the trainer reads.
    """
    report = DataReport()
    files = cast("list[object]", value) if isinstance(value, list) else [value]
    expected = f"Expected a file of type {' or '.join(sorted(suffixes))} with the columns {', '.join(columns)}."
    counts: list[int | None] = []
    for file in files:
        if not isinstance(file, str) or not file:
            report.problems.append(Problem(key, file, "no data file is given.", expected))
        elif is_elsewhere(file):
            counts.append(None)
        elif not Path(file).is_file():
            what = "is no file" if Path(file).exists() else "does not exist"
            report.problems.append(Problem(key, file, f"{file} {what}.", expected))
        elif Path(file).suffix not in suffixes:
            report.problems.append(Problem(key, file, f"{file} is of a type that is not read here.", expected))
        elif Path(file).suffix == ".parquet":
            counts.append(_check_parquet(key, file, columns, report))
        else:
            counts.append(None)
    if counts and not report.problems and all(count is not None for count in counts):
        report.rows = sum(count for count in counts if count is not None)
    return report


def check_reward(key: str, path: str, name: str) -> list[Problem]:
    """Check that a reward file parses and binds the function; it is not imported."""
    if is_elsewhere(path):
        return []
    expected = f"Expected a Python file that defines {name}(data_source, solution_str, ground_truth, extra_info)."
    try:
        with Path(path).open("rb") as file:
            source = file.read(_LARGEST_REWARD_BYTES)
    except OSError as error:
        return [Problem(f"{key}.path", path, f"{path} cannot be read: {error.strerror}.", expected)]
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        at = f", line {line}" if line else ""
        return [Problem(f"{key}.path", path, f"{path}{at} is no Python: {error.args[0]}.", expected)]
    bound = _bound_names(tree)
    if name in bound:
        return []
    there = f"It has {', '.join(sorted(bound)[:5])}." if bound else expected
    return [Problem(f"{key}.name", name, f"{path} defines no {name!r}.", there)]


def _check_parquet(key: str, file: str, columns: Collection[str], report: DataReport) -> int | None:
    """Return the number of rows, None where it cannot be told here."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        why = "its columns were not checked: pyarrow is not installed here."
        report.problems.append(Problem(key, file, f"{file}: {why}", severity="warning"))
        return None
    try:
        metadata = cast("Any", pq).read_metadata(file)
        names: set[str] = set(metadata.schema.to_arrow_schema().names)
        rows = int(metadata.num_rows)
    except (cast("type[Exception]", pa.ArrowException), OSError) as error:
        reason = str(error).splitlines()[0]
        report.problems.append(Problem(key, file, f"{file} is no parquet file: {reason}."))
        return None
    missing = [column for column in columns if column not in names]
    if missing:
        found = f"It has {', '.join(sorted(names)[:8]) or 'none'}."
        report.problems.append(Problem(key, file, f"{file} lacks the column {', '.join(missing)}.", found))
    if rows == 0:
        report.problems.append(Problem(key, file, f"{file} has no rows."))
    return rows


def _bound_names(tree: ast.Module) -> set[str]:
    """Names that a module's top level binds to something callable, as far as the text shows."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Assign):
            found.update(target.id for target in node.targets if isinstance(target, ast.Name))
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
    return found
