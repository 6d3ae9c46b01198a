"""Reading metrics."""

from __future__ import annotations

from dataclasses import replace
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from sqlalchemy import bindparam, select

from verl_lab.store import attempts, packing, pieces, tables
from verl_lab.store.frame import Frame, of_metrics
from verl_lab.store.memo import Memo
from verl_lab.store.pieces import Piece, Series

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray
    from sqlalchemy import Connection

    from verl_lab.store.attempts import Attempt
    from verl_lab.store.engine import Database
    from verl_lab.store.runs import Runs
    from verl_lab.store.shapes import Shapes

_FIRST, _LAST = -(2**63), 2**63 - 1

# Statements are built once: building one takes as long as running it. Blocks and chunks are joined here, because
# SQLite takes longer to look each block up than to read them all.
_b, _c, _t = tables.blocks.c, tables.chunks.c, tables.tail.c
_r, _f = tables.runs.c, tables.files.c
# A run's number, and how far each of its files has been read: any commit moves that.
_STAND = (
    select(_r.key, _f.attempt, _f.file, _f.generation, _f.offset)
    .join_from(tables.runs, tables.files, _f.run == _r.key, isouter=True)
    .where(_r.id == bindparam("id"))
    .order_by(_f.attempt, _f.file)
)
_BLOCKS = (
    select(_b.attempt, _b.generation, _b.block, _b.rows, _b.steps, _b.seqs)
    .where(_b.run == bindparam("run"), _b.last_step >= bindparam("first"), _b.first_step <= bindparam("last"))
    .order_by(_b.attempt, _b.generation, _b.block)
)
_BLOCKS_AND_TIMES = _BLOCKS.add_columns(_b.times)
_CHUNKS = (
    select(_c.attempt, _c.generation, _c.block, _c.present, _c["values"])
    .where(_c.run == bindparam("run"), _c.metric == bindparam("metric"))
    .where(_c.block.between(bindparam("lowest"), bindparam("highest")))
    .order_by(_c.attempt, _c.generation, _c.block)
)
_ROWS = (
    select(_t.attempt, _t.generation, _t.shape, _t.step, _t.seq, _t.time, _t["values"])
    .where(_t.run == bindparam("run"))
    .order_by(_t.attempt, _t.generation, _t.offset)
)
# How far a run has come: its newest block, and its newest row that is in none yet.
_LAST_BLOCK = (
    select(_b.attempt, _b.generation, _b.block, _b.rows)
    .where(_b.run == bindparam("run"))
    .order_by(_b.attempt.desc(), _b.generation.desc(), _b.block.desc())
    .limit(1)
)
_LAST_ROW = (
    select(_t.attempt, _t.generation, _t.offset)
    .where(_t.run == bindparam("run"))
    .order_by(_t.attempt.desc(), _t.generation.desc(), _t.offset.desc())
    .limit(1)
)
_NEW_ROWS = _ROWS.where(
    _t.attempt == bindparam("attempt"), _t.generation == bindparam("generation"), _t.offset > bindparam("offset")
)


class _Mark(NamedTuple):
    """How far a run had come when a series was read: only rows after ``place`` are new while the rest is the same."""

    visible: tuple[Attempt, ...]
    block: tuple[int, ...]
    place: tuple[int, ...]


class Metrics:
    """The metrics of all runs. Resumed and replaced attempts are already put in order."""

    def __init__(self, database: Database, runs: Runs, shapes: Shapes) -> None:
        self._database = database
        self._runs = runs
        self._shapes = shapes
        self._memo = Memo()
        self._marks: dict[str, tuple[Any, _Mark]] = {}

    def names(self, run_id: str) -> list[str]:
        """Return the names of all metrics of a run, sorted; empty if there are none, or no such run."""
        row = self._runs.get(run_id)
        return [] if row is None else sorted(row.last)

    def read(
        self, run_id: str, name: str, start_step: int | None = None, end_step: int | None = None
    ) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """Return the steps and values of one metric, both ends of the range included.

        Returns
        -------
        steps : int64 array, shape (n,)
            Strictly increasing. Where a step was logged more than once, the last one counts.
        values : float64 array, shape (n,)

        Both are read-only, because later readings may share them, and empty for a metric or run that
        does not exist.
        """
        found = self._recall(run_id, name, start_step, end_step, with_times=False)
        return found.steps, found.values

    def series(self, run_id: str, name: str, start_step: int | None = None, end_step: int | None = None) -> Series:
        """Return one metric with the time and the attempt of each point; empty where there is none."""
        return self._recall(run_id, name, start_step, end_step, with_times=True)

    def whole(self, run_id: str) -> tuple[dict[str, Series], Series]:
        """Return every metric of a run, and the longest once more with times and attempts, as of one moment.

        It is for whoever goes through all of it once, and does not drive out of memory what is read again and again.
        """
        names = self.names(run_id)
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            found = {name: self._read(connection, run, name, _FIRST, _LAST) for name in names}
            longest = max(names, key=lambda name: len(found[name].steps), default="")
            return found, self._read(connection, run, longest, _FIRST, _LAST, with_times=True)

    def of_attempt(self, run_id: str, name: str, attempt: int) -> Series:
        """Return one metric of one attempt, with the steps that a later attempt masks."""
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            return self._read(connection, run, name, _FIRST, _LAST, with_times=True, only=attempt)

    def frame(
        self,
        run_id: str,
        names: Sequence[str],
        start_step: int | None = None,
        end_step: int | None = None,
        points: int | None = None,
    ) -> Frame:
        """Return metrics side by side, one row a step; see ``frame.of_metrics``."""
        read = {name: self._recall(run_id, name, start_step, end_step, with_times=False) for name in names}
        return of_metrics(read, points)

    def last(self, connection: Connection, run_id: str, name: str) -> float | None:
        """Return a metric's value at its last visible step, as a write transaction sees it; None if it has none."""
        run = self._runs.key(connection, run_id)
        # What this transaction made does not exist yet: nothing of it may be remembered.
        values = self._read(connection, run, name, _FIRST, _LAST, remember=False).values
        return float(values[-1]) if len(values) else None

    def times(self, run_id: str, last: int | None = None) -> NDArray[np.float64]:
        """Return when the records of the newest attempt that has any were written, oldest first.

        Parameters
        ----------
        last
            Only so many of the newest; None for all.

        Returns
        -------
        float64 array, shape (n,)
            Unix time in seconds. Records without a time are left out.
        """
        with self._database.read() as connection:
            run = self._runs.key(connection, run_id)
            for attempt in reversed([] if run is None else attempts.visible(connection, run)):
                found = _times(connection, run, attempt, last)
                if len(found):
                    return found
        return np.empty(0)

    def _recall(
        self, run_id: str, name: str, start_step: int | None, end_step: int | None, *, with_times: bool
    ) -> Series:
        """Return a series, from memory where the index has not moved since."""
        first = _FIRST if start_step is None else min(max(start_step, _FIRST), _LAST)
        last = _LAST if end_step is None else min(max(end_step, _FIRST), _LAST)
        key = (run_id, name, with_times)
        with self._database.read() as connection:
            rows = connection.execute(_STAND, {"id": run_id}).all()
            stand = tuple(map(tuple, rows))
            found = self._memo.get(key, stand)
            if found is None:
                run = rows[0][0] if rows else None
                mark = None if run is None else self._mark(connection, run_id, run, stand)
                found = None if mark is None else self._grown(connection, run, name, key, stand, mark)
                is_whole = found is not None or (first, last) == (_FIRST, _LAST)
                if found is None:
                    found = self._read(connection, run, name, first, last, with_times=with_times)
                if not is_whole:
                    return found
                self._memo.put(key, stand, found, mark)
        return found.between(first, last)

    def _mark(self, connection: Connection, run_id: str, run: int, stand: Any) -> _Mark:
        """Return how far a run has come; asked once a stand, since every metric wants to know."""
        kept = self._marks.get(run_id)
        if kept is not None and kept[0] == stand:
            return kept[1]
        block, row = (connection.execute(query, {"run": run}).first() for query in (_LAST_BLOCK, _LAST_ROW))
        mark = _Mark(tuple(attempts.visible(connection, run)), tuple(block or ()), tuple(row or ()))
        self._marks[run_id] = (stand, mark)
        return mark

    def _grown(
        self, connection: Connection, run: int | None, name: str, key: tuple[str, str, bool], stand: Any, mark: _Mark
    ) -> Series | None:
        """Return the series that was read last with what was logged since; None where more than that has changed."""
        kept = self._memo.older(key)
        if kept is None or kept[2] is None or not mark.visible:
            return None
        old_stand, series, old = kept
        newest = mark.visible[-1]
        if (old.visible, old.block) != (mark.visible, mark.block) or _besides(old_stand, newest) != _besides(
            stand, newest
        ):
            return None
        part = (newest.number, newest.generation)
        since = old.place[2] if old.place[:2] == part else _FIRST
        wanted = {"run": run, "attempt": part[0], "generation": part[1], "offset": since}
        piece = self._of_rows(connection, newest.number, connection.execute(_NEW_ROWS, wanted).all(), name)
        return series if piece is None else pieces.extended(series, piece, with_times=key[2])

    def _of_rows(self, connection: Connection, attempt: int, rows: Sequence[Any], name: str) -> Piece | None:
        names = self._shapes.names(connection, {row[2] for row in rows})
        self._shapes.remember(names)
        places = {shape: members.index(name) for shape, members in names.items() if name in members}
        return pieces.of_rows(attempt, rows, places)

    def _read(
        self,
        connection: Connection,
        run: int | None,
        name: str,
        first: int,
        last: int,
        *,
        with_times: bool = False,
        remember: bool = True,
        only: int | None = None,
    ) -> Series:
        metric = self._shapes.name_keys(connection, [name])
        if remember:
            self._shapes.remember_names(metric)
        if run is None or not metric:
            return Series.empty()
        shown = {attempt.number: attempt for attempt in attempts.visible(connection, run)}
        if only is not None:
            shown = {only: replace(shown[only], last_step=None)} if only in shown else {}
        query = _BLOCKS_AND_TIMES if with_times else _BLOCKS
        blocks = connection.execute(query, {"run": run, "first": first, "last": last}).all()
        chunks: Sequence[Any] = ()
        if blocks:
            numbers = [row[2] for row in blocks]
            wanted = {"run": run, "metric": metric[name], "lowest": min(numbers), "highest": max(numbers)}
            chunks = connection.execute(_CHUNKS, wanted).all()
        found = [pieces.of_blocks(number, rows) for number, rows in _by_attempt(_joined(chunks, blocks), shown)]
        tail = connection.execute(_ROWS, {"run": run}).all()
        names = self._shapes.names(connection, {row[2] for row in tail})
        if remember:
            self._shapes.remember(names)
        places = {shape: members.index(name) for shape, members in names.items() if name in members}
        for number, rows in _by_attempt(tail, shown):
            piece = pieces.of_rows(number, rows, places)
            if piece is not None:
                found.append(piece)
        found.sort(key=lambda piece: piece.attempt)  # stable: an attempt's blocks stay before its rows
        return pieces.join(found, shown, first, last, with_times=with_times)


def _joined(chunks: Sequence[Any], blocks: Sequence[Any]) -> list[Any]:
    """Put each chunk beside its block; those of blocks outside the range fall away."""
    of = {(attempt, generation, block): rest for attempt, generation, block, *rest in blocks}
    found: list[Any] = []
    for attempt, generation, block, *rest in chunks:
        beside = of.get((attempt, generation, block))
        if beside is not None:
            found.append((attempt, generation, *rest, *beside))
    return found


def _by_attempt(rows: Sequence[Any], shown: dict[int, Attempt]) -> Iterator[tuple[int, list[Any]]]:
    """Group ordered rows by attempt, leaving out generations that no longer count."""
    for (number, generation), group in groupby(rows, itemgetter(0, 1)):
        attempt = shown.get(number)
        if attempt is not None and attempt.generation == generation:
            yield number, list(group)


def _times(connection: Connection, run: int | None, attempt: Attempt, last: int | None) -> NDArray[np.float64]:
    mine = (_t.run == run, _t.attempt == attempt.number, _t.generation == attempt.generation)
    newest = connection.scalars(select(_t.time).where(*mine).order_by(_t.offset.desc()).limit(last))
    parts = [np.array([time for time in newest if time is not None], np.float64)[::-1]]
    mine = (_b.run == run, _b.attempt == attempt.number, _b.generation == attempt.generation)
    query = select(_b.times, _b.rows).where(*mine).order_by(_b.block.desc())
    for times, rows in connection.execute(query):
        if last is not None and sum(map(len, parts)) >= last:
            break
        block = packing.unpack_times(times, rows)
        parts.append(block[~np.isnan(block)])
    found = np.concatenate(parts[::-1])
    return found if last is None else found[-last:]


def _besides(stand: Any, newest: Attempt) -> list[Any]:
    """Return the run's number, and what a stand says of all attempts but the newest."""
    return [stand[0][0], *(row for row in stand if row[1] != newest.number)]
