"""TFRecord files: ``length (8 bytes), its checksum (4), data, checksum of the data (4)``, one after the other.

The checksum is a masked CRC-32C (tensorflow/core/lib/io/record_writer.cc, lib/hash/crc32c.h). It is
computed with numpy, for many records at once: byte by byte in Python it would take longer than all the rest.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING

import numpy as np

from verl_lab.stream.cursor import LONGEST_LINE_BYTES, Cursor, Lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

HEADER_BYTES = 12
# Scalars take a hundred bytes. What is longer than this holds pictures, text or a graph, and is not checked.
CHECKED_BYTES = 2**16

_FRAME_BYTES = 16
_EXCERPT_BYTES = 500
_LENGTH = struct.Struct("<Q")
_SUM = struct.Struct("<I")


def _table() -> NDArray[np.uint32]:
    one, polynomial = np.uint32(1), np.uint32(0x82F63B78)
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table[:] = (table >> one) ^ (table & one) * polynomial
    return table


_TABLE = _table()


def checksums(content: bytes, starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.uint32]:
    """Return the masked CRC-32C of stretches of ``content``; all arrays have shape ``(n,)``."""
    data = np.frombuffer(content, np.uint8)
    order = np.argsort(-sizes, kind="stable")
    begins, ends = starts[order], sizes[order]
    found = np.full(len(starts), 0xFFFFFFFF, np.uint32)
    for place in range(int(sizes.max(initial=0))):
        count = int(np.searchsorted(-ends, -place))  # those longer than ``place`` come first
        byte = data[begins[:count] + place]
        found[:count] = _TABLE[(found[:count] ^ byte) & 0xFF] ^ (found[:count] >> 8)
    found = ~found
    result = np.empty_like(found)
    result[order] = ((found >> 15) | (found << 17)) + np.uint32(0xA282EAD8)
    return result


def begins_with_record(content: bytes) -> bool:
    """Say whether ``content`` begins with a record's header."""
    return len(content) >= HEADER_BYTES and bool(_good_headers(content, np.zeros(1, np.int64))[0])


def read_records(cursor: Cursor, head: bytes, window: bytes) -> Lines:
    """Return the complete records after ``cursor``; a torn last one is left for the next time.

    A record whose data does not fit its checksum is set aside. Where a header does not, the
    beginning of the next record is searched for, and what lies between is set aside.
    """
    begin = cursor.offset - cursor.window_start
    if cursor.skipping:
        found = _next_record(window, begin)
        if found is None:
            return _given_up(cursor, head, window, begin, [])
        begin = found
    headers, is_broken = _headers(window, begin)
    whole = [at for at in headers if _end(window, at) <= len(window)]
    end = headers[len(whole)] if len(whole) < len(headers) else _end(window, whole[-1]) if whole else begin
    complete: list[tuple[int, bytes]] = []
    refused: list[tuple[int, bytes, str]] = []
    for at, fits in zip(whole, _good_data(window, whole), strict=True):
        data = window[at + HEADER_BYTES : _end(window, at) - _SUM.size]
        if fits:
            complete.append((cursor.window_start + at, data))
        else:
            refused.append((cursor.window_start + at, data[:_EXCERPT_BYTES], "The record does not fit its checksum."))
    place, text = cursor.window_start + end, window[end : end + _EXCERPT_BYTES]
    found = _next_record(window, end + 1) if is_broken else None
    if found is not None:
        refused.append((place, text, "Here no record begins."))
        return Lines(complete, refused, cursor.moved(head, window, found))
    if len(window) - end > LONGEST_LINE_BYTES and end == begin:
        refused.append((place, text, f"The record has no end within {LONGEST_LINE_BYTES} bytes."))
        return _given_up(cursor, head, window, end, refused)
    return Lines(complete, refused, cursor.moved(head, window, end))


def _headers(window: bytes, begin: int) -> tuple[list[int], bool]:
    """Return where records begin, and whether what follows the last of them is no beginning."""
    found: list[int] = []
    place = begin
    while place + HEADER_BYTES <= len(window):
        found.append(place)
        place = _end(window, place)
    good = _good_headers(window, np.array(found, np.int64))
    return (found, False) if good.all() else (found[: int(np.argmin(good))], True)


def _end(window: bytes, place: int) -> int:
    return place + _FRAME_BYTES + _length(window, place)


def _length(window: bytes, place: int) -> int:
    return _LENGTH.unpack_from(window, place)[0]


def _good_headers(window: bytes, places: NDArray[np.int64]) -> NDArray[np.bool_]:
    stored = np.array([_SUM.unpack_from(window, place + 8)[0] for place in places.tolist()], np.uint32)
    return checksums(window, places, np.full(len(places), 8, np.int64)) == stored


def _good_data(window: bytes, places: list[int]) -> NDArray[np.bool_]:
    sizes = np.array([_length(window, place) for place in places], np.int64)
    good = np.ones(len(places), bool)
    checked = np.flatnonzero(sizes <= CHECKED_BYTES)
    starts = np.array(places, np.int64)[checked] + HEADER_BYTES
    ends = (starts + sizes[checked]).tolist()
    stored = np.array([_SUM.unpack_from(window, end)[0] for end in ends], np.uint32)
    good[checked] = checksums(window, starts, sizes[checked]) == stored
    return good


def _next_record(window: bytes, begin: int) -> int | None:
    """Return where the next record begins, told by a header that fits its checksum."""
    step = 2**20
    for start in range(begin, len(window) - HEADER_BYTES + 1, step):
        places = np.arange(start, min(start + step, len(window) - HEADER_BYTES + 1), dtype=np.int64)
        stored = np.frombuffer(window, np.uint8)[places[:, None] + np.arange(8, 12)]
        fits = checksums(window, places, np.full(len(places), 8, np.int64)) == stored.copy().view("<u4").ravel()
        for place in places[fits].tolist():
            if _length(window, place) <= LONGEST_LINE_BYTES:
                return place
    return None


def _given_up(cursor: Cursor, head: bytes, window: bytes, end: int, refused: list[tuple[int, bytes, str]]) -> Lines:
    """Pass over what is there, but for what may be the beginning of a header."""
    passed = max(end, len(window) - HEADER_BYTES + 1)
    return Lines([], refused, cursor.moved(head, window, passed, skipping=True))
