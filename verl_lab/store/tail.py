"""Adding metric records: first as packed rows, then folded into blocks."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import delete, func, insert, select

from verl_lab.store import blocks, packing, tables
from verl_lab.store.blocks import Block, PackedRow

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sqlalchemy import Connection

    from verl_lab.store.blocks import Part
    from verl_lab.store.shapes import Shapes

BLOCK_ROWS = 1024
# Folding rewrites the last block, so more seldom is cheaper to write; rows are dearer to read than blocks.
FOLD_ROWS = 128


def append(connection: Connection, part: Part, rows: Sequence[PackedRow], shapes: Shapes) -> None:
    """Add records behind those that are there."""
    table = tables.tail
    waiting = connection.scalar(select(func.count()).select_from(table).where(part.where(table))) or 0
    if waiting + len(rows) < FOLD_ROWS:
        _insert(connection, part, rows)
        return
    pending: list[PackedRow] = []
    if waiting:
        c = table.c
        columns = (c.offset, c.seq, c.step, c.time, c.shape, c["values"])
        stored = connection.execute(select(*columns).where(part.where(table)).order_by(c.offset))
        pending = [PackedRow(*row[:-1], bytes(row[-1])) for row in stored]
        connection.execute(delete(table).where(part.where(table)))
    pending.extend(rows)
    number, room = _fill_last(connection, part, pending, shapes)
    for start in range(room, len(pending), BLOCK_ROWS):
        some = pending[start : start + BLOCK_ROWS]
        if len(some) < FOLD_ROWS:
            _insert(connection, part, some)
        else:
            blocks.store(connection, part, number, Block.of(connection, some, shapes))
            number += 1


def _fill_last(connection: Connection, part: Part, pending: list[PackedRow], shapes: Shapes) -> tuple[int, int]:
    """Fill up the last block; return the number of the next one and how many rows were taken."""
    b = tables.blocks.c
    query = select(b.block, b.rows, b.metrics).where(part.where(tables.blocks)).order_by(b.block.desc()).limit(1)
    last = connection.execute(query).one_or_none()
    if last is None:
        return 0, 0
    room = BLOCK_ROWS - last.rows
    if room:
        more = Block.of(connection, pending[:room], shapes)
        block = blocks.load(connection, part, last.block).followed_by(more)
        blocks.remove(connection, part, last.block, packing.unpack_keys(last.metrics))
        blocks.store(connection, part, last.block, block)
    return last.block + 1, room


def _insert(connection: Connection, part: Part, rows: Sequence[PackedRow]) -> None:
    if rows:
        connection.execute(insert(tables.tail), [{**part.columns(), **row._asdict()} for row in rows])
