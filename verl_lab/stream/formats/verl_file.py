"""The log of verl's ``file`` logger: ``{"step": N, "data": {…}}`` a line (verl/utils/tracking.py, FileLogger).

It carries neither a time nor a sequence number; the offset of a line stands for the latter. NaN and
both infinities are ``null`` in it, and are read as NaN.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import orjson

from verl_lab.domain.wire import MetricRecord, numbers_of
from verl_lab.stream.formats.base import Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable


def parse(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read lines of the file logger's log."""
    found = Parsed()
    for offset, line in lines:
        record = decode(offset, line)
        if isinstance(record, MetricRecord):
            found.records.append((offset, record))
        elif line.strip():
            found.refuse(offset, line, record)
    return found


def decode(offset: int, line: bytes) -> MetricRecord | str:
    """Return the record of a line, or why it is none."""
    try:
        content: object = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        return f"The line is no JSON: {error}."
    if not isinstance(content, dict):
        return "The line is JSON, but no object."
    fields = cast("dict[str, object]", content)
    step, data = fields.get("step"), fields.get("data")
    if type(step) is not int or abs(step) >= 2**62 or not isinstance(data, dict):
        return "The line is no record of verl's file logger: expected 'step' and 'data'."
    numbers, rejected = numbers_of(cast("dict[str, object]", data))
    return MetricRecord(offset, step, None, numbers, rejected)
