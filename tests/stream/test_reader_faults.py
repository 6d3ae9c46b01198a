from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from stream.conftest import Reading, Trainer

PROGRAM = Path(__file__).parent / "programs" / "killed_readers.py"


def line(step: int, **data: float) -> bytes:
    return orjson.dumps({"step": step, "data": data}) + b"\n"


@pytest.mark.parametrize("kind", ["run", "attached"])
def test_killed_readers_lose_and_double_nothing(
    kind: str, reading: Reading, trainer: Trainer, url: str, rounds: Callable[[int], int], dice: random.Random
):
    log = trainer.attempt.metrics
    if kind == "attached":
        log = trainer.layout.folder.parent / "verl.jsonl"
        log.touch()
    path = log if kind == "attached" else trainer.layout.folder
    reading.follow(path, kind=kind)
    reading.reader.unfollow("run-1")
    argv = [sys.executable, str(PROGRAM), url, str(path), kind, str(max(1, rounds(1000) // 2)), kind]
    killer = subprocess.Popen(argv, stdout=subprocess.PIPE)
    step = 0
    with log.open("ab", buffering=0) as file:
        while killer.poll() is None:
            content = b""
            for _ in range(dice.choice([1, 1, 5, 300])):
                step += 1
                record = {"step": step, "data": {"a": step / 7, "b": float(step % 5)}}
                if kind == "run":
                    record |= {"seq": step, "time": 1.0}
                content += orjson.dumps(record) + b"\n"
            cut = dice.randrange(len(content))
            file.write(content[:cut])
            time.sleep(dice.uniform(0, 0.02))
            file.write(content[cut:])
    said, _ = killer.communicate()
    assert killer.returncode == 0
    assert len(said.splitlines()) == max(1, rounds(1000) // 2)
    before = reading.rows_stored()
    reading.follow(path, kind=kind)
    reading.reader.sync("run-1")
    assert before > 0
    assert reading.read("a") == {n: n / 7 for n in range(1, step + 1)}
    assert reading.rows_stored() == step
    assert reading.store.quarantine.count("run-1") == 0


def replace_file(path: Path, content: bytes, how: str) -> None:
    if how == "in place":  # same inode
        with path.open("r+b") as file:
            file.truncate(0)
            file.write(content)
    elif how == "renamed over":
        beside = path.with_suffix(".new")
        beside.write_bytes(content)
        beside.replace(path)
    else:  # rotated: deleted or moved away, and made anew, often with the same inode
        path.unlink()
        path.write_bytes(content)


@pytest.mark.parametrize("reader", ["running", "down"])
def test_a_replaced_log_begins_a_new_attempt_and_nothing_is_mixed(
    reader: str,
    another_reading: Callable[[], Reading],
    tmp_path: Path,
    rounds: Callable[[int], int],
    dice: random.Random,
):
    reading = another_reading()
    for number in range(max(1, rounds(1000) // 4)):
        log, run_id = tmp_path / f"{number}.jsonl", f"run-{number}"
        old = b"".join(line(step, old=dice.random(), a=1.0) for step in range(1, dice.randrange(2, 60)))
        log.write_bytes(old)
        reading.follow(log, run_id, "attached")
        reading.reader.sync(run_id)
        values = {step: dice.random() for step in range(1, dice.randrange(2, 60))}
        new = b"".join(line(step, new=value, a=2.0) for step, value in values.items())
        if dice.random() < 0.4:  # the same size: fill up with a metric of many digits
            filler = max(0, len(old) - len(new) - len(b'{"step":999,"data":{"":0}}\n'))
            new += b'{"step":999,"data":{"%s":0}}\n' % (b"x" * min(filler, 400)) if filler else b""
        if reader == "down":
            reading.reader.unfollow(run_id)
        replace_file(log, new, dice.choice(["in place", "renamed over", "rotated"]))
        if reader == "down":
            reading.follow(log, run_id, "attached")
        reading.reader.sync(run_id)
        assert reading.read("new", run_id) == values
        assert reading.read("old", run_id) == {}
        assert set(reading.read("a", run_id).values()) == {2.0}
        assert [n for n, _ in reading.store.positions(run_id)] == [1, 2]
        reading.reader.unfollow(run_id)


def test_a_log_of_the_same_size_time_and_inode_is_noticed(reading: Reading, tmp_path: Path):
    log = tmp_path / "verl.jsonl"
    log.write_bytes(b"".join(line(step, a=0.25) for step in range(1, 100)))
    before = log.stat()
    reading.follow(log, "run-1", "attached")
    reading.reader.sync("run-1")
    with log.open("r+b") as file:
        file.write(log.read_bytes().replace(b"0.25", b"0.75"))
    os.utime(log, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = log.stat()
    assert (before.st_size, before.st_ino, before.st_mtime_ns) == (after.st_size, after.st_ino, after.st_mtime_ns)
    reading.reader.sync("run-1")
    assert set(reading.read("a").values()) == {0.75}


def test_the_background_thread_notices_a_log_that_verl_opened_anew(
    reading: Reading, tmp_path: Path, until: Callable[..., None]
):
    log = tmp_path / "verl.jsonl"
    log.write_bytes(b"".join(line(step, a=1.0) for step in range(1, 11)))
    reading.follow(log, "run-1", "attached")
    until(lambda: len(reading.read("a")) == 10)
    log.write_bytes(b"")  # verl opens its file log with "wb", also on a resume
    time.sleep(0.3)
    assert len(reading.read("a")) == 10
    with log.open("ab", buffering=0) as file:
        file.write(line(5, **{"val-core/acc": 0.5}))
        file.write(line(6, a=2.0))
    until(lambda: reading.read("a") == {1: 1.0, 2: 1.0, 3: 1.0, 4: 1.0, 5: 1.0, 6: 2.0})


def test_a_replaced_file_of_a_run_folder_is_read_again_within_its_attempt(reading: Reading, trainer: Trainer):
    for step in range(1, 300):
        trainer.log(step, a=1.0, old=1.0)
    reading.follow(trainer.layout.folder)
    reading.reader.sync("run-1")
    header = trainer.attempt.metrics.read_bytes().split(b"\n")[0] + b"\n"
    trainer.attempt.metrics.write_bytes(header.replace(b'"pid":', b'"pid":1'))
    trainer.log(1, a=2.0)
    reading.reader.sync("run-1")
    trainer.log(2, a=3.0)
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 2.0, 2: 3.0}
    assert reading.store.metrics.names("run-1") == ["a"]
    trainer.attempt.events.write_bytes(header)
    trainer.event("train_begin", resumed_from=0)
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 2.0, 2: 3.0}
    assert [e.kind for e in reading.store.events.read("run-1")] == ["train_begin"]


def test_two_readers_agree_on_a_replaced_log(
    reading: Reading, another_reading: Callable[[], Reading], tmp_path: Path, until: Callable[..., None]
):
    log = tmp_path / "verl.jsonl"
    log.write_bytes(b"".join(line(step, a=1.0) for step in range(1, 50)))
    both = [reading, another_reading()]
    for one in both:
        one.follow(log, "run-1", "attached")
    for one in both:
        until(lambda one=one: len(one.read("a")) == 49)
    for round_ in range(2, 12):
        replace_file(log, b"".join(line(step, a=float(round_)) for step in range(1, 40 + round_)), "renamed over")
        until(lambda round_=round_: set(reading.read("a").values()) == {float(round_)})
        until(lambda round_=round_: len(reading.read("a")) == 39 + round_)
    assert [n for n, _ in reading.store.positions("run-1")] == list(range(1, 12))


def test_a_ten_megabyte_line_is_read_and_one_without_end_is_passed_over(reading: Reading, tmp_path: Path):
    log = tmp_path / "verl.jsonl"
    wide = {f"m/{n:06}/{'x' * 40}": float(n) for n in range(20_000)}
    long = orjson.dumps({"step": 2, "data": {"a": 2.0}, "note": "y" * 10 * 2**20}) + b"\n"
    log.write_bytes(line(1, a=1.0, **wide) + long + b'{"step":3,"note":"' + b"z" * 40 * 2**20)
    reading.follow(log, "run-1", "attached")
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 2.0}
    assert len(reading.store.metrics.names("run-1")) == 20_001
    with log.open("ab") as file:
        file.write(b'"}\n' + line(4, a=4.0))
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 2.0, 4: 4.0}
    assert [q.reason.startswith("The line has no end") for q in reading.store.quarantine.read("run-1")] == [True]


def test_a_full_disk_delays_and_loses_nothing(reading: Reading, trainer: Trainer, url: str, until: Callable[..., None]):
    reading.follow(trainer.layout.folder)
    trainer.log(1, a=1.0)
    until(lambda: reading.steps_heard() == [1])
    wal = Path(url.removeprefix("sqlite:///") + "-wal")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    lines = b"".join(
        orjson.dumps({"seq": n, "step": n, "time": 1.0, "data": {f"m{k}": n / 3 for k in range(40)} | {"a": 1.0}})
        + b"\n"
        for n in range(2, 40)
    )
    trainer.attempt.metrics.with_suffix(".part").write_bytes(trainer.attempt.metrics.read_bytes() + lines)
    # A file that may not grow is what a full disk looks like from inside the process.
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size, limits[1]))
    try:
        trainer.attempt.metrics.with_suffix(".part").replace(trainer.attempt.metrics)
        until(lambda: any(u.error for u in reading.heard))
        assert reading.steps_heard() == [1]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    until(lambda: reading.steps_heard() == list(range(1, 40)))
    assert len(reading.read("m7")) == 38


def test_one_broken_run_among_many_leaves_the_others_alone(
    reading: Reading, tmp_path: Path, until: Callable[..., None], rounds: Callable[[int], int]
):
    count = rounds(1000)
    for n in range(count):
        log = tmp_path / f"{n}.jsonl"
        if n == 50:
            log.mkdir()
        else:
            log.write_bytes(line(1, a=float(n)))
        reading.follow(log, f"run-{n}", "attached")
    until(lambda: all(reading.read("a", f"run-{n}") == {1: float(n)} for n in range(count) if n != 50))
    until(lambda: {u.run_id for u in reading.heard if u.error} == {"run-50"})
    assert [t.name for t in threading.enumerate() if t.name.startswith("verl-lab-reader")] == ["verl-lab-reader-local"]
