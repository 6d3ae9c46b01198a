"""Clocks jump and runs that are over are written to again: neither loses or reorders anything."""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from verl_lab.domain.run import RunState
from verl_lab.domain.wire import EventRecord, encode_event, encode_metrics
from verl_lab.store import RunRow
from verl_lab.stream import FollowedRun
from verl_lab.stream.run_reader import RunReader
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from stream.conftest import Reading, Trainer

CLOCKS = [0.0, -1.0, 1e9, 1.7e9, 4e9, 1e300]


def test_order_is_that_of_writing_whatever_the_clock_says(
    reading: Reading, new_trainer: Callable[[str], Trainer], rounds: Callable[[int], int], dice: random.Random
):
    for number in range(rounds(100)):
        run_id = f"run-{number}"
        trainer = new_trainer(run_id)
        reading.follow(trainer.layout.folder, run_id)
        clocks: list[float] = []
        step = 0
        for step in range(1, dice.randrange(5, 300)):
            clocks.append(dice.choice(CLOCKS) + dice.random())
            trainer.append(trainer.attempt.metrics, encode_metrics(step, step, clocks[-1], {"a": float(step)}))
            event = EventRecord(step, dice.choice(CLOCKS), "checkpoint_saved", step)
            trainer.append(trainer.attempt.events, encode_event(event))
            if dice.random() < 0.05:  # the file's own time jumps as well
                moment = int(dice.choice([1.0, 1e9, 4e9]) * 1e9)
                os.utime(trainer.attempt.metrics, ns=(moment, moment))
        trainer.append(
            trainer.attempt.metrics, encode_metrics(step + 1, 1, 0.0, {"a": -1.0})
        )  # logged last, so it counts
        reading.reader.sync(run_id)
        series = reading.store.metrics.series(run_id, "a")
        assert series.steps.tolist() == list(range(1, step + 1))
        assert series.values.tolist() == [-1.0, *map(float, range(2, step + 1))]
        assert series.times.tolist() == [0.0, *clocks[1:]]
        assert [event.step for event in reading.store.events.read(run_id)] == list(range(1, step + 1))
        assert reading.steps_heard(run_id) == [*range(1, step + 1), 1]
        reading.reader.unfollow(run_id)


def test_a_status_that_is_older_by_the_clock_is_still_the_newest(reading: Reading, trainer: Trainer):
    reading.follow(trainer.layout.folder)
    for updated, state in ((2e9, "running"), (5.0, "running"), (1e9, "completed")):
        trainer.status(state, step=1, started=3e9, updated=updated)
        os.utime(trainer.attempt.status, (updated, updated))
        reading.reader.sync("run-1")
        assert (reading.row().state, reading.row().updated) == (state, updated)
    trainer.begin(resumed_from=0)
    trainer.status("running", step=0, updated=1.0)
    reading.reader.sync("run-1")
    assert (reading.row().state, reading.row().attempt) == ("running", 2)


def test_a_run_that_is_over_is_read_again_as_soon_as_anything_is_written(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    reading.follow(trainer.layout.folder)
    trainer.log(1, a=1.0)
    trainer.status("failed", step=1)
    until(lambda: any(u.status and u.status.state is RunState.FAILED for u in reading.heard))
    for _ in range(3):
        reading.reader.sync("run-1")
    trainer.log(2, a=2.0)  # a last line that was on its way
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 2.0}
    content = trainer.attempt.metrics.read_bytes()
    time.sleep(0.05)  # clocks of file systems tick a few hundred times a second
    trainer.attempt.metrics.write_bytes(content.replace(b'"a":2.0', b'"a":7.0'))
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 7.0}
    trainer.begin(resumed_from=1)
    trainer.log(2, a=3.0)
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 3.0}


class Counted(LocalHost):
    """The local host, counting how often it is asked to read."""

    reads = 0

    def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        self.reads += 1
        return super().read(path, offset, limit)


def test_of_a_run_that_is_over_nothing_is_read_twice(reading: Reading, trainer: Trainer):
    trainer.log(1, a=1.0)
    trainer.status("completed", step=1)
    host = Counted()
    reading.store.runs.upsert(RunRow(id="run-1", name="run-1", folder="/"))
    reader = RunReader(reading.store, reading.feed, FollowedRun("run-1", host, str(trainer.layout.folder)))
    for _ in range(3):
        reader.read(thoroughly=not reader.is_over)
    before = host.reads
    for _ in range(10):
        reader.read(thoroughly=not reader.is_over)
    assert host.reads == before > 0
    trainer.log(2, a=2.0)
    reader.read(thoroughly=False)
    assert reading.read("a") == {1: 1.0, 2: 2.0}
