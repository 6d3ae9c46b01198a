"""Blocks: the records of up to 1,024 steps as one column a metric."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import and_, delete, insert, select

from verl_lab.store import packing, tables

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import NDArray
    from sqlalchemy import ColumnElement, Connection

    from verl_lab.store.shapes import Shapes

_QUERY_SIZE = 500


@dataclass(frozen=True)
class Part:
    """The rows of one generation of one attempt."""

    run: int
    attempt: int
    generation: int

    def where(self, table: Any) -> ColumnElement[bool]:
        """Select the rows of ``table`` that belong here."""
        c = table.c
        return and_(c.run == self.run, c.attempt == self.attempt, c.generation == self.generation)

    def columns(self) -> dict[str, int]:
        """Return the key columns these rows begin with."""
        return {"run": self.run, "attempt": self.attempt, "generation": self.generation}


class PackedRow(NamedTuple):
    """One metric record, its values as bytes in the order of its shape."""

    offset: int
    seq: int
    step: int
    time: float | None
    shape: int
    values: bytes


@dataclass(frozen=True)
class Block:
    """Records as columns.

    Attributes
    ----------
    steps, seqs, times
        One for each record; the time is NaN where there is none.
    columns
        By the key of a metric's name: the records that hold it, increasing, and its values there.
    """

    steps: NDArray[np.int64]
    seqs: NDArray[np.int64]
    times: NDArray[np.float64]
    columns: dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]]

    @classmethod
    def of(cls, connection: Connection, rows: Sequence[PackedRow], shapes: Shapes) -> Block:
        """Turn packed rows into columns."""
        of_shape: dict[int, list[int]] = defaultdict(list)
        for index, row in enumerate(rows):
            of_shape[row.shape].append(index)
        keys = shapes.metrics(connection, of_shape)
        pieces: dict[int, list[tuple[NDArray[np.intp], NDArray[np.float64]]]] = defaultdict(list)
        for shape, indices in of_shape.items():
            packed = b"".join([rows[index].values for index in indices])
            matrix = packing.unpack_floats(packed).reshape(len(indices), len(keys[shape]))
            where = np.array(indices, np.intp)
            for place, key in enumerate(keys[shape]):
                pieces[key].append((where, matrix[:, place]))
        return cls(
            steps=np.array([row.step for row in rows], np.int64),
            seqs=np.array([row.seq for row in rows], np.int64),
            times=np.array([np.nan if row.time is None else row.time for row in rows], np.float64),
            columns={key: _merged(found) for key, found in pieces.items()},
        )

    def followed_by(self, other: Block) -> Block:
        """Return the records of both."""
        columns: dict[int, list[tuple[NDArray[np.intp], NDArray[np.float64]]]] = defaultdict(list)
        for block, shift in ((self, 0), (other, len(self.steps))):
            for key, (where, values) in block.columns.items():
                columns[key].append((where + shift, values))
        return Block(
            steps=np.concatenate([self.steps, other.steps]),
            seqs=np.concatenate([self.seqs, other.seqs]),
            times=np.concatenate([self.times, other.times]),
            columns={key: _merged(found) for key, found in columns.items()},
        )


def load(connection: Connection, part: Part, number: int) -> Block:
    """Read a block back."""
    b, c = tables.blocks.c, tables.chunks.c
    found = connection.execute(select(tables.blocks).where(part.where(tables.blocks), b.block == number)).one()
    columns: dict[int, tuple[NDArray[np.intp], NDArray[np.float64]]] = {}
    keys = packing.unpack_keys(found.metrics)
    for start in range(0, len(keys), _QUERY_SIZE):
        some = c.metric.in_(keys[start : start + _QUERY_SIZE])
        query = select(c.metric, c.present, c["values"]).where(part.where(tables.chunks), c.block == number, some)
        for metric, present, values in connection.execute(query):
            columns[metric] = (packing.unpack_rows(present, found.rows), packing.unpack_floats(values))
    return Block(
        steps=packing.unpack_ints([found.steps], [found.rows]),
        seqs=packing.unpack_ints([found.seqs], [found.rows]),
        times=packing.unpack_times(found.times, found.rows),
        columns=columns,
    )


def remove(connection: Connection, part: Part, number: int, metrics: Sequence[int]) -> None:
    """Delete a block that holds these metrics."""
    c = tables.chunks.c
    for start in range(0, len(metrics), _QUERY_SIZE):
        some = c.metric.in_(metrics[start : start + _QUERY_SIZE])
        connection.execute(delete(tables.chunks).where(part.where(tables.chunks), c.block == number, some))
    connection.execute(delete(tables.blocks).where(part.where(tables.blocks), tables.blocks.c.block == number))


def store(connection: Connection, part: Part, number: int, block: Block) -> None:
    """Write a block."""
    rows = len(block.steps)
    connection.execute(
        insert(tables.blocks),
        {
            **part.columns(),
            "block": number,
            "rows": rows,
            "metrics": packing.pack_keys(block.columns),
            "first_step": int(block.steps.min()),
            "last_step": int(block.steps.max()),
            "steps": packing.pack_ints(block.steps),
            "seqs": packing.pack_ints(block.seqs),
            "times": packing.pack_times(block.times),
        },
    )
    shared = {**part.columns(), "block": number}
    chunks = [
        {
            **shared,
            "metric": metric,
            "present": packing.pack_rows(where, rows),
            "values": values.astype("<f8").tobytes(),
        }
        for metric, (where, values) in block.columns.items()
    ]
    if chunks:
        connection.execute(insert(tables.chunks), chunks)


def _merged(
    pieces: list[tuple[NDArray[np.intp], NDArray[np.float64]]],
) -> tuple[NDArray[np.intp], NDArray[np.float64]]:
    if len(pieces) == 1:
        return pieces[0]
    where = np.concatenate([where for where, _ in pieces])
    values = np.concatenate([values for _, values in pieces])
    if (where[1:] > where[:-1]).all():
        return where, values
    order = np.argsort(where)
    return where[order], values[order]
