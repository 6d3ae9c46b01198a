"""Indexing a run anew beside its old rows, which serve until the new ones are complete.

The new rows belong to a run of their own, a *shadow*, so that they are written by the ordinary
commits. Names and shapes are shared and never change, so nothing that any process remembers goes stale.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, insert, select, update

from verl_lab.errors import NotFoundError
from verl_lab.store import tables
from verl_lab.store.batch import FilePosition

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sqlalchemy import Connection

    from verl_lab.store.engine import Database

    Positions = Mapping[tuple[int, str], FilePosition]

SHADOW = "~"  # no run id begins so
_BESIDE = "~~"

_DESCRIPTION = ("name", "folder", "host", "kind", "algorithm", "recipe", "state", "total", "attempt", "created")
_OF_A_RUN = [table for table in tables.metadata.sorted_tables if "run" in table.c]


def begin(database: Database, run_id: str) -> str:
    """Make an empty shadow of a run and return its id; what an earlier, broken-off one left is removed."""
    c = tables.runs.c
    with database.write() as connection:
        row = connection.execute(select(*(c[name] for name in _DESCRIPTION)).where(c.id == run_id)).one_or_none()
        if row is None:
            raise NotFoundError.of("run", run_id, connection.scalars(select(c.id)))
        _remove_with_samples(connection, SHADOW + run_id)
        connection.execute(insert(tables.runs).values(id=SHADOW + run_id, **dict(zip(_DESCRIPTION, row, strict=True))))
    return SHADOW + run_id


def finish(database: Database, run_id: str, gone: Positions) -> Positions:
    """Put the shadow in the place of its run, at once for every reader; see ``Store.finish_rebuild``."""
    c = tables.runs.c
    with database.write() as connection:
        shadow = connection.scalar(select(c.key).where(c.id == SHADOW + run_id))
        if shadow is None:
            raise NotFoundError.of("shadow of the run", run_id, ())
        read = _all_positions(connection, SHADOW + run_id)
        stored = _all_positions(connection, run_id)
        # Who reads the run has stored what the shadow lacks, and will not look for it again.
        ahead = {
            file: position
            for file, position in stored.items()
            if position != gone.get(file) and (file not in read or read[file].offset < position.offset)
        }
        if not ahead:
            _remove_with_samples(connection, run_id)
            for id_, new in ((SHADOW + run_id, run_id), (beside(SHADOW + run_id), beside(run_id))):
                connection.execute(update(tables.runs).where(c.id == id_).values(id=new))
    return ahead


def positions(connection: Connection, key: int | None) -> dict[tuple[int, str], FilePosition]:
    """Return how far each file of a run has been read, by attempt and name."""
    rows = connection.execute(select(tables.files).where(tables.files.c.run == key)).all()
    return {(r.attempt, r.file): FilePosition(r.offset, r.generation, bytes(r.fingerprint)) for r in rows}


def drop(database: Database, run_id: str) -> None:
    """Remove the shadow of a run."""
    with database.write() as connection:
        _remove_with_samples(connection, SHADOW + run_id)


def beside(run_id: str) -> str:
    """Return the id under which the samples of a run's host are kept, or of a shadow's; see ``system``."""
    return _BESIDE + run_id


def _all_positions(connection: Connection, run_id: str) -> dict[tuple[int, str], FilePosition]:
    """Return how far the files of a run and of its host's samples were read: their names differ."""
    c = tables.runs.c
    keys = connection.scalars(select(c.key).where(c.id.in_((run_id, beside(run_id)))))
    return {file: position for key in keys for file, position in positions(connection, key).items()}


def _remove_with_samples(connection: Connection, run_id: str) -> None:
    _remove(connection, run_id)
    _remove(connection, beside(run_id))


def _remove(connection: Connection, run_id: str) -> None:
    key = connection.scalar(select(tables.runs.c.key).where(tables.runs.c.id == run_id))
    if key is not None:
        for table in _OF_A_RUN:
            connection.execute(delete(table).where(table.c.run == key))
        connection.execute(delete(tables.runs).where(tables.runs.c.key == key))
