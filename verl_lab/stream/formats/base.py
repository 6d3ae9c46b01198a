"""What every format gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.store import BadLine
from verl_lab.stream.cursor import Split, read_lines

if TYPE_CHECKING:
    from verl_lab.domain.wire import EventRecord, MetricRecord


@dataclass
class Parsed:
    """What some lines of a file say; each part with the offset of its line."""

    records: list[tuple[int, MetricRecord]] = field(default_factory=list["tuple[int, MetricRecord]"])
    events: list[tuple[int, EventRecord]] = field(default_factory=list["tuple[int, EventRecord]"])
    bad: list[BadLine] = field(default_factory=list[BadLine])
    resumed_from: int | None = None

    def refuse(self, offset: int, line: bytes, reason: str) -> None:
        """Set a line aside."""
        self.bad.append(BadLine(offset, reason, line[:500]))


Parser = Callable[[Iterable[tuple[int, bytes]]], Parsed]
"""Takes complete lines with their offsets. Raises ``FormatError`` only for a whole file it cannot read."""


@dataclass(frozen=True)
class LogFormat:
    """How a file is taken apart.

    Attributes
    ----------
    new_parser
        Gives the parser of one file.
    split
        Finds the lines, or whatever else its records are.
    context_bytes
        How much of what lies before a place a parser must have seen to go on from there; 0 if what a
        line says depends on no other.
    """

    new_parser: Callable[[], Parser]
    split: Split = read_lines
    context_bytes: int = 0
