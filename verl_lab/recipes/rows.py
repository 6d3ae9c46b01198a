"""A first look into data files: how many rows, which columns, and the first rows themselves."""

from __future__ import annotations

import itertools
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

SAMPLE_ROWS = 32
_LARGEST_JSON_BYTES = 32 * 1024 * 1024
_LARGEST_LINE_BYTES = 4 * 1024 * 1024


class UnreadableError(Exception):
    """A file is not what its suffix says."""


class MissingReaderError(Exception):
    """What reads this type of file is not installed here."""


@dataclass(frozen=True)
class Look:
    """What the beginning of a file shows.

    Attributes
    ----------
    rows
        How many there are; None where counting them would take long.
    columns
        Their names; of JSON, those of the rows that were looked at.
    sample
        The first rows.
    """

    rows: int | None
    columns: frozenset[str]
    sample: tuple[dict[str, Any], ...] = field(default=(), repr=False)


def look_into(file: Path, wanted: Sequence[str]) -> Look:
    """Look into a Parquet, JSON Lines or JSON file.

    Parameters
    ----------
    wanted
        Columns to read; of Parquet no other is.

    Raises
    ------
    UnreadableError
        With the reason, and the line where there is one.
    MissingReaderError
        If pyarrow is needed and not installed.
    """
    if file.suffix == ".parquet":
        return _parquet(file, wanted)
    return _json(file)


def _parquet(file: Path, wanted: Sequence[str]) -> Look:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as error:
        raise MissingReaderError("pyarrow") from error
    try:
        with cast("Any", pq).ParquetFile(file) as opened:
            names = frozenset(str(name) for name in opened.schema_arrow.names)
            chosen = [name for name in wanted if name in names]
            batches = opened.iter_batches(batch_size=SAMPLE_ROWS, columns=chosen)
            first = next(batches, None) if chosen else None
            sample: list[dict[str, Any]] = [] if first is None else first.to_pylist()
            return Look(int(opened.metadata.num_rows), names, tuple(sample))
    except (cast("type[Exception]", pa.ArrowException), OSError) as error:
        raise UnreadableError(f"is no parquet file: {str(error).splitlines()[0]}") from error


def _json(file: Path) -> Look:
    """Read JSON as Hugging Face's ``datasets`` does: one object a line, or one list of objects."""
    try:
        with file.open("rb") as stream:
            start = stream.read(1)
            while start.isspace():
                start = stream.read(1)
            stream.seek(0)
            if start == b"[":
                return _list(stream.read(_LARGEST_JSON_BYTES + 1))
            sample = [_row(number, line) for number, line in _lines(stream, SAMPLE_ROWS)]
            is_small = file.stat().st_size <= _LARGEST_JSON_BYTES
            rows = len(sample) + sum(1 for _ in _lines(stream, None)) if is_small else None
    except OSError as error:
        raise UnreadableError(f"cannot be read: {error.strerror}") from error
    return Look(rows, frozenset(itertools.chain.from_iterable(sample)), tuple(sample))


def _lines(stream: Any, count: int | None) -> list[tuple[int, bytes]]:
    found: list[tuple[int, bytes]] = []
    number = 0
    while (count is None or len(found) < count) and (line := stream.readline(_LARGEST_LINE_BYTES)):
        number += 1
        if line.strip():
            found.append((number, line))
    return found


def _row(number: int, line: bytes) -> dict[str, Any]:
    try:
        found = json.loads(line)
    except ValueError as error:
        raise UnreadableError(f"line {number} is no JSON: {error}") from error
    if not isinstance(found, dict):
        raise UnreadableError(f"line {number} is no object with columns")
    return cast("dict[str, Any]", found)


def _list(data: bytes) -> Look:
    if len(data) > _LARGEST_JSON_BYTES:
        return Look(None, frozenset())
    try:
        found = json.loads(data)
    except ValueError as error:
        raise UnreadableError(f"is no JSON: {error}") from error
    rows = cast("list[dict[str, Any]]", found)
    if not all(isinstance(row, dict) for row in cast("list[Any]", rows)):
        raise UnreadableError("holds something other than objects with columns")
    sample = rows[:SAMPLE_ROWS]
    return Look(len(rows), frozenset(itertools.chain.from_iterable(sample)), tuple(sample))
