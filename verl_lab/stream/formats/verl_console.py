"""verl's console log: ``step:N - key:value - …`` among everything else training prints.

verl prints one such line a step (verl/utils/logger/aggregate_logger.py, concat_dict_to_str), values as
Python writes them (``0.5``, ``np.float64(0.5)``, ``nan``). Ray puts ``(TaskRunner pid=…)`` and colours in
front, and may put ``[repeated 2x across cluster]`` behind; torchrun, srun and mpirun put the rank in front.
A terminal's recording wraps the line: what follows a step line and goes on with ``key:value`` belongs to it.
"""

from __future__ import annotations

import re
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from verl_lab.domain.wire import MetricRecord
from verl_lab.stream.formats.base import Parsed

if TYPE_CHECKING:
    from collections.abc import Iterable

CONTEXT_BYTES = 2**16

_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]")
# A progress bar without newlines may stand before it.
_STEP = re.compile(r"(?:^|[\s\r])step:(\d{1,18}) -(?: (?=\S)|$)")
_REPEATED = re.compile(r"\s*\[repeated \d+x across cluster\].*$", re.DOTALL)
_NUMBER = r"[+-]?(?:\d+\.?\d*(?:[eE][+-]?\d+)?|\.\d+(?:[eE][+-]?\d+)?|nan|inf)"
_VALUE = re.compile(rf"({_NUMBER})|(?:np\.)?\w+\(({_NUMBER})\)|(?:np\.)?(True|False)_?")
_RAY = re.compile(r"^(?:\x1b\[[0-9;]*m)*\((?:TaskRunner|main_task|WorkerDict)\w*(?: pid=\d+)", re.MULTILINE)
# Who wrote a line: Ray's processes, torchrun's "[rank0]:" and "[default0]:", mpirun's "[1,0]<stdout>:", srun's "0: ".
_PREFIX = re.compile(
    r"\((?:\S+ )?pid=(?P<pid>\d{1,12})[^)]*\) ?"
    r"|(?:\[(?:rank|default) ?(?P<rank>\d{1,9})\]:|\[\d+,(?P<mpi>\d{1,9})\](?:<std\w+>)?:) ?|(?P<task>\d{1,9}): "
)
_PROCESSES = 2**40  # sources from here on are process ids, below are ranks


class Line(NamedTuple):
    """A line without colours and without what names its writer.

    ``source`` is the rank or process that wrote it: a number to sort by, -1 where it is not said.
    """

    source: int
    text: str
    width: int
    is_prefixed: bool


@dataclass
class _Open:
    """A step line, or what went on with it, that the next line may go on with."""

    step: int
    part: str
    width: int


@dataclass(frozen=True)
class _Logged:
    """A step that a source has logged."""

    source: int
    step: int
    names: frozenset[str]


class ConsoleParser:
    """Reads the step lines of one console log and ignores everything else.

    Where several ranks log the same step, the lowest one counts, and the others add what it does not log.
    """

    def __init__(self) -> None:
        self._open: dict[int, _Open] = {}
        self._newest: int | None = None  # the source of the line before, if that one may go on
        self._width = 0
        self._logged: deque[_Logged] = deque(maxlen=64)

    def __call__(self, lines: Iterable[tuple[int, bytes]]) -> Parsed:
        """Read complete lines."""
        found = Parsed()
        for offset, content in lines:
            if self._open or b"step:" in content:
                record = self._read(offset, content)
                if record is not None:
                    found.records.append((offset, record))
        return found

    def _read(self, offset: int, content: bytes) -> MetricRecord | None:
        line = split_prefix(content)
        # A line that was wrapped goes on in the very next one, or in the next one of the same writer.
        source = line.source if line.is_prefixed or self._newest is None else self._newest
        open_ = self._open.pop(source, None)
        before, self._newest = self._newest, None
        if open_ is not None and (line.is_prefixed or source == before):
            parts = self._continued(open_, line)
            if parts is not None:
                return self._take(offset, source, open_.step, parts, line.width)
        start = _STEP.search(line.text)
        if start is None:
            return None
        rest = _REPEATED.sub("", line.text[start.end() :])
        return self._take(offset, line.source, int(start[1]), rest.split(" - "), line.width)

    def _continued(self, open_: _Open, line: Line) -> list[str] | None:
        """Return the parts of a line that goes on with another one, the broken one mended; None if it does not."""
        name, number = _pair(open_.part)
        is_cut_in_name = number is None and ":" not in open_.part
        if _STEP.match(line.text) and (not is_cut_in_name or " " in open_.part):
            return None
        lost_blank = open_.width == self._width - 1
        parts = _joined(open_.part, _REPEATED.sub("", line.text), lost_blank=lost_blank).split(" - ")
        if any(_pair(part)[1] is None for part in parts[:-1]):
            return None
        mended = _pair(parts[0])[0]
        if mended != name and not (is_cut_in_name and mended.startswith(open_.part)):
            return None
        is_wrapped = self._is_full(open_.width) or open_.width - 1 <= line.width <= open_.width
        # A few characters alone may be anything, unless the line before ended where this log's lines are wrapped.
        if len(parts) == 1 and number is not None and not is_wrapped:
            return None
        # So may the last part, where it is no pair: one that is wrapped again holds a blank in the name at most.
        if _pair(parts[-1])[1] is None and " " in parts[-1].rstrip().removesuffix(" -") and not is_wrapped:
            return None
        self._width = max(self._width, open_.width)
        return parts

    def _take(self, offset: int, source: int, step: int, parts: list[str], width: int) -> MetricRecord | None:
        numbers: dict[str, float] = {}
        rejected: dict[str, str] = {}
        for index, part in enumerate(parts):
            name, number = _pair(part)
            if number is not None:
                numbers[name] = number
            elif index < len(parts) - 1 or not self._is_full(width):
                rejected[name or part] = f"{part.rpartition(':')[2][:100]!r} is no number"
        self._open[source] = _Open(step, parts[-1], width)
        self._newest = source
        for name in self._told_by_lower(source, step):
            numbers.pop(name, None)
        self._logged.append(_Logged(source, step, frozenset(numbers)))
        return MetricRecord(offset, step, None, numbers, rejected) if numbers else None

    def _is_full(self, width: int) -> bool:
        """Say whether a line is as long as this log's lines can be; a blank at its end may have been cut off."""
        return self._width > 0 and self._width - 1 <= width <= self._width

    def _told_by_lower(self, source: int, step: int) -> set[str]:
        """Return what lower sources have logged of a step just now.

        Of processes, only what they logged last, and not before this one went through other steps: after
        a resume it goes through steps again that another process has logged.
        """
        names: set[str] = set()
        newest: dict[int, int] = {}
        for one in reversed(self._logged):
            if one.source == source >= _PROCESSES and one.step != step:
                break
            is_newest = newest.setdefault(one.source, one.step) == step
            if one.source < source and one.step == step and (is_newest or source < _PROCESSES):
                names |= one.names
        return names


def parse(lines: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read the step lines of a console log from its beginning."""
    return ConsoleParser()(lines)


def decode(offset: int, line: bytes) -> MetricRecord | None:
    """Return the record of a step line; None for any other line."""
    records = parse([(offset, line)]).records if b"step:" in line else []
    return records[0][1] if records else None


def looks_like_verl(text: str) -> bool:
    """Say whether a console log without a step yet is one of verl's, from Ray's prefixes."""
    return _RAY.search(text) is not None


def split_prefix(content: bytes) -> Line:
    """Take colours and the writer's name off a line."""
    whole = _ANSI.sub("", content.decode("utf-8", "replace")).rstrip("\r")
    prefix = _PREFIX.match(whole)
    if prefix is None:
        return Line(-1, whole, len(whole), is_prefixed=False)
    rank = prefix["rank"] or prefix["mpi"] or prefix["task"]
    source = _PROCESSES + int(prefix["pid"]) if rank is None else int(rank)
    return Line(source, whole[prefix.end() :], len(whole), is_prefixed=True)


def _joined(left: str, right: str, *, lost_blank: bool) -> str:
    """Put a wrapped line together; where it was wrapped at a blank, that may be gone."""
    if left.endswith(" -"):
        lost_blank = not right.startswith(" ")
    blank = " " if lost_blank or (right.startswith("- ") and not left.endswith(" ")) else ""
    return left + blank + right


def _pair(part: str) -> tuple[str, float | None]:
    name, colon, value = part.rstrip().removesuffix(" -").rpartition(":")
    found = _VALUE.fullmatch(value) if colon and name else None
    if found is None:
        return name, None
    plain, wrapped, truth = found.groups()
    return name, float(plain or wrapped) if truth is None else float(truth == "True")
