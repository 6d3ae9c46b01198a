"""TensorBoard's event files: what its own writers write is read back, also while it grows, torn or damaged."""

# pyright: reportAttributeAccessIssue=none
# (protocol buffers make their classes when they are imported)

from __future__ import annotations

import math
import struct
import time
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest
from tensorboard.compat.proto import event_pb2, summary_pb2, tensor_pb2, tensor_shape_pb2
from tensorboard.compat.tensorflow_stub.pywrap_tensorflow import masked_crc32c
from tensorboard.summary.writer.event_file_writer import EventFileWriter

from verl_lab import Lab
from verl_lab.stream import find_logs
from verl_lab.stream.cursor import PROBE_BYTES, Cursor
from verl_lab.stream.formats import tensorboard
from verl_lab.stream.tfrecord import checksums, read_records
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from stream.conftest import Reading


def event(step: int, time_: float = 1.0, **scalars: float) -> bytes:
    values = [summary_pb2.Summary.Value(tag=tag, simple_value=value) for tag, value in scalars.items()]
    return event_pb2.Event(wall_time=time_, step=step, summary=summary_pb2.Summary(value=values)).SerializeToString()


def framed(*contents: bytes) -> bytes:
    found = b""
    for content in contents:
        size = struct.pack("<Q", len(content))
        found += size + struct.pack("<I", masked_crc32c(size)) + content + struct.pack("<I", masked_crc32c(content))
    return found


def beginning() -> bytes:
    return framed(event_pb2.Event(wall_time=1.0, file_version="brain.Event:2").SerializeToString())


def drain(content: bytes, cursor: Cursor):
    head, window = content[:PROBE_BYTES], content[cursor.window_start :]
    assert cursor.holds(head, window)
    return read_records(cursor, head, window)


def test_checksums_are_tensorflows(dice: random.Random):
    parts = [dice.randbytes(size) for size in (0, 1, 7, 8, 64, 300, 300, 5000)]
    starts = np.cumsum([0, *map(len, parts[:-1])])
    found = checksums(b"".join(parts), starts, np.array([len(part) for part in parts]))
    assert found.tolist() == [masked_crc32c(part) for part in parts]


def test_file_console_and_tensorboard_logs_of_one_run_show_the_same_curves(tmp_path: Path, recordings: Path):
    from torch.utils.tensorboard import SummaryWriter

    log = recordings / "grpo-30-steps.jsonl"
    writer = SummaryWriter(str(tmp_path / "project" / "experiment"))  # as verl does (verl/utils/tracking.py)
    for line in log.read_bytes().splitlines():
        record = orjson.loads(line)
        for name, value in record["data"].items():
            writer.add_scalar(name, math.nan if value is None else value, record["step"])
    writer.close()
    with Lab(tmp_path / "home") as lab:
        by_file = lab.attach(log)
        by_console = lab.attach(recordings / "grpo-30-steps.console.log")
        by_events = lab.attach(tmp_path / "project")
        assert by_events.folder == str(tmp_path / "project" / "experiment")
        assert by_file.metric_names() == by_console.metric_names() == by_events.metric_names()
        for name in by_file.metric_names():
            steps, values = by_file.metrics(name)
            for other in (by_console, by_events):
                assert other.metrics(name)[0].tolist() == steps.tolist()
            assert by_console.metrics(name)[1].tobytes() == values.tobytes()
            assert by_events.metrics(name)[1].tobytes() == values.astype(np.float32).astype(np.float64).tobytes()
        assert by_events.row.step == by_file.row.step == 30
        assert len(lab.store.metrics.times(by_events.id)) == 31


@pytest.mark.parametrize("what", ["file", "folder"])
def test_scalars_are_followed_while_a_writer_writes_them(
    what: str, reading: Reading, tmp_path: Path, until: Callable[..., None]
):
    writer = EventFileWriter(str(tmp_path / "tb"))
    writer.flush()
    (file,) = (tmp_path / "tb").iterdir()
    reading.follow(file if what == "file" else tmp_path / "tb", kind="attached")
    for step in range(1, 60):
        for name in ("a", "b", "c"):
            summary = summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag=name, simple_value=step / 4)])
            writer.add_event(event_pb2.Event(wall_time=100.0 + step, step=step, summary=summary))
        writer.flush()
        until(lambda step=step: reading.read("c").get(step) == step / 4)
    writer.close()
    for name in ("a", "b", "c"):
        assert reading.read(name) == {step: step / 4 for step in range(1, 60)}
    assert reading.store.metrics.times("run-1")[-1] == 159.0
    assert reading.store.quarantine.count("run-1") == 0


def test_events_are_never_read_torn_and_never_lost_wherever_the_file_is_cut(
    rounds: Callable[[int], int], dice: random.Random
):
    content = beginning() + framed(*(event(step, a=step, **{f"m{step % 3}": -step}) for step in range(1, 8)))
    for _ in range(rounds(1000)):
        cuts = sorted(dice.sample(range(len(content) + 1), 3))
        cursor, found, refused = Cursor(), [], []
        for cut in [*cuts, len(content)]:
            got = drain(content[:cut], cursor)
            found += got.complete
            refused += got.refused
            cursor = Cursor.restore(got.cursor.offset, got.cursor.fingerprint)
        records = tensorboard.parse(found).records
        assert [record.data["a"] for _, record in records] == list(range(1, 8))
        assert (refused, cursor.offset) == ([], len(content))


def test_a_damaged_byte_costs_one_event_and_never_gives_a_wrong_value(
    rounds: Callable[[int], int], dice: random.Random
):
    begin = beginning()
    content = begin + framed(*(event(step, a=step * 1.25) for step in range(1, 40)))
    for _ in range(rounds(1000)):
        spoilt = bytearray(content)
        place = dice.randrange(len(begin), len(content))
        spoilt[place] ^= 1 + dice.randrange(255)
        cursor, found, refused = Cursor(), [], []
        while True:
            got = drain(bytes(spoilt), cursor)
            found += got.complete
            refused += got.refused
            if got.cursor == cursor:
                break
            cursor = got.cursor
        read = {record.step: record.data["a"] for _, record in tensorboard.parse(found).records}
        assert all(value == step * 1.25 for step, value in read.items())
        last_is_hit = place >= len(content) - len(framed(event(39, a=39 * 1.25)))
        assert set(range(1, 40)) - set(read) in [{step} for step in range(1, 40)]
        assert len(refused) == 1 or last_is_hit


def test_a_record_without_end_is_passed_over_and_the_next_one_found(reading: Reading, tmp_path: Path):
    file = tmp_path / "events"
    good, endless = framed(event(1, a=1.0)), struct.pack("<Q", 2**60)
    endless += struct.pack("<I", masked_crc32c(endless)) + bytes(40 * 2**20)
    file.write_bytes(beginning() + good + endless)
    reading.follow(file, kind="attached")
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0}
    with file.open("ab") as more:
        more.write(framed(event(2, a=2.0)))
    reading.reader.sync("run-1")
    assert reading.read("a") == {1: 1.0, 2: 2.0}
    (bad,) = reading.store.quarantine.read("run-1")
    assert bad.reason.startswith("The record has no end")


def test_a_new_file_in_the_folder_is_a_new_attempt_that_masks_the_stale_future(
    reading: Reading, another_reading: Callable[[], Reading], tmp_path: Path, until: Callable[..., None]
):
    folder = tmp_path / "tb"
    folder.mkdir()
    (folder / "events.out.tfevents.100.a").write_bytes(
        beginning() + framed(*(event(step, a=1.0, old=1.0) for step in range(1, 11)))
    )
    (folder / "hparams.yaml").write_text("lr: 1\n")
    both = [reading, another_reading()]
    for one in both:
        one.follow(folder, kind="attached")
    until(lambda: all(len(one.steps_heard()) == 10 for one in both))
    second = folder / "events.out.tfevents.200.a"
    second.write_bytes(b"")
    time.sleep(0.2)
    second.write_bytes(beginning() + framed(event(6, a=2.0), event(7, a=2.0)))
    until(lambda: all(len(one.steps_heard()) == 12 for one in both))
    expected = dict.fromkeys(range(1, 6), 1.0) | {6: 2.0, 7: 2.0}
    for one in [*both, another_reading()]:
        one.follow(folder, kind="attached")
        one.reader.sync("run-1")
        assert one.read("a") == expected
        assert set(one.read("old")) == set(range(1, 6))
    assert {attempt: file for attempt, file in reading.store.positions("run-1")} == {  # noqa: C416  pairs are the keys
        1: "events.out.tfevents.100.a",
        2: "events.out.tfevents.200.a",
    }
    assert reading.rows_stored() == 12


def test_scalars_written_as_tensors_are_read(tmp_path: Path):
    shape = tensor_shape_pb2.TensorShapeProto()
    tensors = {
        "float": tensor_pb2.TensorProto(dtype=1, float_val=[0.5], tensor_shape=shape),
        "double": tensor_pb2.TensorProto(dtype=2, double_val=[0.1], tensor_shape=shape),
        "packed": tensor_pb2.TensorProto(dtype=2, tensor_content=struct.pack("<d", 1 / 3), tensor_shape=shape),
        "int": tensor_pb2.TensorProto(dtype=9, int64_val=[-7], tensor_shape=shape),
        "bool": tensor_pb2.TensorProto(dtype=10, bool_val=[True], tensor_shape=shape),
        "histogram": tensor_pb2.TensorProto(dtype=2, double_val=[1.0, 2.0, 3.0]),
        "text": tensor_pb2.TensorProto(dtype=7, string_val=[b"hello"]),
    }
    values = [summary_pb2.Summary.Value(tag=tag, tensor=tensor) for tag, tensor in tensors.items()]
    content = event_pb2.Event(wall_time=5.0, step=3, summary=summary_pb2.Summary(value=values)).SerializeToString()
    step, at, scalars = tensorboard.decode(content)
    assert (step, at) == (3, 5.0)
    assert scalars == {"float": 0.5, "double": 0.1, "packed": 1 / 3, "int": -7.0, "bool": 1.0}


def test_odd_events_are_taken_as_they_are_or_set_aside():
    big = event_pb2.Event(step=5, summary=summary_pb2.Summary(value=[summary_pb2.Summary.Value(tag="x" * 70_000)]))
    contents = [
        event(-3, a=math.inf),
        event(2, a=math.nan),
        event(2, b=1.0),
        event(2, b=2.0),
        event_pb2.Event(step=4, graph_def=b"graph").SerializeToString(),
        big.SerializeToString(),
        b"\x0b\xff\xff",
        b"\x10" + b"\xff" * 12,
        event(2**62, a=1.0),
        b"",
    ]
    found = tensorboard.parse(enumerate(contents))
    assert [(record.step, list(record.data)) for _, record in found.records] == [
        (-3, ["a"]),
        (2, ["a", "b"]),
        (2, ["b"]),
    ]
    assert [bad.offset for bad in found.bad] == [6, 7, 8]


def test_no_event_whatever_it_holds_raises(rounds: Callable[[int], int], dice: random.Random):
    good = event(7, a=1.5, b=-2.0)
    for number in range(rounds(100_000)):
        content = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            content[dice.randrange(len(content))] = dice.randrange(256)
        found = tensorboard.parse([(number, bytes(content[: dice.randrange(len(content) + 1)]))])
        assert len(found.records) + len(found.bad) <= 1


def test_event_files_are_known_by_content_and_a_folder_of_them_is_one_log(tmp_path: Path):
    folder = tmp_path / "logs" / "run"
    folder.mkdir(parents=True)
    for name in ("a.bin", "b.bin"):
        (folder / name).write_bytes(beginning() + framed(event(1, a=1.0)))
    assert find_logs(LocalHost(), str(folder / "a.bin")) == [(str(folder / "a.bin"), "tensorboard")]
    assert find_logs(LocalHost(), str(tmp_path)) == [(str(folder), "tensorboard")]
