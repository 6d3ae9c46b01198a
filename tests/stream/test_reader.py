from __future__ import annotations

import math
import shutil
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

from verl_lab.domain.run import RunState
from verl_lab.errors import FormatError, NotFoundError, StoreError
from verl_lab.store import RunRow
from verl_lab.stream import FollowedRun, attached_run_id
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from stream.conftest import Reading, Trainer

    from verl_lab.stream import RunUpdate


def test_everything_a_run_writes_is_in_the_index_after_a_sync(reading: Reading, trainer: Trainer):
    trainer.event("train_begin", resumed_from=0, total_steps=3)
    for step in (1, 2, 3):
        trainer.log(step, loss=step / 3, weird=math.nan if step == 1 else -math.inf)
    trainer.status("running", step=3, total=3, phase="training", started=5.0, updated=6.0)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert reading.read("loss") == {1: 1 / 3, 2: 2 / 3, 3: 1.0}
    weird = reading.read("weird")
    assert math.isnan(weird[1])
    assert weird[2] == -math.inf
    assert [e.kind for e in reading.store.events.read("run-1")] == ["train_begin"]
    row = reading.row()
    assert (row.state, row.step, row.total, row.started) == ("running", 3, 3, 5.0)


def test_the_background_thread_follows_without_being_asked(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    reading.follow(trainer.layout.folder)
    for step in range(1, 20):
        trainer.log(step, loss=float(step))
        until(lambda step=step: reading.steps_heard() == list(range(1, step + 1)))
    trainer.status("completed", step=19, total=19)
    until(lambda: any(u.status and u.status.state is RunState.COMPLETED for u in reading.heard))
    assert reading.row().state == "completed"
    assert len(reading.read("loss")) == 19


def test_a_run_that_does_not_exist_yet_is_waited_for(
    reading: Reading, new_trainer: Callable[[str], Trainer], tmp_path: Path, until: Callable[..., None]
):
    reading.follow(tmp_path / "run-1")
    trainer = new_trainer("run-1")
    trainer.log(1, a=1.0)
    until(lambda: reading.steps_heard() == [1])


def test_a_resumed_attempt_masks_the_stale_future(reading: Reading, trainer: Trainer, until: Callable[..., None]):
    reading.follow(trainer.layout.folder)
    for step in range(1, 6):
        trainer.log(step, loss=float(step))
    until(lambda: len(reading.steps_heard()) == 5)
    trainer.begin(resumed_from=3)
    trainer.log(4, loss=40.0)
    until(lambda: len(reading.steps_heard()) == 6)
    assert reading.read("loss") == {1: 1.0, 2: 2.0, 3: 3.0, 4: 40.0}
    assert dict(reading.row().last) == {"loss": 40.0}
    assert [u.attempt for u in reading.heard if u.records][-1] == 2


def test_every_scalar_of_every_recording_is_read_back(reading: Reading, recordings: Path, tmp_path: Path):
    count = 0
    for file in sorted(recordings.glob("*.jsonl")):
        copy = tmp_path / file.name
        shutil.copy(file, copy)
        run_id = attached_run_id(str(copy))
        reading.follow(copy, run_id, "attached")
        reading.reader.sync(run_id)
        expected: dict[str, dict[int, float]] = {}
        for line in file.read_bytes().splitlines():
            record = orjson.loads(line)
            for name, value in record["data"].items():
                expected.setdefault(name, {})[record["step"]] = math.nan if value is None else float(value)
        assert reading.store.metrics.names(run_id) == sorted(expected)
        for name, points in expected.items():
            assert reading.read(name, run_id) == points
            count += len(points)
        assert reading.store.quarantine.count(run_id) == 0
    assert count > 9_000


def test_the_console_log_and_the_file_log_show_the_same_curves(reading: Reading, recordings: Path):
    logs = [recordings / "grpo-30-steps.jsonl", recordings / "grpo-30-steps.console.log"]
    for run_id, log in zip("ab", logs, strict=True):
        reading.follow(log, run_id, "attached")
        reading.reader.sync(run_id)
    names = reading.store.metrics.names("a")
    assert names == reading.store.metrics.names("b")
    assert all(reading.read(name, "a") == reading.read(name, "b") for name in names)


def test_bad_lines_and_values_are_set_aside_and_the_rest_is_kept(reading: Reading, trainer: Trainer):
    trainer.append(trainer.attempt.metrics, b'not json\n{"seq":5,"step":1,"time":1,"data":{"a":1,"b":[1]}}\n\xff\xfe\n')
    trainer.append(trainer.attempt.events, b'{"kind":7}\n')
    trainer.log(2, a=2.0)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 2.0}
    found = reading.store.quarantine.read("run-1")
    assert [(q.file, q.metric) for q in found] == [
        ("events.jsonl", None), ("metrics.jsonl", None), ("metrics.jsonl", "b"), ("metrics.jsonl", None),
    ]  # fmt: skip


def test_a_file_of_a_newer_format_is_an_error_that_says_so(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    trainer.attempt.metrics.write_bytes(b'{"verl_lab":99,"run":"run-1","attempt":1}\n')
    reading.follow(trainer.layout.folder)
    with pytest.raises(FormatError, match="format 99"):
        reading.reader.sync("run-1")
    until(lambda: any("format 99" in (u.error or "") for u in reading.heard))


def test_one_broken_run_does_not_hold_up_the_others(
    reading: Reading,
    new_trainer: Callable[[str], Trainer],
    trainer: Trainer,
    tmp_path: Path,
    until: Callable[..., None],
):
    broken = new_trainer("broken")
    broken.attempt.status.write_bytes(b"{}")
    reading.follow(broken.layout.folder, "broken")
    gone = tmp_path / "gone.log"
    reading.follow(gone, "gone", "attached")
    reading.follow(trainer.layout.folder)
    for step in range(1, 6):
        trainer.log(step, a=1.0)
        until(lambda step=step: len(reading.steps_heard()) == step)
    until(lambda: {u.run_id for u in reading.heard if u.error} == {"broken", "gone"})
    broken.status("running", step=1)
    broken.log(1, a=2.0)
    until(lambda: reading.steps_heard("broken") == [1])
    until(lambda: any(u.status for u in reading.heard if u.run_id == "broken"))


def test_an_error_nobody_thought_of_stops_neither_the_thread_nor_the_other_runs(
    reading: Reading, trainer: Trainer, until: Callable[..., None], caplog: pytest.LogCaptureFixture
):
    class Cursed(LocalHost):
        def list_folder(self, path: str) -> list[str]:
            if "cursed" in path:
                raise RuntimeError("nobody thought of this")
            return super().list_folder(path)

    for run_id, folder in (("cursed", "/cursed"), ("run-1", str(trainer.layout.folder))):
        reading.store.runs.upsert(RunRow(id=run_id, name=run_id, folder=folder))
        reading.reader.follow(FollowedRun(run_id, Cursed(), folder))
    trainer.log(1, a=1.0)
    until(lambda: reading.steps_heard() == [1])
    until(lambda: [u.error for u in reading.heard if u.error] == ["RuntimeError: nobody thought of this"])
    assert "Reading cursed failed" in caplog.text
    trainer.log(2, a=1.0)
    until(lambda: reading.steps_heard() == [1, 2])


def test_a_locked_database_delays_and_loses_nothing(
    reading: Reading, another_reading: Callable[[], Reading], trainer: Trainer, until: Callable[..., None]
):
    impatient = another_reading()
    impatient.store._database._busy_s = 0.05
    impatient.follow(trainer.layout.folder)
    with reading.store._database.write():
        for step in range(1, 4):
            trainer.log(step, a=float(step))
        until(lambda: any("locked" in (u.error or "") for u in impatient.heard))
        with pytest.raises(StoreError, match="locked"):
            impatient.reader.sync("run-1")
        assert impatient.steps_heard() == []
    until(lambda: impatient.steps_heard() == [1, 2, 3])
    assert impatient.read("a") == {1: 1.0, 2: 2.0, 3: 3.0}


def test_two_readers_of_one_run_store_each_line_once_and_both_hear_it(
    reading: Reading, another_reading: Callable[[], Reading], trainer: Trainer, until: Callable[..., None]
):
    other = another_reading()
    for one in (reading, other):
        one.follow(trainer.layout.folder)
    for step in range(1, 400):
        trainer.log(step, a=float(step))
        if step == 200:
            trainer.begin(resumed_from=200)
    late = another_reading()
    late.follow(trainer.layout.folder)
    for one in (reading, other):
        until(lambda one=one: one.steps_heard() == list(range(1, 400)))
    assert reading.read("a") == {step: float(step) for step in range(1, 400)}
    assert reading.store.quarantine.count("run-1") == 0
    assert reading.rows_stored() == 399


def test_a_listener_may_ask_for_a_sync_of_the_run_it_hears_of(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    found = []

    def listener(update: RunUpdate) -> None:
        if update.records:
            reading.reader.sync("run-1")
            found.append(len(reading.read("a")))

    reading.feed.subscribe(listener)
    reading.follow(trainer.layout.folder)
    trainer.log(1, a=1.0)
    trainer.log(2, a=1.0)
    until(lambda: found and found[-1] == 2)


def test_following_twice_is_following_once_and_unfollowing_ends_it(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    for _ in range(3):
        reading.follow(trainer.layout.folder)
    trainer.log(1, a=1.0)
    until(lambda: reading.steps_heard() == [1])
    reading.reader.unfollow("run-1")
    reading.reader.unfollow("run-1")
    trainer.log(2, a=2.0)
    with pytest.raises(NotFoundError, match="run-1"):
        reading.reader.sync("run-1")
    reading.follow(trainer.layout.folder)
    until(lambda: reading.steps_heard() == [1, 2])


def test_a_run_the_index_does_not_know_is_refused(reading: Reading):
    with pytest.raises(NotFoundError, match="run-7"):
        reading.reader.follow(FollowedRun("run-7", LocalHost(), "/nowhere"))


def test_closing_leaks_no_thread_and_no_descriptor(
    another_reading: Callable[[], Reading], trainer: Trainer, until: Callable[..., None]
):
    trainer.log(1, a=1.0)
    first = another_reading()
    first.follow(trainer.layout.folder)
    first.close()
    threads, descriptors = threading.active_count(), len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(10):
        one = another_reading()
        one.follow(trainer.layout.folder)
        one.reader.sync("run-1")
        one.close()
        one.reader.close()
    assert threading.active_count() == threads
    assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors  # an earlier test may leave garbage
