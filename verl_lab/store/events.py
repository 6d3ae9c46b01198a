"""Reading events."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import orjson
from sqlalchemy import and_, select

from verl_lab.domain.wire import EventRecord
from verl_lab.store import tables

if TYPE_CHECKING:
    from verl_lab.store.engine import Database
    from verl_lab.store.runs import Runs

_LARGEST = 2**63 - 1


@dataclass(frozen=True)
class RunEvent(EventRecord):
    """An event, with the attempt it happened in."""

    attempt: int = 1


class Events:
    """What happened to the runs besides steps. Nothing is masked: it did happen."""

    def __init__(self, database: Database, runs: Runs) -> None:
        self._database = database
        self._runs = runs

    def read(
        self, run_id: str, kind: str | None = None, *, start_step: int | None = None, end_step: int | None = None
    ) -> list[RunEvent]:
        """Return a run's events in the order they were written.

        Parameters
        ----------
        kind
            Only those of one kind.
        start_step, end_step
            Only those of these steps, both included; an event without a step then falls away.
        """
        c, f = tables.events.c, tables.files.c
        same_file = and_(c.run == f.run, c.attempt == f.attempt, c.file == f.file, c.generation == f.generation)
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            if run is None:
                return []
            query = select(tables.events).join_from(tables.events, tables.files, same_file).where(c.run == run)
            if kind is not None:
                query = query.where(c.kind == kind)
            if start_step is not None:
                query = query.where(c.step >= min(max(start_step, -_LARGEST), _LARGEST))
            if end_step is not None:
                query = query.where(c.step <= min(max(end_step, -_LARGEST), _LARGEST))
            rows = connection.execute(query.order_by(c.attempt, c.file, c.offset)).all()
        return [
            RunEvent(r.seq, r.time, r.kind, r.step, r.source, orjson.loads(bytes(r.data)), attempt=r.attempt)
            for r in rows
        ]
