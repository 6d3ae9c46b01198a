"""The runs' own rows."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from sqlalchemy import bindparam, insert, select, update

from verl_lab.domain.run import RunState
from verl_lab.errors import NotFoundError
from verl_lab.store import tables
from verl_lab.store.rebuild import SHADOW

if TYPE_CHECKING:
    from sqlalchemy import Connection, Select

    from verl_lab.domain.run import Status
    from verl_lab.store.engine import Database
    from verl_lab.store.shapes import Shapes


class LastValues(Mapping[str, float]):
    """The last visible value of every metric, left packed: a list of runs holds thousands, of which few are shown.

    Parameters
    ----------
    places
        Where each metric's value is; shared by the runs that log the same metrics.
    """

    def __init__(self, places: Mapping[str, int], packed: bytes) -> None:
        self._places = places
        self._packed = packed

    def __getitem__(self, name: str) -> float:
        return _FLOAT.unpack_from(self._packed, 8 * self._places[name])[0]

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)

    def __repr__(self) -> str:
        return repr(dict(self))


_FLOAT = struct.Struct("<d")
_NOTHING = LastValues({}, b"")


class RunRow(NamedTuple):
    """What the index holds about one run.

    Attributes
    ----------
    id, name
        The run's id, and what a person calls it.
    folder
        The run's folder on ``host``; for an attached log, the log.
    kind
        ``run`` for a run folder of ours, ``attached`` for a log that something else writes.
    state, step, total, reason, attempt, started, updated, ended
        As in the newest status read; times are Unix times in seconds.
    created
        When the run was made or attached.
    last
        The last visible value of every metric.
    """

    id: str
    name: str
    folder: str
    host: str = "local"
    kind: str = "run"
    algorithm: str | None = None
    recipe: str | None = None
    state: str = RunState.CREATED.value
    step: int | None = None
    total: int | None = None
    reason: str | None = None
    attempt: int = 1
    created: float = 0.0
    started: float | None = None
    updated: float | None = None
    ended: float | None = None
    last: Mapping[str, float] = _NOTHING


_COLUMNS = RunRow._fields[:-1]
_KEY = select(tables.runs.c.key).where(tables.runs.c.id == bindparam("id"))
_LISTED = ~tables.runs.c.id.startswith(SHADOW)
_DESCRIPTION = ("name", "folder", "host", "kind", "algorithm", "recipe")


class Runs:
    """The list of runs."""

    def __init__(self, database: Database, shapes: Shapes) -> None:
        self._database = database
        self._shapes = shapes

    def get(self, run_id: str) -> RunRow | None:
        """Return a run; None if the index has none of that id."""
        found = self._select(_query().where(tables.runs.c.id == run_id))
        return found[0] if found else None

    def list(self, *, limit: int | None = None, offset: int = 0, kind: str | None = None) -> list[RunRow]:
        """Return the runs, newest first: ``limit`` of them after the first ``offset``."""
        c = tables.runs.c
        query = _query().where(_LISTED).order_by(c.created.desc(), c.id.desc()).limit(limit).offset(offset)
        return self._select(query if kind is None else query.where(c.kind == kind))

    def ids(self) -> list[str]:
        """Return the ids of all runs, newest first."""
        c = tables.runs.c
        with self._database.read() as connection:
            return list(connection.scalars(select(c.id).where(_LISTED).order_by(c.created.desc(), c.id.desc())))

    def upsert(self, row: RunRow) -> None:
        """Add a run, or correct what describes it: name, folder, host, kind, algorithm, recipe, total.

        Of a run that is there, state, steps and times are left alone: those follow its status file.
        """
        c = tables.runs.c
        given: dict[str, Any] = {name: getattr(row, name) for name in _COLUMNS}
        with self._database.write() as connection:
            if connection.scalar(select(c.key).where(c.id == row.id)) is None:
                connection.execute(insert(tables.runs).values(**given))
                return
            known = {name: given[name] for name in _DESCRIPTION if given[name] is not None}
            if row.total is not None:
                known["total"] = row.total
            connection.execute(update(tables.runs).where(c.id == row.id).values(**known))

    def set_status(self, status: Status) -> None:
        """Take over what a run's status file says, unless a later attempt is known already.

        Raises
        ------
        NotFoundError
            If the index has no such run.
        """
        c = tables.runs.c
        with self._database.write() as connection:
            row = connection.execute(select(c.attempt, c.step, c.total).where(c.id == status.run)).one_or_none()
            if row is None:
                raise NotFoundError.of("run", status.run, connection.scalars(select(c.id)))
            if row.attempt > status.attempt:
                return
            # The metrics file is ahead of the status file, which follows it once a second.
            same = row.attempt == status.attempt
            steps = [x for x in (status.step, row.step if same else None) if x is not None]
            connection.execute(
                update(tables.runs)
                .where(c.id == status.run)
                .values(
                    state=status.state.value,
                    step=max(steps, default=None),
                    total=status.total if status.total is not None else row.total,
                    reason=status.reason,
                    attempt=status.attempt,
                    started=status.started,
                    updated=status.updated,
                    ended=status.ended,
                )
            )

    def key(self, connection: Connection, run_id: str) -> int | None:
        """Return the number of a run inside the database; None if there is no such run.

        It is not remembered: a run that is indexed anew gets a new one.
        """
        return connection.scalar(_KEY, {"id": run_id})

    def _select(self, query: Select[Any]) -> list[RunRow]:
        with self._database.read() as connection:
            rows = cast("Sequence[Sequence[Any]]", connection.execute(query).all())
            names = self._shapes.names(connection, {row[-2] for row in rows} - {None})
        self._shapes.remember(names)
        places = {shape: _places(members) for shape, members in names.items()}
        return [_run_row(row, places) for row in rows]


def last_values(connection: Connection, run: int, shapes: Shapes) -> dict[str, float]:
    """Return the last values a run's row holds."""
    c = tables.runs.c
    shape, values = connection.execute(select(c.last_shape, c.last_values).where(c.key == run)).one()
    return {} if shape is None else dict(LastValues(_places(shapes.names(connection, [shape])[shape]), values))


def _query() -> Select[Any]:
    c = tables.runs.c
    return select(*(c[name] for name in _COLUMNS), c.last_shape, c.last_values)


def _places(names: tuple[str, ...]) -> dict[str, int]:
    return {name: place for place, name in enumerate(names)}


def _run_row(row: Sequence[Any], places: dict[int, dict[str, int]]) -> RunRow:
    shape = row[-2]
    return RunRow._make((*row[:-2], _NOTHING if shape is None else LastValues(places[shape], row[-1])))
