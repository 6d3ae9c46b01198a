"""Where the bytes of a version lie, and its rows from all its files."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from verl_lab.datasets.describe import kinds_of, split_of
from verl_lab.datasets.rows import read_rows

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable
    from pathlib import Path

    from verl_lab.datasets.folder import Found
    from verl_lab.domain.dataset import Kind

_LONGEST_TEXT = 200
_MOST_ITEMS = 20


@dataclass(frozen=True)
class Part:
    """One file with rows."""

    name: str
    path: Path
    kind: Kind
    split: str


def parts_of(found: Found) -> list[Part]:
    """Return the files of a path that hold rows."""
    kinds = kinds_of(found)
    return [
        Part(name, path, kinds[name], split_of(name) if found.is_folder else "")
        for name, path in found.files.items()
        if kinds[name] != "other"
    ]


def rows_of(parts: Iterable[Part]) -> Generator[dict[str, Any]]:
    """Give the rows of all files, one file after the other. Errors as ``read_rows``."""
    for part in parts:
        yield from read_rows(part.path, part.kind)


def pick(parts: Iterable[Part], wanted: Iterable[int]) -> dict[int, dict[str, Any]]:
    """Return some rows by their number, counted from 0 over all files."""
    numbers = set(wanted)
    first_rows = islice(rows_of(parts), max(numbers, default=-1) + 1)
    return {number: row for number, row in enumerate(first_rows) if number in numbers}


def preview(parts: Iterable[Part], count: int) -> list[dict[str, Any]]:
    """Return the first rows, with long texts and lists cut short."""
    return [_short(row) for row in islice(rows_of(parts), count)]


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value if len(value) <= _LONGEST_TEXT else f"{value[:_LONGEST_TEXT]} … ({len(value):,} characters)"
    if isinstance(value, bytes):
        return f"({len(value):,} bytes)"
    if isinstance(value, dict):
        named = cast("dict[Any, Any]", value).items()
        return {str(name)[:_LONGEST_TEXT]: _short(inside) for name, inside in islice(named, _MOST_ITEMS)}
    if isinstance(value, (list, tuple)):
        every = cast("list[Any]", value)
        items = [_short(item) for item in islice(every, _MOST_ITEMS)]
        left = len(every) - len(items)
        return [*items, f"… {left:,} more"] if left else items
    return value
