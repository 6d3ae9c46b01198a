"""What the reader hands over at once: the content of a stretch of one file, and where it ended."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.domain.wire import EventRecord, MetricRecord


@dataclass(frozen=True)
class FilePosition:
    """How far a file has been read, and what the part read looks like.

    Attributes
    ----------
    offset
        Bytes read from the file's beginning.
    generation
        Counts how often the file was replaced by another of the same name. Only the rows of the
        newest generation count; older ones are kept.
    fingerprint
        Lets the reader tell whether the file is still the one it read; opaque here.
    """

    offset: int
    generation: int
    fingerprint: bytes


@dataclass(frozen=True)
class BadLine:
    """A line that is no record, with the reason; ``text`` is its beginning."""

    offset: int
    reason: str
    text: bytes


@dataclass(frozen=True)
class Batch:
    """Everything between two positions of one file of one attempt.

    Attributes
    ----------
    file
        Name of the file within its attempt.
    start
        Where the database must stand for the batch to be taken; None if it has not seen the file.
    end
        Where the file has been read to.
    records, events
        Each with the byte offset of its line: within a file, that is its order and its identity.
    resumed_from
        The step the attempt went on from, if this stretch of the file says so.
    """

    run_id: str
    attempt: int
    file: str
    start: FilePosition | None
    end: FilePosition
    records: Sequence[tuple[int, MetricRecord]] = ()
    events: Sequence[tuple[int, EventRecord]] = ()
    bad: Sequence[BadLine] = ()
    resumed_from: int | None = None
