"""What is read twice comes from memory, and never says anything else than the database would."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import event

from verl_lab.domain.wire import EventRecord, MetricRecord
from verl_lab.store import Batch, FilePosition, Store
from verl_lab.store.memo import Memo
from verl_lab.store.pieces import Series

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


def at(offset: int, generation: int = 0) -> FilePosition:
    return FilePosition(offset, generation, b"")


def put(store: Store, start: FilePosition | None, end: FilePosition, steps: range, value: float, attempt: int = 1):
    records = [
        (end.offset - len(steps) + n, MetricRecord(step, step, None, {"a": value})) for n, step in enumerate(steps)
    ]
    assert store.commit(Batch("run-1", attempt, "m", start, end, records=records))


def read(store: Store) -> list[tuple[int, float]]:
    steps, values = store.metrics.read("run-1", "a")
    return list(zip(steps.tolist(), values.tolist(), strict=True))


def test_a_series_read_again_is_the_same_array(store: Store):
    put(store, None, at(5), range(5), 1.0)
    first, again = store.metrics.read("run-1", "a"), store.metrics.read("run-1", "a")
    assert np.shares_memory(first[1], again[1])
    assert np.shares_memory(first[1], store.metrics.read("run-1", "a", 2, 3)[1])
    assert store.metrics.read("run-1", "a", 2, 3)[0].tolist() == [2, 3]


def test_what_is_shared_cannot_be_written_to(store: Store):
    put(store, None, at(5), range(5), 1.0)
    for found in store.metrics.read("run-1", "a"):
        with pytest.raises(ValueError, match="read-only"):
            found[0] = 7


def test_a_commit_of_another_store_is_seen_at_once(url: str, store: Store):
    other = Store.open(url)
    put(store, None, at(5), range(5), 1.0)
    assert len(read(store)) == 5
    put(other, at(5), at(6), range(5, 6), 2.0)
    assert read(store)[-1] == (5, 2.0)
    put(other, at(6), at(6, 1), range(3), 3.0)  # the file was replaced by one as long
    assert read(store) == [(0, 3.0), (1, 3.0), (2, 3.0)]
    other.close()


def test_a_commit_of_another_process_is_seen_at_once(url: str, store: Store):
    put(store, None, at(5), range(5), 1.0)
    assert len(read(store)) == 5
    code = (
        "import sys\n"
        "from verl_lab.domain.wire import MetricRecord\n"
        "from verl_lab.store import Batch, FilePosition, Store\n"
        "start, end = FilePosition(5, 0, b''), FilePosition(6, 0, b'')\n"
        "record = (5, MetricRecord(5, 5, None, {'a': 9.0}))\n"
        "assert Store.open(sys.argv[1]).commit(Batch('run-1', 1, 'm', start, end, records=[record]))\n"
    )
    subprocess.run([sys.executable, "-c", code, url], check=True)
    assert read(store)[-1] == (5, 9.0)


def test_an_event_that_moves_a_mask_is_seen_at_once(store: Store):
    put(store, None, at(5), range(5), 1.0)
    put(store, None, at(2), range(4, 6), 2.0, attempt=2)
    assert [step for step, _ in read(store)] == [0, 1, 2, 3, 4, 5]
    resumed = EventRecord(0, None, "train_begin", data={"resumed_from": 1})
    assert store.commit(Batch("run-1", 2, "e", None, at(1), events=[(0, resumed)], resumed_from=1))
    assert [step for step, _ in read(store)] == [0, 1, 4, 5]


def test_a_remembered_series_is_what_a_fresh_store_reads(
    url: str, store: Store, rounds: Callable[[int], int], dice: random.Random
):
    """While rows are added, folded, gone back over, resumed as another attempt, and replaced by another file."""
    position: FilePosition | None = None
    step, attempt = 0, 1
    for _ in range(rounds(200)):
        if dice.random() < 0.06:
            position, attempt, step = None, attempt + 1, max(0, step - dice.randrange(30))
        count = dice.choice([1, 1, 1, 40, 900])
        generation = 0 if position is None else position.generation + (dice.random() < 0.05)
        is_new = position is not None and generation != position.generation
        end = at(count if position is None or is_new else position.offset + count, generation)
        names = dice.choice(["a", "b", "ab", "ab"])
        records = [
            (end.offset - count + n, MetricRecord(s, s, 1.0 + s, {name: dice.random() for name in names}))
            for n, s in enumerate(range(step, step + count))
        ]
        assert store.commit(Batch("run-1", attempt, "m", position, end, records=records))
        position = end
        step = dice.choice([step + count, step + count, step + count, max(0, step - 20)])
        fresh = Store.open(url)
        for name in "ab":
            for mine, other in zip(everything(store, name), everything(fresh, name), strict=True):
                assert np.array_equal(mine, other)
        fresh.close()


def everything(store: Store, name: str) -> list[np.ndarray]:
    found = store.metrics.series("run-1", name)
    part = store.metrics.read("run-1", name, 5, 200)
    return [*store.metrics.read("run-1", name), *part, found.steps, found.values, found.times, found.attempts]


def test_what_is_added_is_all_that_is_read_anew(store: Store):
    put(store, None, at(2000), range(2000), 1.0)
    first = store.metrics.read("run-1", "a")
    put(store, at(2000), at(2001), range(2000, 2001), 2.0)
    seen: list[str] = []
    event.listen(store.metrics._database._engine, "before_cursor_execute", lambda *told: seen.append(told[2]))
    assert store.metrics.read("run-1", "a")[1].tolist() == [*first[1].tolist(), 2.0]
    assert not [query for query in seen if "FROM chunks" in query]


def test_memory_is_bounded_and_the_one_asked_for_longest_ago_goes_first():
    def series(count: int) -> Series:
        return Series(np.arange(count), np.zeros(count), np.empty(0), np.empty(0, np.int64))

    memo = Memo(most_bytes=16 * 100)
    for name in "abcd":
        memo.put(name, 1, series(25))
    assert memo.get("a", 1) is not None
    memo.put("e", 1, series(25))
    assert memo.get("b", 1) is None
    assert all(memo.get(name, 1) is not None for name in "acde")
    memo.put("a", 2, series(101))  # more than it may hold in all: what was there is stale all the same
    assert memo.get("a", 1) is None
    assert memo.get("a", 2) is None
    memo.put("f", 1, series(100))
    assert [memo.get(name, 1) is not None for name in "cdef"] == [False, False, False, True]
