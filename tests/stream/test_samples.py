"""Reading what a training host was measured to do: each sample once, by time, and apart from the metrics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import orjson
import pytest

from verl_lab.domain.wire import Header, encode_header, encode_metrics
from verl_lab.store import RunRow
from verl_lab.stream import FollowedRun, Reindexed, rebuild
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from verl_lab.transport.ssh import SshHost

    from .conftest import Reading, Trainer

CPU, MEMORY = "system/cpu_percent", "system/memory_percent"


class Sampler:
    """Writes samples as the sampler does."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer = trainer
        self.seq = 0
        self.path = trainer.attempt.system
        trainer.append(self.path, encode_header(Header(trainer.run_id, trainer.number, 1, 1, "boot")))

    def take(self, at: float, step: int, **data: float) -> None:
        named = {f"system/{name}": value for name, value in data.items()}
        self.trainer.append(self.path, encode_metrics(self.seq, step, at, named))
        self.seq += 1


def by_time(reading: Reading, name: str = CPU) -> dict[float, float]:
    found = reading.store.metrics.samples("run-1", name)
    return dict(zip(found.times.tolist(), found.values.tolist(), strict=True))


def test_samples_are_read_by_time_and_by_step(reading: Reading, trainer: Trainer):
    sampler = Sampler(trainer)
    for second in range(12):
        sampler.take(1000.0 + second, second // 4, cpu_percent=second, memory_percent=10 * second)
        if second % 4 == 3:
            trainer.log(1 + second // 4, loss=0.5)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert by_time(reading) == {1000.0 + second: second for second in range(12)}
    assert reading.read(CPU) == {0: 1.5, 1: 5.5, 2: 9.5}
    assert reading.read(MEMORY) == {0: 30, 1: 70, 2: 110}
    assert reading.store.metrics.series("run-1", CPU).times.tolist() == [1003, 1007, 1011]
    assert dict(zip(*map(list, reading.store.metrics.read("run-1", CPU, 1, 1)), strict=True)) == {1: 5.5}


def test_samples_are_no_metrics_of_the_training(reading: Reading, trainer: Trainer):
    sampler = Sampler(trainer)
    trainer.log(1, loss=0.5)
    sampler.take(5e9, 700, cpu_percent=1)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert reading.store.metrics.names("run-1") == ["loss"]
    assert reading.store.metrics.system_names("run-1") == [CPU]
    assert reading.store.metrics.times("run-1").tolist() == [1e9]
    assert (reading.row().step, reading.row().attempt) == (1, 1)
    assert dict(reading.row().last) == {"loss": 0.5}
    assert reading.steps_heard() == [1]
    assert reading.store.runs.ids() == ["run-1"]
    assert [row.id for row in reading.store.runs.list()] == ["run-1"]


def test_each_sample_is_read_once_however_many_read(
    reading: Reading,
    another_reading: Callable[[], Reading],
    trainer: Trainer,
    dice: random.Random,
    until: Callable[..., None],
):
    sampler = Sampler(trainer)
    others = [another_reading(), another_reading()]
    for one in (reading, *others):
        one.follow(trainer.layout.folder)
    for second in range(300):
        sampler.take(1000.0 + second, second // 9, cpu_percent=second)
        if dice.random() < 0.1:
            dice.choice([reading, *others]).reader.sync("run-1")
        if dice.random() < 0.02:
            others.append(another_reading())
            others[-1].follow(trainer.layout.folder)
    for one in (reading, *others):
        one.reader.sync("run-1")
        assert len(by_time(one)) == 300
    assert reading.rows_stored() == 300
    assert by_time(reading) == {1000.0 + second: second for second in range(300)}


def test_a_listener_is_told_that_there_are_new_samples(reading: Reading, trainer: Trainer, until: Callable[..., None]):
    sampler = Sampler(trainer)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    told = len(reading.heard)
    sampler.take(1000.0, 1, cpu_percent=1)
    until(lambda: len(reading.heard) > told)
    assert by_time(reading) == {1000.0: 1}


def test_samples_of_another_machine_are_read_as_they_come(
    reading: Reading, trainer: Trainer, ssh_host: SshHost, until: Callable[..., None]
):
    sampler = Sampler(trainer)
    path = str(trainer.layout.folder)
    reading.store.runs.upsert(RunRow(id="run-1", name="far", folder=path, host=ssh_host.name))
    reading.reader.follow(FollowedRun("run-1", ssh_host, path))
    for second in range(5):
        sampler.take(1000.0 + second, second, cpu_percent=second)
        until(lambda taken=second + 1: len(by_time(reading)) == taken)
    reading.reader.unfollow("run-1")
    assert by_time(reading) == {1000.0 + second: second for second in range(5)}


def test_bad_lines_are_set_aside_and_foreign_names_left_out(reading: Reading, trainer: Trainer):
    sampler = Sampler(trainer)
    sampler.take(1000.0, 1, cpu_percent=1)
    trainer.append(sampler.path, b'garbage\n{"seq":1,"step":1,"time":null,"data":{"system/cpu_percent":3}}\n')
    trainer.append(sampler.path, b'{"seq":2,"step":1,"time":1e300,"data":{"system/cpu_percent":3}}\n')
    trainer.append(sampler.path, orjson.dumps({"seq": 3, "step": 1, "time": 1002.0, "data": {"loss": 9, CPU: 4}}))
    trainer.append(sampler.path, b"\n")
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert by_time(reading) == {1000.0: 1, 1002.0: 4}
    assert reading.read("loss") == {}
    assert reading.store.metrics.names("run-1") == []


def test_samples_of_steps_that_a_resume_has_undone_stay_by_time_only(reading: Reading, trainer: Trainer):
    sampler = Sampler(trainer)
    for step in range(6):
        sampler.take(1000.0 + step, step, cpu_percent=step)
    trainer.begin(resumed_from=3)
    sampler = Sampler(trainer)
    sampler.take(2000.0, 0, cpu_percent=50)  # while it loads
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert reading.read(CPU) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 4, 5: 5}
    sampler.take(2001.0, 4, cpu_percent=40)
    reading.reader.sync("run-1")
    assert reading.read(CPU) == {0: 0, 1: 1, 2: 2, 3: 3, 4: 40}
    assert reading.store.metrics.series("run-1", CPU).attempts.tolist() == [1, 1, 1, 1, 2]
    assert len(by_time(reading)) == 8
    first = reading.store.metrics.of_attempt("run-1", CPU, 1)
    assert dict(zip(first.steps.tolist(), first.values.tolist(), strict=True)) == {step: step for step in range(6)}
    frame = reading.store.metrics.sample_frame("run-1", [CPU]).to("numpy")
    assert frame["attempt"].tolist() == [1] * 6 + [2] * 2
    assert frame["step"].tolist() == [0, 1, 2, 3, 4, 5, 0, 4]


def test_indexing_anew_keeps_the_samples(reading: Reading, trainer: Trainer):
    sampler = Sampler(trainer)
    trainer.log(1, loss=0.5)
    for second in range(5):
        sampler.take(1000.0 + second, 1, cpu_percent=second)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    reading.reader.unfollow("run-1")
    sampler.take(1005.0, 1, cpu_percent=5)
    done = Reindexed()
    rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), done)
    assert (done.rebuilt, done.kept) == (["run-1"], {})
    assert by_time(reading) == {1000.0 + second: second for second in range(6)}
    assert reading.rows_stored() == 7
    reading.follow(trainer.layout.folder)
    sampler.take(1006.0, 1, cpu_percent=6)
    reading.reader.sync("run-1")
    assert len(by_time(reading)) == 7
    assert reading.store.runs.ids() == ["run-1"]


def test_a_reader_goes_on_with_samples_while_others_index_anew(
    reading: Reading, trainer: Trainer, until: Callable[..., None]
):
    sampler = Sampler(trainer)
    trainer.log(1, loss=0.5)
    reading.follow(trainer.layout.folder)
    for second in range(40):
        sampler.take(1000.0 + second, 1, cpu_percent=second)
        if second % 10 == 5:
            rebuild(reading.store, FollowedRun("run-1", LocalHost(), str(trainer.layout.folder)), Reindexed())
    reading.reader.sync("run-1")
    until(lambda: len(by_time(reading)) == 40)
    assert reading.rows_stored() == 41


def test_a_run_without_samples_has_none(reading: Reading, trainer: Trainer):
    trainer.log(1, loss=0.5)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    assert reading.store.metrics.system_names("run-1") == []
    assert reading.read(CPU) == {}
    assert len(reading.store.metrics.sample_frame("run-1", []).to("numpy")["time"]) == 0


def test_a_file_of_a_newer_format_is_refused(reading: Reading, trainer: Trainer):
    Sampler(trainer)
    trainer.append(trainer.attempt.system, encode_header(Header("run-1", 1, 1, 1, "boot", version=2)))
    reading.follow(trainer.layout.folder)
    with pytest.raises(Exception, match="is in format 2"):
        reading.reader.sync("run-1")
