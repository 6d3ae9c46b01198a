"""verl's console log: ``step:N - key:value - …`` among everything else training prints.

verl prints one such line a step (verl/utils/logger/aggregate_logger.py, concat_dict_to_str), values as
Python writes them (``0.5``, ``np.float64(0.5)``, ``nan``). Ray puts ``(TaskRunner pid=…)`` and colours in
front, and may put ``[repeated 2x across cluster]`` behind.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from verl_lab.domain.wire import MetricRecord
from verl_lab.stream.formats.base import Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# A progress bar without newlines may stand before it.
_STEP = re.compile(r"(?:^|[\s\r])step:(\d{1,18}) - (?=\S)")
_REPEATED = re.compile(r"\s*\[repeated \d+x across cluster\].*$", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|inf)"
_VALUE = re.compile(rf"({_NUMBER})|(?:np\.)?\w+\(({_NUMBER})\)|(?:np\.)?(True|False)_?")
_PREFIX = re.compile(r"^(?:\x1b\[[0-9;]*m)*\((?:TaskRunner|main_task|WorkerDict)\w*(?: pid=\d+)", re.MULTILINE)


def parse(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read the step lines of a console log and ignore everything else."""
    found = Parsed()
    for offset, line in lines:
        record = decode(offset, line)
        if record is not None:
            found.records.append((offset, record))
    return found


def decode(offset: int, line: bytes) -> MetricRecord | None:
    """Return the record of a step line; None for any other line."""
    if b"step:" not in line:
        return None
    text = _ANSI.sub("", line.decode("utf-8", "replace"))
    start = _STEP.search(text)
    if start is None:
        return None
    numbers: dict[str, float] = {}
    rejected: dict[str, str] = {}
    for part in _REPEATED.sub("", text[start.end() :]).rstrip().split(" - "):
        name, colon, value = part.rpartition(":")
        number = _number(value) if colon and name else None
        if number is not None:
            numbers[name] = number
        else:
            rejected[name or part] = f"{value[:100]!r} is no number"
    return MetricRecord(offset, int(start[1]), None, numbers, rejected) if numbers else None


def looks_like_verl(text: str) -> bool:
    """Say whether a console log without a step yet is one of verl's, from Ray's prefixes."""
    return _PREFIX.search(text) is not None


def _number(value: str) -> float | None:
    found = _VALUE.fullmatch(value)
    if found is None:
        return None
    plain, wrapped, truth = found.groups()
    return float(plain or wrapped) if truth is None else float(truth == "True")
