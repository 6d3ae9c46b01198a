"""The rows of a file, one after the other: never more than a batch in memory, and nothing is ever unpickled."""

from __future__ import annotations

import csv
import io
import itertools
import json
import os
from typing import TYPE_CHECKING, Any, cast

import orjson

from verl_lab.datasets.fingerprint import opened
from verl_lab.datasets.kinds import BOM, LONGEST_LINE, delimiter_of
from verl_lab.errors import EnvironmentMismatchError, FormatError

if TYPE_CHECKING:
    from collections.abc import Generator, Iterator
    from pathlib import Path

    from verl_lab.domain.dataset import Kind

    Row = dict[str, Any]

_BATCH = 256
_LARGEST_JSON = 2**30
_HEAD = 64 * 1024


def read_rows(path: Path, kind: Kind) -> Iterator[Row]:
    """Give every row of a file.

    Raises
    ------
    FormatError
        Something in it is no row; the message says where.
    EnvironmentMismatchError
        It takes pyarrow to read it, which is not installed.
    """
    readers = {"jsonl": _json_lines, "json": _json_list, "csv": _table, "parquet": _arrow_rows, "arrow": _arrow_rows}
    reader = readers.get(kind)
    if reader is None:
        raise FormatError(f"{path} holds no rows that can be read here.", "JSONL, JSON, CSV, Parquet and Arrow can.")
    return reader(path, kind)


def count_rows(path: Path, kind: Kind) -> int:
    """Return how many rows a file has, without reading more than that takes. Errors as ``read_rows``."""
    if kind == "parquet":
        return int(_parquet(path).metadata.num_rows)
    if kind == "arrow":
        return sum(batch.num_rows for batch in _record_batches(path))
    if kind == "jsonl":
        return sum(1 for line in _lines(path) if line.strip())
    return sum(1 for _ in read_rows(path, kind))


def arrow_schema(path: Path, kind: Kind) -> dict[str, str]:
    """Return the columns of a Parquet or Arrow file with their types. Errors as ``read_rows``."""
    schema = _parquet(path).schema_arrow if kind == "parquet" else next(_record_batches(path, only_schema=True))
    return {str(field.name): str(field.type) for field in schema}


def _json_lines(path: Path, kind: Kind) -> Generator[Row]:
    del kind
    for number, line in enumerate(_lines(path), start=1):
        if not line.strip():
            continue
        row = _parsed(line, f"{path}, line {number}")
        if not isinstance(row, dict):
            raise FormatError(f"{path}, line {number}: it is no object, so no row.")
        yield cast("Row", row)


def _json_list(path: Path, kind: Kind) -> Generator[Row]:
    del kind
    with opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as file:
        if os.fstat(descriptor).st_size > _LARGEST_JSON:
            raise FormatError(f"{path} is one JSON text of over 1 GiB.", "Write one row a line (JSONL).")
        found = _parsed(file.read(_LARGEST_JSON).removeprefix(BOM), str(path))
    rows = cast("list[object]", found) if isinstance(found, list) else [None]
    for number, row in enumerate(rows):
        if not isinstance(row, dict):
            raise FormatError(f"{path}: what stands at place {number} of the list is no object, so no row.")
        yield cast("Row", row)


def _table(path: Path, kind: Kind) -> Generator[Row]:
    del kind
    with opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb") as raw:
        head = os.pread(descriptor, _HEAD, 0)
        delimiter = delimiter_of(head, is_whole=len(head) == os.fstat(descriptor).st_size) or ","
        file = io.TextIOWrapper(raw, encoding="utf-8-sig", newline="")
        reader = csv.DictReader(file, delimiter=delimiter)
        try:
            for row in reader:
                if None in row or None in row.values():
                    raise FormatError(f"{path}, line {reader.line_num}: it has not as many fields as the first line.")
                yield cast("Row", row)
        except (csv.Error, UnicodeDecodeError) as error:
            raise FormatError(f"{path}, line {reader.line_num}: {error}.") from error


def _arrow_rows(path: Path, kind: Kind) -> Generator[Row]:
    batches = _parquet(path).iter_batches(_BATCH) if kind == "parquet" else _record_batches(path)
    while True:
        with_message = f"{path} cannot be read to its end"
        try:
            batch = next(batches, None)
        except _arrow_errors() as error:
            raise FormatError(f"{with_message}: {str(error).splitlines()[0]}.") from error
        if batch is None:
            return
        for begin in range(0, batch.num_rows, _BATCH):
            yield from batch.slice(begin, _BATCH).to_pylist()


def _lines(path: Path) -> Generator[bytes]:
    with opened(path) as descriptor, os.fdopen(os.dup(descriptor), "rb", buffering=2**20) as file:
        for number in itertools.count(1):
            line = file.readline(LONGEST_LINE)
            if not line:
                return
            if len(line) == LONGEST_LINE:
                raise FormatError(f"{path}, line {number}: it is longer than {LONGEST_LINE // 2**20} MiB.")
            yield line.removeprefix(BOM) if number == 1 else line


def _parsed(text: bytes, where: str) -> object:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as strict:
        try:
            return json.loads(text)  # takes NaN, which Python's own json writes
        except (ValueError, RecursionError):
            raise FormatError(f"{where}: it is no JSON: {strict}.") from strict


def _parquet(path: Path) -> Any:
    import_arrow(path)
    import pyarrow.parquet as pq

    try:
        return cast("Any", pq).ParquetFile(str(path), memory_map=False)
    except _arrow_errors() as error:
        raise FormatError(f"{path} is no whole Parquet file: {str(error).splitlines()[0]}.") from error


def _record_batches(path: Path, *, only_schema: bool = False) -> Generator[Any]:
    """Give the batches of an Arrow file or stream; Hugging Face writes streams."""
    pa = import_arrow(path)
    try:
        # Not mapped: a mapped file that is cut short while it is read kills the process.
        with pa.OSFile(str(path), "rb") as file:
            is_file = file.read(6) == b"ARROW1"
            file.seek(0)
            reader = pa.ipc.open_file(file) if is_file else pa.ipc.open_stream(file)
            if only_schema:
                yield reader.schema
            elif is_file:
                for number in range(reader.num_record_batches):
                    yield reader.get_batch(number)
            else:
                yield from reader
    except _arrow_errors() as error:
        raise FormatError(f"{path} is no whole Arrow file: {str(error).splitlines()[0]}.") from error


def import_arrow(path: Path) -> Any:
    """Return pyarrow, which is not needed for the other kinds of files."""
    try:
        import pyarrow as pa
        import pyarrow.ipc  # pyright: ignore[reportUnusedImport]  loads what pa.ipc is
    except ImportError:
        hint = "pip install pyarrow brings it."
        raise EnvironmentMismatchError(f"{path}: it takes pyarrow to read it, which is not installed.", hint) from None
    return pa


def _arrow_errors() -> tuple[type[Exception], ...]:
    import pyarrow as pa

    return (cast("type[Exception]", pa.ArrowException), OSError)
