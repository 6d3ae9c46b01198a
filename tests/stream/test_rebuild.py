"""Indexing runs anew: what the files say, and the old rows until that is complete."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from typing import TYPE_CHECKING

import orjson
import pytest
from sqlalchemy import text

from verl_lab import Lab
from verl_lab.errors import NotFoundError
from verl_lab.stream import FollowedRun, Reindexed, rebuild
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from stream.conftest import Reading, Trainer


def line(step: int, **data: float) -> bytes:
    return orjson.dumps({"step": step, "data": data}) + b"\n"


def content(reading: Reading) -> object:
    metrics = {name: reading.read(name) for name in reading.store.metrics.names("run-1")}
    return metrics, reading.store.events.read("run-1"), reading.store.quarantine.read("run-1"), reading.row()


def trained(trainer: Trainer) -> None:
    for step in range(1, 1500):
        trainer.log(step, loss=1 / step, **({"late": 1.0} if step > 700 else {}))
    trainer.append(trainer.attempt.metrics, b"this is no record\n")
    trainer.begin(resumed_from=1200)
    for step in range(1201, 1300):
        trainer.log(step, loss=-1.0)
    trainer.status("completed", step=1299, total=1299, started=1.0, updated=2.0, ended=3.0)


class Interrupted(LocalHost):
    """The local host, doing something after each read of a file."""

    def __init__(self, then: Callable[[], None]) -> None:
        self.then = then

    def read(self, path: str, offset: int = 0, limit: int | None = None) -> bytes:
        content = super().read(path, offset, limit)
        self.then()
        return content


def test_a_rebuilt_run_is_what_it_was(reading: Reading, trainer: Trainer):
    trained(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    before = content(reading)
    done = Reindexed()
    for _ in range(2):
        rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), done)
    assert (done.rebuilt, done.kept) == (["run-1", "run-1"], {})
    assert content(reading) == before
    assert reading.store.runs.ids() == ["run-1"]
    assert reading.rows_stored() == 1499 + 99
    with reading.store._database.read() as connection:
        for table in ("chunks", "events", "files", "quarantine", "attempts"):
            assert connection.scalar(text(f"SELECT count(DISTINCT run) FROM {table}")) == 1  # noqa: S608  our own names


def test_rows_that_were_spoilt_are_put_right(reading: Reading, trainer: Trainer, url: str):
    trained(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    before = content(reading)
    other = sqlite3.connect(url.removeprefix("sqlite:///"))
    other.execute("DELETE FROM chunks WHERE block = 0")
    other.execute("UPDATE runs SET step = 5, state = 'running', last_shape = NULL, last_values = NULL")
    other.commit()
    other.close()
    assert content(reading) != before
    rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), Reindexed())
    assert content(reading) == before


def test_the_old_rows_serve_until_the_new_ones_are_complete(reading: Reading, trainer: Trainer):
    trained(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    before, looks = content(reading), []

    def look() -> None:
        looks.append(content(reading) == before)
        assert reading.store.runs.ids() == [row.id for row in reading.store.runs.list()] == ["run-1"]

    rebuild(reading.store, FollowedRun("run-1", Interrupted(look), str(trainer.layout.folder)), Reindexed())
    assert len(looks) > 4
    assert all(looks)
    assert content(reading) == before


def test_a_rebuild_that_is_broken_off_leaves_the_old_rows(reading: Reading, trainer: Trainer):
    trained(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    before, looks, folder = content(reading), [0], str(trainer.layout.folder)

    def pull_the_plug() -> None:
        looks[0] += 1
        if looks[0] == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        rebuild(reading.store, FollowedRun("run-1", Interrupted(pull_the_plug), folder), Reindexed())
    assert content(reading) == before
    reading.store.begin_rebuild("run-1")  # and this one was killed before it could clean up
    done = Reindexed()
    rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), done)
    assert done.rebuilt == ["run-1"]
    assert content(reading) == before
    assert reading.rows_stored() == 1499 + 99


def test_training_and_reading_go_on_while_a_run_is_indexed_anew(
    reading: Reading, another_reading: Callable[[], Reading], trainer: Trainer, until: Callable[..., None]
):
    other = another_reading()
    for one in (reading, other):
        one.follow(trainer.layout.folder)
    ended = threading.Event()

    def train() -> None:
        for step in range(1, 3001):
            trainer.log(step, loss=float(step))
        ended.set()

    thread = threading.Thread(target=train)
    thread.start()
    rebuilt = Reindexed()
    while not ended.is_set():
        rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), rebuilt)
    thread.join()
    assert rebuilt.rebuilt
    assert rebuilt.kept == {}
    for one in (reading, other):
        until(lambda one=one: one.read("loss") == {step: float(step) for step in range(1, 3001)})
        until(lambda one=one: set(one.steps_heard()) == set(range(1, 3001)))
    assert reading.rows_stored() == 3000


def test_what_was_indexed_while_a_run_was_indexed_anew_stays(reading: Reading, trainer: Trainer):
    trained(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    looks = [0]
    last = 0

    def look() -> None:
        looks[0] += 1
        if looks[0] == last:
            trainer.log(2000, loss=0.5)
            reading.reader.sync("run-1")

    followed, done = FollowedRun("run-1", Interrupted(look), str(trainer.layout.folder)), Reindexed()
    rebuild(reading.store, followed, done)
    for before_end in range(3):
        last, looks[0] = looks[0] - before_end, 0
        rebuild(reading.store, followed, done)
        # Nothing is written any more, and nobody looks into the files again.
        assert reading.read("loss")[2000] == 0.5
    assert len(done.rebuilt) == 4


def test_what_is_on_disk_no_more_is_kept(reading: Reading, trainer: Trainer, tmp_path: Path):
    log = tmp_path / "verl.jsonl"
    log.write_bytes(b"".join(line(step, a=1.0) for step in range(1, 10)))
    reading.follow(log, "attached", "attached")
    reading.reader.sync("attached")
    log.write_bytes(b"".join(line(step, a=2.0) for step in range(5, 8)))  # verl's logger began it anew
    reading.reader.sync("attached")
    before = reading.read("a", "attached")
    trainer.log(1, loss=1.0)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    shutil.rmtree(trainer.layout.folder)
    done = Reindexed()
    rebuild(reading.store, FollowedRun("attached", LocalHost(), str(log), "attached"), done)
    rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), done)
    assert done.rebuilt == []
    assert "attempts that are not on disk" in done.kept["attached"]
    assert "nothing at" in done.kept["run-1"]
    assert reading.read("a", "attached") == before == dict.fromkeys(range(1, 5), 1.0) | dict.fromkeys(range(5, 8), 2.0)
    assert reading.read("loss") == {1: 1.0}
    assert sorted(reading.store.runs.ids()) == ["attached", "run-1"]


def test_a_run_that_cannot_be_read_is_named_and_kept(reading: Reading, trainer: Trainer):
    trainer.log(1, loss=1.0)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    trainer.attempt.metrics.unlink()
    trainer.attempt.metrics.mkdir()
    done = Reindexed()
    rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), done)
    assert "run-1" in done.kept
    assert reading.read("loss") == {1: 1.0}


def test_a_shadow_that_does_not_exist_takes_no_place(reading: Reading):
    with pytest.raises(NotFoundError):
        reading.store.begin_rebuild("run-9")
    with pytest.raises(NotFoundError):
        reading.store.finish_rebuild("run-9")


def test_a_lab_indexes_run_folders_and_attached_logs_anew(tmp_path: Path, recordings: Path):
    folder = tmp_path / "home" / "runs" / "20260101-000000-kept-0000"
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": "kept", "created": 1.0}))
    shutil.copy(recordings.parent / "wire-v1" / "metrics.jsonl", attempt / "metrics.jsonl")
    gone = tmp_path / "gone.jsonl"
    shutil.copy(recordings / "sft-60-steps.jsonl", gone)
    with Lab(tmp_path / "home") as lab:
        runs = [lab.run("kept"), lab.attach(recordings / "grpo-30-steps.jsonl")]
        lost = lab.attach(gone)
        before = [{name: run.metrics(name)[1].tobytes() for name in run.metric_names()} for run in runs]
        gone.unlink()
        done = lab.reindex()
        assert sorted(done.rebuilt) == sorted(run.id for run in runs)
        assert list(done.kept) == [lost.id]
        assert [{name: run.metrics(name)[1].tobytes() for name in run.metric_names()} for run in runs] == before
        assert {run.id for run in lab.runs()} == {lost.id, *(run.id for run in runs)}
