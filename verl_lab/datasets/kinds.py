"""What a file's content is, whatever its name says."""

from __future__ import annotations

import csv
import io
import os
from typing import TYPE_CHECKING

import orjson

from verl_lab.datasets.fingerprint import opened

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.domain.dataset import Kind

LONGEST_LINE = 64 * 2**20
"""Longer lines, in bytes, are no rows that are read here."""

BOM = b"\xef\xbb\xbf"
_HEAD = 64 * 1024
_DELIMITERS = ",\t;"


def kind_of(path: Path) -> Kind:
    """Look at the beginning of a file, and at the end of what may be Parquet.

    Raises
    ------
    TransportError
        It cannot be read.
    """
    with opened(path) as descriptor:
        size = os.fstat(descriptor).st_size
        head = os.pread(descriptor, _HEAD, 0)
        if head[:4] == b"PAR1":
            return "parquet" if size > 8 and os.pread(descriptor, 4, size - 4) == b"PAR1" else "other"  # noqa: PLR2004  two marks
        if head[:6] == b"ARROW1" or head[:4] == b"\xff\xff\xff\xff":
            return "arrow"
        text = head.removeprefix(BOM).lstrip()
        if text[:1] == b"[":
            return "json"
        if text[:1] == b"{":
            begin = len(head) - len(text)
            line = text.partition(b"\n")[0] if b"\n" in text else os.pread(descriptor, LONGEST_LINE, begin)
            return "jsonl" if _is_object(line.partition(b"\n")[0]) else "other"
        return "csv" if delimiter_of(head, is_whole=len(head) == size) else "other"


def delimiter_of(head: bytes, *, is_whole: bool) -> str | None:
    """Return what separates the columns of a table in text; None if it is none.

    A table has at least two columns with different names, and every line as many fields as the first.
    """
    if b"\0" in head:
        return None
    try:
        text = head.removeprefix(BOM).decode("utf-8", "strict" if is_whole else "ignore")
    except UnicodeDecodeError:
        return None
    for delimiter in _DELIMITERS:
        try:
            rows = [
                row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=is_whole) if row
            ]
        except csv.Error:
            continue
        if not is_whole:
            rows = rows[:-1]
        names = [name.strip() for name in rows[0]] if rows else []
        is_table = len(names) > 1 and len(set(names)) == len(names) and all(names) and len(rows) > 1
        if is_table and all(len(row) == len(names) for row in rows):
            return delimiter
    return None


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(orjson.loads(line), dict)
    except orjson.JSONDecodeError:
        # Python's own json writes NaN, which is not JSON.
        return b"NaN" in line or b"Infinity" in line
