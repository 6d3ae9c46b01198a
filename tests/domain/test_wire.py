from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

import numpy as np
import orjson
import pytest

from verl_lab.domain.wire import (
    EventRecord,
    Header,
    MetricRecord,
    decode_event,
    decode_header,
    decode_metrics,
    encode_event,
    encode_header,
    encode_metrics,
)
from verl_lab.errors import FormatError

if TYPE_CHECKING:
    import random
    from pathlib import Path

HEADER = Header("20260101-120000-grpo-ab12", 2, 4242, 987654321, "3f1c0f6e-7f0b-4f7c-9f55-0a1b2c3d4e5f")


def bits(value: float) -> bytes:
    return struct.pack("<d", value)


def same(found: dict[str, float], expected: dict[str, float]) -> bool:
    return {name: bits(value) for name, value in found.items()} == {
        name: bits(value) for name, value in expected.items()
    }


def test_metrics_of_format_1_are_read_as_they_were_recorded(recordings: Path):
    lines = (recordings.parent / "wire-v1" / "metrics.jsonl").read_bytes().splitlines()
    assert decode_header(lines[0]) == HEADER
    found = [decode_metrics(line) for line in lines[1:]]
    assert [(r.seq, r.step, r.time) for r in found] == [
        (0, 0, 1767268800.25), (1, 1, 1767268801.5), (2, 2, None), (3, 2, 1767268800.0),
    ]  # fmt: skip
    expected = [
        {"val-core/add/acc/mean@1": 0.0, "val-aux/num_turns/max": 2.0},
        {
            "actor/loss": 0.1, "actor/grad_norm": math.nan, "critic/max": math.inf, "critic/min": -math.inf,
            "actor/lr": 1e-300, "big": 1.7976931348623157e308, "minus_zero": -0.0, "flag": 1.0,
        },
        {"actor/loss": 5e-324, "é🦊 <b>": 3.0, "7": 1.5},
        {},
    ]  # fmt: skip
    assert all(same(record.data, data) for record, data in zip(found, expected, strict=True))
    assert [r.rejected for r in found] == [
        {}, {}, {"text": "str is no number", "nested": "dict is no number", "nothing": "NoneType is no number"}, {},
    ]  # fmt: skip


def test_events_of_format_1_are_read_as_they_were_recorded(recordings: Path):
    lines = (recordings.parent / "wire-v1" / "events.jsonl").read_bytes().splitlines()
    assert decode_header(lines[0]) == HEADER
    begun = {"total_steps": 30, "resumed_from": 10, "platform": "cpu", "versions": {"verl": "0.9.1"}}
    failed = {"callback": "mine.Callback", "hook": "on_step_end", "error": "ValueError: é\n<script>", "traceback": "…"}
    assert [decode_event(line) for line in lines[1:]] == [
        EventRecord(0, 1767268799.0, "attempt_started", None, "supervisor", {}),
        EventRecord(0, 1767268800.0, "train_begin", None, "trainer", begun),
        EventRecord(1, 1767268800.5, "callback_failed", 11, "trainer", failed),
        EventRecord(
            2, None, "attempt_ended", None, "supervisor", {"exit_code": 137, "state": "failed", "reason": None}
        ),
    ]


def test_any_float_comes_back_in_the_same_bits(dice: random.Random):
    for _ in range(2000):
        value = struct.unpack("<d", dice.randbytes(8))[0]
        found = decode_metrics(encode_metrics(1, 2, 3.0, {"a": value}))
        assert found.data["a"] == value or (math.isnan(value) and math.isnan(found.data["a"]))
        assert math.isnan(value) or bits(found.data["a"]) == bits(value)


def test_what_trainers_log_becomes_numbers_and_the_rest_is_named():
    class Broken:
        def __float__(self) -> float:
            raise RuntimeError("no")

    data = {
        "numpy": np.float32(0.5), "array": np.array(2.0), "int": 2**70, "bool": np.True_, "many": np.zeros(2),
        "broken": Broken(), "bytes": b"1", "lone \ud800": 1.0, ("a", 1): 2.0,
    }  # fmt: skip
    found = decode_metrics(encode_metrics(0, 1, 1.0, data))
    assert found.data.pop("int") == 2.0**70
    assert {name: value for name, value in found.data.items() if "lone" not in name} == {
        "numpy": 0.5, "array": 2.0, "bool": 1.0, "('a', 1)": 2.0,
    }  # fmt: skip
    assert set(found.rejected) == {"many", "broken", "bytes"}
    assert any("lone" in name for name in found.data)


def test_a_record_is_one_line_whatever_it_holds():
    for content in (
        encode_header(Header("a\nb", 1, 2, 3, "c\r\n")),
        encode_metrics(1, 1, 1.0, {"a\nb": 1.0, "\u2028": 2.0}),
        encode_event(EventRecord(1, 1.0, "k", None, "s", {"x": "a\nb", "y": object(), "z": {1: 2**80}})),
    ):
        assert content.endswith(b"\n")
        assert content.count(b"\n") == 1
        orjson.loads(content)


@pytest.mark.parametrize(
    "line",
    [
        b"", b"{", b"[]", b"null", b"7", b'"x"', b"{}", b'{"step":1,"data":{}}', b"\xff",
        b'{"seq":1,"step":"1","data":{}}', b'{"seq":1,"step":1.0,"data":{}}',
        b'{"seq":1,"step":true,"data":{}}', b'{"seq":1,"step":1,"data":[]}',
        b'{"seq":1,"step":9223372036854775808,"data":{}}',
    ],
)  # fmt: skip
def test_a_line_that_is_no_metric_record_is_refused(line: bytes):
    with pytest.raises(FormatError):
        decode_metrics(line)


@pytest.mark.parametrize("line", [b"{}", b'{"kind":1,"seq":1}', b'{"kind":"","seq":1}', b'{"kind":"a\\u0000","seq":1}',
                                  b'{"kind":"a","seq":1.5}', b'{"kind":"a","seq":1,"source":7}'])  # fmt: skip
def test_a_line_that_is_no_event_is_refused(line: bytes):
    with pytest.raises(FormatError):
        decode_event(line)


def test_odd_times_and_data_of_a_record_are_put_right():
    assert decode_metrics(b'{"seq":1,"step":2,"time":"noon","data":{"a":1,"b":null}}').time is None
    assert decode_event(b'{"seq":1,"kind":"k","step":"x","data":7}') == EventRecord(1, None, "k", None, "trainer", {})
    assert decode_metrics(b'{"seq":1,"step":2,"data":{},"rejected":{"x":"why"}}') == MetricRecord(
        1, 2, None, {}, {"x": "why"}
    )


def test_a_newer_format_is_refused_with_what_to_do():
    with pytest.raises(FormatError, match="format 2") as caught:
        decode_header(b'{"verl_lab":2}')
    assert caught.value.hint == "Upgrade verl-lab."
    for line in (b'{"verl_lab":1}', b'{"verl_lab":"1"}', b'{"step":1}', b'{"verl_lab":1,"run":"a","attempt":"x"}'):
        with pytest.raises(FormatError):
            decode_header(line)
