"""TensorBoard's event files: one protocol buffer ``Event`` a record, of which the scalars are taken.

The fields read here (tensorflow/core/util/event.proto, framework/summary.proto, framework/tensor.proto)::

    Event    1 wall_time: double   2 step: int64   3 file_version: string   5 summary: Summary
    Summary  1 value: repeated Value
    Value    1 tag: string   2 simple_value: float   8 tensor: TensorProto
    Tensor   1 dtype: enum   4 tensor_content: bytes
             5 float_val   6 double_val   7 int_val   10 int64_val   11 bool_val

TensorBoard keeps scalars as float32, one event each; those of a step are put together again here.
"""

# ruff: noqa: PLR2004  the numbers of fields are named above; 0x80 marks that a number goes on

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.domain.wire import MetricRecord
from verl_lab.stream.formats.base import Parsed
from verl_lab.stream.tfrecord import CHECKED_BYTES, HEADER_BYTES, begins_with_record

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Value = int | bytes

LONGEST_BEGINNING_BYTES = 128  # of a file, to tell whether it is an event file

_DOUBLE = struct.Struct("<d")
_FLOAT = struct.Struct("<f")
_VERSION = b"brain.Event:"
_LARGEST = 2**62
# By TensorProto.dtype (tensorflow/core/framework/types.proto): float, double, int32, int64, bool, half.
_TYPES = {1: "<f4", 2: "<f8", 3: "<i4", 9: "<i8", 10: "?", 19: "<f2"}
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


def parse(records: Iterable[tuple[int, bytes]]) -> Parsed:
    """Read records of an event file: scalars of the same step that follow each other become one record."""
    found = Parsed()
    offset, step, time = 0, 0, None
    data: dict[str, float] = {}
    for place, content in records:
        if len(content) > CHECKED_BYTES:
            continue
        try:
            event_step, event_time, scalars = decode(content)
        except (ValueError, IndexError, struct.error, TypeError) as error:
            found.refuse(place, content, f"The record is no event: {error}.")
            continue
        if not scalars:
            continue
        if data and (event_step != step or not data.keys().isdisjoint(scalars)):
            found.records.append((offset, MetricRecord(offset, step, time, data)))
            data = {}
        if not data:
            offset, step, time = place, event_step, event_time
        data.update(scalars)
    if data:
        found.records.append((offset, MetricRecord(offset, step, time, data)))
    return found


def begins(content: bytes) -> bool:
    """Say whether a file that begins with ``content`` is an event file."""
    return begins_with_record(content) and _VERSION in content[HEADER_BYTES:LONGEST_BEGINNING_BYTES]


def decode(content: bytes) -> tuple[int, float | None, dict[str, float]]:
    """Return an event's step, time and scalars."""
    step, time = 0, None
    scalars: dict[str, float] = {}
    for number, value in _fields(content):
        if number == 1 and isinstance(value, bytes):
            time = _DOUBLE.unpack(value)[0]
        elif number == 2 and isinstance(value, int):
            step = value - 2**64 if value >= 2**63 else value
        elif number == 5 and isinstance(value, bytes):
            for inner, one in _fields(value):
                if inner == 1 and isinstance(one, bytes):
                    _take_scalar(one, scalars)
    if abs(step) >= _LARGEST:
        raise ValueError(f"its step is {step}")
    return step, time, scalars


def _take_scalar(content: bytes, scalars: dict[str, float]) -> None:
    tag, number = "", None
    for field, value in _fields(content):
        if field == 1 and isinstance(value, bytes):
            tag = value.decode()
        elif field == 2 and isinstance(value, bytes):
            number = float(_FLOAT.unpack(value)[0])
        elif field == 8 and isinstance(value, bytes):
            number = _scalar_of(value)
    if tag and number is not None:
        scalars[tag] = number


def _scalar_of(tensor: bytes) -> float | None:
    """Return the number a tensor holds; None if it holds none or several."""
    kind, packed = 0, b""
    numbers: list[float] = []
    for field, value in _fields(tensor):
        if field == 1 and isinstance(value, int):
            kind = value
        elif field == 4 and isinstance(value, bytes):
            packed = value
        elif field in (5, 6) and isinstance(value, bytes):
            numbers.extend(np.frombuffer(value, "<f4" if field == 5 else "<f8").tolist())
        elif field in (7, 10, 11):
            found = [value] if isinstance(value, int) else list(_varints(value))
            numbers.extend(float(n - 2**64 if n >= 2**63 else n) for n in found)
    if packed and kind in _TYPES:
        numbers = np.frombuffer(packed, _TYPES[kind]).astype(float).tolist()
    return numbers[0] if len(numbers) == 1 else None


def _fields(content: bytes) -> Iterator[tuple[int, Value]]:
    """Give the fields of a message in order: numbers as int, everything else as bytes."""
    place, size = 0, len(content)
    while place < size:
        key, place = _varint(content, place)
        kind = key & 7
        if kind == _VARINT:
            value, place = _varint(content, place)
            yield key >> 3, value
            continue
        if kind == _FIXED64:
            length = 8
        elif kind == _FIXED32:
            length = 4
        elif kind == _BYTES:
            length, place = _varint(content, place)
        else:
            raise ValueError(f"it has a field of the unknown kind {kind}")
        if place + length > size:
            raise ValueError("a field is longer than the record")
        yield key >> 3, content[place : place + length]
        place += length


def _varints(content: bytes) -> Iterator[int]:
    place = 0
    while place < len(content):
        value, place = _varint(content, place)
        yield value


def _varint(content: bytes, place: int) -> tuple[int, int]:
    value = content[place]
    place += 1
    if value < 0x80:
        return value, place
    value &= 0x7F
    for shift in range(7, 70, 7):
        byte = content[place]
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & (2**64 - 1), place
    raise ValueError("a number has no end")
