from __future__ import annotations

import math
from typing import TYPE_CHECKING

import orjson

from verl_lab.stream.formats import ours, verl_console, verl_file

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path


def lines(content: bytes) -> list[tuple[int, bytes]]:
    found, place = [], 0
    for line in content.split(b"\n"):
        found.append((place, line))
        place += len(line) + 1
    return found


def test_console_and_file_log_of_one_run_give_the_same_numbers(recordings: Path):
    by_console = verl_console.parse(lines((recordings / "grpo-30-steps.console.log").read_bytes()))
    by_file = verl_file.parse(lines((recordings / "grpo-30-steps.jsonl").read_bytes()))
    assert [r.step for _, r in by_console.records] == [r.step for _, r in by_file.records] == list(range(31))
    for (_, printed), (_, logged) in zip(by_console.records, by_file.records, strict=True):
        assert printed.rejected == logged.rejected == {}
        assert printed.data == logged.data


def test_values_are_read_as_python_prints_them():
    text = (
        "\x1b[36m(TaskRunnerV1 pid=7)\x1b[0m step:3 - a:np.float64(0.1) - b:nan - c:-inf - d:np.float32(-inf)"
        " - e:np.int64(-2) - f:1e-08 - g:True - h:np.False_ - i/j@1:1. - k:tensor(2.5)"
    )
    record = verl_console.decode(9, text.encode())
    assert record is not None
    assert (record.seq, record.step, record.time, record.rejected) == (9, 3, None, {})
    assert math.isnan(record.data.pop("b"))
    assert record.data == {
        "a": 0.1, "c": -math.inf, "d": -math.inf, "e": -2.0, "f": 1e-8, "g": 1.0, "h": 0.0, "i/j@1": 1.0, "k": 2.5,
    }  # fmt: skip


def test_what_stands_behind_a_value_costs_that_value_only():
    record = verl_console.decode(0, b"step:1 - a:1.0 - b:2.0 [repeated 2x across cluster] (Ray deduplicates)")
    assert record is not None
    assert record.data == {"a": 1.0, "b": 2.0}
    record = verl_console.decode(0, b"Training:  10%|#  | 1/10\rstep:1 - a:1.0 - b:2.0Traceback (most recent")
    assert record is not None
    assert record.data == {"a": 1.0}
    assert set(record.rejected) == {"b"}


def test_everything_else_in_a_console_is_ignored():
    noise = [
        "step:",
        "step:1",
        "footstep:1 - a:1",
        "step:x - a:1",
        "global_step:5 - a:1.0",
        "step:1 - nothing here",
        "",
    ]
    assert verl_console.parse([(0, line.encode()) for line in noise]).records == []


def test_null_of_verls_file_log_is_nan():
    found = verl_file.parse(lines(b'{"step":1,"data":{"a":null,"b":2,"c":"x","d":[1],"e":true}}\n'))
    ((_, record),) = found.records
    assert math.isnan(record.data.pop("a"))
    assert record.data == {"b": 2.0, "e": 1.0}
    assert set(record.rejected) == {"c", "d"}


def fuzzed(dice: random.Random, line: bytes) -> bytes:  # noqa: PLR0911  one way of spoiling a line each
    kind = dice.randrange(7)
    if kind == 0:
        return bytes(dice.randrange(256) for _ in range(dice.randrange(60))).replace(b"\n", b"")
    if kind == 1:
        at = dice.randrange(len(line))
        return line[:at]
    if kind == 2:
        at = dice.randrange(len(line))
        return line[:at] + bytes([dice.choice([x for x in range(256) if x != 10])]) + line[at + 1 :]
    if kind == 3:
        at, to = sorted((dice.randrange(len(line)), dice.randrange(len(line))))
        return line[:at] + line[to:]
    hostile = [
        "1e999", "-1e999", "null", '"NaN"', '"Infinity"', '"x"', "[1]", "{}", "true", "18446744073709551615",
        "123456789012345678901234567890", '"\\u0000"', '"é🦊"', "-0.0", "[" * 300 + "]" * 300,
    ]  # fmt: skip
    value = dice.choice(hostile).encode()
    if kind == 4:
        return b'{"seq":1,"step":%s,"time":%s,"data":{"a":%s,"good":1.0}}' % (dice.choice([b"1", value]), value, value)
    if kind == 5:
        return b'{"step":2,"data":{"x":%s,"good":1.0}}' % value
    return b"step:3 - x:%s - good:1.0" % value


def test_no_line_whatever_it_holds_raises_and_the_rest_of_its_step_is_kept(
    rounds: Callable[[int], int], dice: random.Random
):
    good = b'{"seq":1,"step":1,"time":1.0,"data":{"a":0.5,"b":"NaN"},"rejected":{"c":"no number"}}'
    event = b'{"seq":1,"time":1.0,"kind":"train_begin","step":null,"source":"trainer","data":{"resumed_from":3}}'
    parsers = (ours.parse_metrics, ours.parse_events, verl_file.parse, verl_console.parse)
    for number in range(rounds(100_000)):
        line = fuzzed(dice, dice.choice([good, event, b"step:1 - a:1.0 - b:np.float64(2.0)"]))
        for parse in parsers:
            found = parse([(number, line)])
            assert len(found.records) + len(found.events) + len(found.bad) <= 1
            for _, record in found.records:
                assert all(type(value) is float for value in record.data.values()) or parse is not ours.parse_metrics
                if b'"good":1.0}}' in line:
                    assert record.data["good"] == 1.0
            for _, read in found.events:
                orjson.dumps(read.data)
