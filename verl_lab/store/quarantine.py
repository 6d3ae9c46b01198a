"""What could not be taken in, with the reason; nothing is dropped silently."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from sqlalchemy import func, select

from verl_lab.store import tables

if TYPE_CHECKING:
    from verl_lab.store.engine import Database
    from verl_lab.store.runs import Runs


@dataclass(frozen=True)
class Quarantined:
    """One line, or one value of a line.

    Attributes
    ----------
    file, offset
        Where the line begins, in bytes, in which file of the attempt.
    metric
        The value's name; None for a whole line.
    text
        The beginning of the line; None for a value.
    """

    attempt: int
    file: str
    offset: int
    metric: str | None
    reason: str
    text: bytes | None


class Quarantine:
    """Lines and values set aside, of all runs."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def count(self, run_id: str) -> int:
        """Return how many lines and values of a run were set aside."""
        table = tables.quarantine
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            return connection.scalar(select(func.count()).select_from(table).where(table.c.run == run)) or 0

    def read(self, run_id: str, limit: int | None = 1000) -> list[Quarantined]:
        """Return what was set aside, in the order of the files; the first ``limit`` of it."""
        c = tables.quarantine.c
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            order = (c.attempt, c.generation, c.file, c.offset, c.part)
            rows = connection.execute(select(tables.quarantine).where(c.run == run).order_by(*order).limit(limit)).all()
        return [
            Quarantined(
                attempt=row.attempt,
                file=row.file,
                offset=row.offset,
                metric=None if row.metric is None else bytes(row.metric).decode("utf-8", "surrogatepass"),
                reason=bytes(row.reason).decode("utf-8", "surrogatepass"),
                text=None if row.text is None else bytes(row.text),
            )
            for row in rows
        ]
