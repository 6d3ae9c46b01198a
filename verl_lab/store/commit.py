"""Writing a batch: everything a stretch of a file holds and the file's new position, or nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import insert, select, update

from verl_lab.errors import NotFoundError
from verl_lab.store import attempts, packing, tables
from verl_lab.store.batch import FilePosition
from verl_lab.store.blocks import PackedRow, Part
from verl_lab.store.runs import last_values
from verl_lab.store.shapes import why_no_name
from verl_lab.store.tail import append

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sqlalchemy import Connection

    from verl_lab.domain.wire import MetricRecord
    from verl_lab.store.batch import Batch
    from verl_lab.store.engine import Database
    from verl_lab.store.metrics import Metrics
    from verl_lab.store.runs import Runs
    from verl_lab.store.shapes import Shapes

_EXCERPT_BYTES = 500


def commit(database: Database, runs: Runs, metrics: Metrics, shapes: Shapes, batch: Batch) -> bool:
    """Write a batch if the database stands at its start; say whether it did."""
    alike, refused = _storable(batch.records, shapes)
    records = [record for one in alike for record in one.records]
    with database.write() as connection:
        run = runs.key(connection, batch.run_id)
        if run is None:
            raise NotFoundError.of("run", batch.run_id, connection.scalars(select(tables.runs.c.id)))
        if not _move(connection, run, batch):
            return False
        part = Part(run, batch.attempt, batch.end.generation)
        made: dict[tuple[str, ...], int] = {}
        if records:
            made = shapes.keys(connection, {one.names for one in alike})
            append(connection, part, [row for one in alike for row in _packed(one, made[one.names])], shapes)
        _insert_events(connection, part, batch)
        _insert_quarantine(connection, part, batch, refused)
        first = records[0][1] if records else None
        moved = attempts.record(connection, part, first=first, resumed_from=batch.resumed_from)
        if records or moved:
            made |= _set_last(connection, run, batch, alike, shapes, metrics if moved else None)
    shapes.committed(made)
    return True


def _move(connection: Connection, run: int, batch: Batch) -> bool:
    table = tables.files
    mine = (table.c.run == run) & (table.c.attempt == batch.attempt) & (table.c.file == batch.file)
    row = connection.execute(select(table.c.offset, table.c.generation, table.c.fingerprint).where(mine)).one_or_none()
    stands = None if row is None else FilePosition(row.offset, row.generation, bytes(row.fingerprint))
    if stands != batch.start:
        return False
    values: dict[str, Any] = {
        "offset": batch.end.offset,
        "generation": batch.end.generation,
        "fingerprint": batch.end.fingerprint,
    }
    if row is None:
        connection.execute(insert(table).values(run=run, attempt=batch.attempt, file=batch.file, **values))
    else:
        connection.execute(update(table).where(mine).values(**values))
    return True


class _Alike(NamedTuple):
    """Records that follow each other and hold the same metrics, each with the offset of its line."""

    names: tuple[str, ...]
    records: list[tuple[int, MetricRecord]]


def _storable(
    records: Iterable[tuple[int, MetricRecord]], shapes: Shapes
) -> tuple[list[_Alike], dict[int, dict[str, str]]]:
    """Take values out whose names cannot be stored; return the rest, and by line what was rejected, here or before."""
    alike: list[_Alike] = []
    refused: dict[int, dict[str, str]] = {}
    for offset, given in records:
        record, names = given, tuple(given.data)
        if record.rejected:
            refused[offset] = dict(record.rejected)
        if not alike or alike[-1].names != names:
            bad = {} if shapes.known(names) is not None else _without_name(names)
            if bad:
                refused.setdefault(offset, {}).update(bad)
                record = replace(record, data={name: x for name, x in record.data.items() if name not in bad})
                names = tuple(record.data)
            alike.append(_Alike(names, []))
        alike[-1].records.append((offset, record))
    return alike, refused


def _without_name(names: Iterable[str]) -> dict[str, str]:
    return {name: why for name in names if (why := why_no_name(name)) is not None}


def _packed(alike: _Alike, shape: int) -> Iterator[PackedRow]:
    for offset, record in alike.records:
        values = packing.pack_floats(record.data.values())
        yield PackedRow(offset, record.seq, record.step, record.time, shape, values)


def _insert_events(connection: Connection, part: Part, batch: Batch) -> None:
    if not batch.events:
        return
    rows = [
        {
            **part.columns(),
            "file": batch.file,
            "offset": offset,
            "seq": event.seq,
            "time": event.time,
            "kind": event.kind,
            "step": event.step,
            "source": event.source,
            "data": orjson.dumps(event.data),
        }
        for offset, event in batch.events
    ]
    connection.execute(insert(tables.events), rows)


def _insert_quarantine(connection: Connection, part: Part, batch: Batch, refused: dict[int, dict[str, str]]) -> None:
    rows: list[dict[str, Any]] = [
        {
            "offset": bad.offset,
            "part": 0,
            "metric": None,
            "reason": _bytes(bad.reason),
            "text": bad.text[:_EXCERPT_BYTES],
        }
        for bad in batch.bad
    ]
    rows.extend(
        {
            "offset": offset,
            "part": 1 + index,
            "metric": _bytes(name[:_EXCERPT_BYTES]),
            "reason": _bytes(why),
            "text": None,
        }
        for offset, values in refused.items()
        for index, (name, why) in enumerate(values.items())
    )
    if rows:
        connection.execute(insert(tables.quarantine), [{**part.columns(), "file": batch.file, **row} for row in rows])


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _set_last(
    connection: Connection,
    run: int,
    batch: Batch,
    alike: list[_Alike],
    shapes: Shapes,
    recount: Metrics | None,
) -> dict[tuple[str, ...], int]:
    """Bring a run's last values and step up to date; ``recount`` them all where a mask has moved."""
    c = tables.runs.c
    row = connection.execute(select(c.attempt).where(c.key == run)).one()
    last = last_values(connection, run, shapes)
    for one in alike:
        last.update(one.records[-1][1].data)
    if recount is not None:
        visible = {name: recount.last(connection, batch.run_id, name) for name in last}
        last = {name: value for name, value in visible.items() if value is not None}
    names = tuple(last)
    made = shapes.keys(connection, [names])
    values: dict[str, Any] = {"last_shape": made[names], "last_values": packing.pack_floats(last.values())}
    if alike and batch.attempt >= row.attempt:
        values.update(step=alike[-1].records[-1][1].step, attempt=batch.attempt)
    connection.execute(update(tables.runs).where(c.key == run).values(**values))
    return made
