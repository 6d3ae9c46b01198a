"""The run folder's own files."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import orjson

from verl_lab.domain import wire
from verl_lab.errors import FormatError
from verl_lab.store import IN_WORK
from verl_lab.stream.formats.base import LogFormat, Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

_MARK = b'{"verl_lab":'
_LATEST_S = 1e11  # what lies beyond is no time, and would not fit


def parse_metrics(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read lines of ``metrics.jsonl``.

    Raises
    ------
    FormatError
        If the header says that the file is of a newer format.
    """
    found = Parsed()
    for offset, line in lines:
        if _is_header(offset, line, found):
            continue
        try:
            found.records.append((offset, wire.decode_metrics(line)))
        except FormatError as error:
            found.refuse(offset, line, error.message)
    return found


def parse_events(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read lines of ``events.jsonl``; raises as ``parse_metrics``."""
    found = Parsed()
    for offset, line in lines:
        if _is_header(offset, line, found):
            continue
        try:
            event = wire.decode_event(line)
            orjson.dumps(event.data)  # JSON may be read deeper than it can be written
        except FormatError as error:
            found.refuse(offset, line, error.message)
            continue
        except orjson.JSONEncodeError:
            found.refuse(offset, line, "The event's data is nested too deep.")
            continue
        found.events.append((offset, event))
        origin = event.data.get("resumed_from") if event.kind == "train_begin" else None
        if type(origin) is int and 0 <= origin < 2**62:
            found.resumed_from = origin
    return found


def parse_system(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read lines of ``system.jsonl`` as the index keeps them: by time; raises as ``parse_metrics``.

    There are many samples a step, so a record's place is its time in milliseconds, and the step in work is one of
    its values.
    """
    found = parse_metrics(lines)
    timed, found.records = found.records, []
    for offset, record in timed:
        if record.time is None or not 0 < record.time < _LATEST_S:
            found.refuse(offset, b"", "The sample says no time.")
            continue
        data = {name: value for name, value in record.data.items() if name.startswith(wire.SYSTEM)}
        data[IN_WORK] = float(record.step)
        found.records.append((offset, replace(record, step=round(1000 * record.time), data=data)))
    return found


METRICS = LogFormat(lambda: parse_metrics)
SYSTEM = LogFormat(lambda: parse_system)
EVENTS = LogFormat(lambda: parse_events)


def _is_header(offset: int, line: bytes, found: Parsed) -> bool:
    """Pass over the header line, checked; one that is garbled is set aside."""
    if not line.startswith(_MARK):
        return False
    try:
        wire.decode_header(line)
    except FormatError as error:
        if error.hint == "Upgrade verl-lab.":
            raise
        found.refuse(offset, line, error.message)
    return True
