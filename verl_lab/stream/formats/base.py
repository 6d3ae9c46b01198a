"""What every format gives back."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from verl_lab.store import BadLine

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


LogFormat = Callable[[Iterable[tuple[int, bytes]]], Parsed]
"""Takes complete lines with their offsets. Raises ``FormatError`` only for a whole file it cannot read."""
