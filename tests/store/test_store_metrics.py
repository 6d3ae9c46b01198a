from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np
import pytest
from sqlalchemy import func, select

from verl_lab.domain.wire import EventRecord, MetricRecord
from verl_lab.errors import NotFoundError
from verl_lab.store import BadLine, Batch, FilePosition, RunRow, Store, tables

if TYPE_CHECKING:
    import random
    from collections.abc import Callable


class File:
    """Plays the reader of one file: hands over records, keeps the position."""

    def __init__(self, store: Store, attempt: int = 1, run_id: str = "run-1") -> None:
        self.store, self.attempt, self.run_id = store, attempt, run_id
        self.at: FilePosition | None = None
        self.offset = 0
        self.seq = 0
        self.generation = 0

    def put(self, *steps: tuple[int, dict[str, float]], resumed_from: int | None = None) -> None:
        records = []
        for step, data in steps:
            records.append((self.offset, MetricRecord(self.seq, step, 1000.0 + self.seq, data)))
            self.offset += 10
            self.seq += 1
        end = FilePosition(self.offset, self.generation, b"f%d" % self.offset)
        batch = Batch(self.run_id, self.attempt, "m", self.at, end, records=records, resumed_from=resumed_from)
        assert self.store.commit(batch)
        self.at = end

    def replaced(self) -> None:
        self.offset, self.seq, self.generation = 0, 0, self.generation + 1


def test_every_bit_of_every_float_comes_back(store: Store):
    odd = [0x7FF8000000000001, 0xFFF8DEADBEEF0001, 0x7FF0000000000000, 0xFFF0000000000000, 0x8000000000000000, 1]
    values = [struct.unpack("<d", struct.pack("<Q", bits))[0] for bits in odd] + [1.7976931348623157e308, 0.1]
    file = File(store)
    file.put(*[(step, {"a": value}) for step, value in enumerate(values)])
    for _ in range(2):  # once from the tail, once from a block
        steps, found = store.metrics.read("run-1", "a", 0, len(values) - 1)
        assert steps.tolist() == list(range(len(values)))
        assert found.tobytes() == np.array(values).tobytes()
        file.put(*[(100 + step, {"a": 0.0}) for step in range(2000)])


def test_metrics_that_come_late_go_or_have_gaps_are_kept_as_they_are(store: Store, dice: random.Random):
    expected: dict[str, dict[int, float]] = {}
    file, step = File(store), 0
    while step < 5000:
        rows = []
        for _ in range(dice.choice([1, 3, 500, 1500])):
            data = {"always": dice.random()}
            if step % 10 == 0:
                data["seldom"] = dice.random()
            if step > 3000:
                data["late"] = dice.random()
            if dice.random() < 0.5:
                data = {"some": dice.random(), **data}
            rows.append((step, data))
            for name, value in data.items():
                expected.setdefault(name, {})[step] = value
            step += 1 if dice.random() < 0.99 else 7
        file.put(*rows)
    assert store.metrics.names("run-1") == sorted(expected)
    for name, points in expected.items():
        steps, values = store.metrics.read("run-1", name)
        assert dict(zip(steps.tolist(), values.tolist(), strict=True)) == points
        assert steps.tolist() == sorted(points)
        low, high = 1234, 3456
        steps, values = store.metrics.read("run-1", name, low, high)
        assert steps.tolist() == [s for s in sorted(points) if low <= s <= high]
        assert values.tolist() == [points[s] for s in steps.tolist()]
    run = store.runs.get("run-1")
    assert run is not None
    assert dict(run.last) == {name: points[max(points)] for name, points in expected.items()}
    with store._database.read() as connection:
        waiting = connection.scalar(select(func.count()).select_from(tables.tail)) or 0
        folded = connection.scalars(select(tables.blocks.c.rows).order_by(tables.blocks.c.block)).all()
    assert waiting + sum(folded) == len(expected["always"])
    assert waiting < 128
    assert set(folded[:-1]) == {1024}


def test_of_a_step_that_was_logged_twice_the_later_value_counts(store: Store):
    file = File(store)
    file.put((1, {"a": 1.0, "b": 1.0}), (2, {"a": 2.0}), (1, {"a": 10.0}))
    assert store.metrics.read("run-1", "a")[1].tolist() == [10.0, 2.0]
    assert store.metrics.read("run-1", "b")[1].tolist() == [1.0]


def test_times_and_attempts_come_with_a_series(store: Store):
    File(store).put((1, {"a": 1.0}), (2, {"a": 2.0}), (3, {"a": 3.0}))
    File(store, attempt=2).put((3, {"a": 30.0}), (4, {"a": 40.0}), resumed_from=2)
    series = store.metrics.series("run-1", "a")
    assert series.steps.tolist() == [1, 2, 3, 4]
    assert series.attempts.tolist() == [1, 1, 2, 2]
    assert series.times.tolist() == [1000.0, 1001.0, 1000.0, 1001.0]
    assert store.metrics.times("run-1").tolist() == [1000.0, 1001.0]
    assert store.metrics.times("run-1", last=1).tolist() == [1001.0]


def test_times_reach_back_into_blocks(store: Store):
    File(store).put(*[(step, {"a": 1.0}) for step in range(2500)])
    assert store.metrics.times("run-1").tolist() == [1000.0 + n for n in range(2500)]
    assert store.metrics.times("run-1", last=1100).tolist() == [1000.0 + n for n in range(1400, 2500)]


def visible(attempts: list[tuple[int | None, list[tuple[int, dict[str, float]]]]]) -> dict[str, dict[int, float]]:
    """What a run shows, in plain Python: a later attempt hides what came after the step it went on from."""
    shown: dict[str, dict[int, float]] = {}
    for resumed_from, rows in attempts:
        cut = resumed_from if resumed_from is not None else rows[0][0] - 1 if rows else None
        if cut is not None:
            shown = {name: {s: v for s, v in points.items() if s <= cut} for name, points in shown.items()}
        for step, data in rows:
            for name, value in data.items():
                shown.setdefault(name, {})[step] = value
    return {name: points for name, points in shown.items() if points}


def test_after_resumes_the_latest_attempt_wins_and_the_stale_future_is_masked(
    store: Store, rounds: Callable[[int], int], dice: random.Random
):
    for case in range(rounds(500)):
        run_id = f"case-{case}"
        store.runs.upsert(RunRow(id=run_id, name=run_id, folder="/"))
        attempts, top = [], 0
        long = case % 10 == 0
        for number in range(1, dice.randrange(2, 6)):
            origin = dice.randrange(0, top + 1) if number > 1 else 0
            resumed_from = origin if dice.random() < 0.8 or number == 1 else None
            count = dice.randrange(0, 1500 if long else 12)
            rows = []
            for step in range(origin + 1, origin + 1 + count):
                data = {"a": dice.random()}
                if step % 3 == 0:
                    data["val/b"] = dice.random()
                rows.append((step, data))
            top = max(top, origin + count)
            attempts.append((resumed_from, rows))
            file = File(store, number, run_id)
            file.put(resumed_from=resumed_from)
            while rows:
                size = dice.randrange(1, 900 if long else 8)
                file.put(*rows[:size])
                rows = rows[size:]
        expected = visible(attempts)
        assert store.metrics.names(run_id) == sorted(expected)
        for name, points in expected.items():
            steps, values = store.metrics.read(run_id, name)
            assert steps.tolist() == sorted(points)
            assert values.tolist() == [points[step] for step in sorted(points)]
        run = store.runs.get(run_id)
        assert run is not None
        assert dict(run.last) == {name: points[max(points)] for name, points in expected.items()}


def test_validation_on_resuming_keeps_what_was_trained_in_that_step(store: Store):
    File(store).put(*[(step, {"loss": float(step)}) for step in range(1, 6)])
    File(store, attempt=2).put((3, {"val-core/acc": 0.5}), (4, {"loss": 40.0}))
    steps, values = store.metrics.read("run-1", "loss")
    assert steps.tolist() == [1, 2, 3, 4]
    assert values.tolist() == [1.0, 2.0, 3.0, 40.0]


def test_a_replaced_file_hides_what_the_old_one_held_and_keeps_it(store: Store):
    file = File(store)
    file.put(*[(step, {"a": float(step), "old": 1.0}) for step in range(1, 1500)])
    file.replaced()
    file.put((1, {"a": -1.0}), (2, {"a": -2.0}))
    assert store.metrics.read("run-1", "a")[1].tolist() == [-1.0, -2.0]
    assert store.metrics.names("run-1") == ["a"]
    with store._database.read() as connection:
        assert connection.execute(tables.blocks.select()).all()


def test_a_batch_that_does_not_begin_where_the_index_stands_changes_nothing(store: Store):
    start, end = FilePosition(10, 0, b"x"), FilePosition(20, 0, b"y")
    record = (0, MetricRecord(0, 1, None, {"a": 1.0}))
    assert not store.commit(Batch("run-1", 1, "m", start, end, records=[record]))
    assert store.commit(Batch("run-1", 1, "m", None, start, records=[record]))
    assert not store.commit(Batch("run-1", 1, "m", None, end, records=[record]))
    assert not store.commit(Batch("run-1", 1, "m", FilePosition(10, 0, b"other"), end, records=[record]))
    assert store.position("run-1", 1, "m") == start
    assert store.position("run-1", 1, "absent") is None
    with pytest.raises(NotFoundError, match="run-2"):
        store.commit(Batch("run-2", 1, "m", None, start, records=[record]))


def test_what_cannot_be_taken_in_is_quarantined_with_its_reason(store: Store):
    data = {"good": 1.0, "x" * 501: 2.0, "nul\0": 3.0, "<b>é🦊</b>": 4.0, "": 5.0}
    batch = Batch(
        "run-1", 1, "m", None, FilePosition(100, 0, b""),
        records=[(0, MetricRecord(0, 1, None, data, {"text": "str is no number"})), (50, MetricRecord(1, 2, None, {}))],
        bad=[BadLine(60, "no JSON", b"\0\xff" * 1000)],
    )  # fmt: skip
    assert store.commit(batch)
    assert store.metrics.names("run-1") == ["", "<b>é🦊</b>", "good"]
    assert store.metrics.read("run-1", "<b>é🦊</b>")[1].tolist() == [4.0]
    found = store.quarantine.read("run-1")
    assert store.quarantine.count("run-1") == len(found) == 4
    assert {(q.offset, q.metric and q.metric[:5]) for q in found} == {
        (0, "text"),
        (0, "xxxxx"),
        (0, "nul\0"),
        (60, None),
    }
    assert found[-1].text == b"\0\xff" * 250


def test_events_keep_their_order_and_data(store: Store):
    deep = {"note": "é\0<script>", "n": [1, {"x": None}]}
    events = [(n * 5, EventRecord(n, None if n else 2.0, "k" if n % 2 else "other", n, "w", deep)) for n in range(4)]
    assert store.commit(Batch("run-1", 2, "events.jsonl", None, FilePosition(99, 0, b""), events=events))
    found = store.events.read("run-1")
    assert [(e.seq, e.time, e.kind, e.step, e.source, e.data, e.attempt) for e in found] == [
        (e.seq, e.time, e.kind, e.step, e.source, e.data, 2) for _, e in events
    ]
    assert [e.seq for e in store.events.read("run-1", "k")] == [1, 3]
    assert store.events.read("absent") == []


def test_a_step_with_very_many_metrics_is_kept(store: Store):
    data = {f"metric/{n}": float(n) for n in range(20_000)}
    File(store).put((1, data))
    assert len(store.metrics.names("run-1")) == 20_000
    assert store.metrics.read("run-1", "metric/19999")[1].tolist() == [19999.0]


def test_unknown_runs_and_metrics_read_as_empty(store: Store):
    for steps, values in (store.metrics.read("absent", "a"), store.metrics.read("run-1", "absent")):
        assert (steps.dtype, values.dtype, len(steps), len(values)) == (np.int64, np.float64, 0, 0)
    assert store.metrics.names("absent") == []
    assert len(store.metrics.times("absent")) == 0
    assert math.isclose(len(store.metrics.series("run-1", "absent").times), 0)


def test_a_range_far_outside_is_empty_or_everything(store: Store):
    File(store).put((1, {"a": 1.0}))
    assert len(store.metrics.read("run-1", "a", 10**30)[0]) == 0
    assert len(store.metrics.read("run-1", "a", -(10**30), 10**30)[0]) == 1
