"""Numbers as bytes: float64 and int64, little-endian, bit for bit."""

from __future__ import annotations

import sys
from array import array
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

_STRIDED_BYTES = 16
_WIDE = 2**31  # below, nothing here comes near the end of int64
_SWAP = sys.byteorder == "big"


def pack_floats(values: Iterable[float]) -> bytes:
    """Return float64 bytes; ints and bools are converted."""
    packed = array("d", values)
    if _SWAP:
        packed.byteswap()
    return packed.tobytes()


def unpack_floats(content: bytes) -> NDArray[np.float64]:
    """Return a view of float64 bytes, shape ``(n,)``."""
    return np.frombuffer(content, "<f8")


def join_floats(parts: Iterable[bytes]) -> NDArray[np.float64]:
    """Return one writable array of many packed ones."""
    return np.frombuffer(bytearray().join(parts), "<f8")


def pack_ints(values: NDArray[np.int64]) -> bytes:
    """Return int64 bytes; of three and more that are evenly spaced only the first and the stride."""
    if len(values) > 2:  # noqa: PLR2004  as many bytes as first and stride
        stride = np.diff(values)  # wraps around as int64 does, and so does the way back
        if (stride == stride[0]).all():
            return np.array([values[0], stride[0]], "<i8").tobytes()
    return values.astype("<i8").tobytes()


def unpack_ints(parts: Sequence[bytes], rows: Sequence[int]) -> NDArray[np.int64]:
    """Return the int64 of blocks of so many ``rows``, one block after the other."""
    longest = max(rows)
    # As a rule all are evenly spaced and all but the last equally long: then no block is touched alone.
    if all(len(part) == _STRIDED_BYTES for part in parts) and min(rows[:-1], default=longest) == longest:
        firsts, strides = np.frombuffer(b"".join(parts), "<i8").reshape(-1, 2).T
        first, stride = int(firsts[0]), int(strides[0])
        is_one = 0 < stride < _WIDE and abs(first) < _WIDE and bool((strides == stride).all())
        if is_one and bool((np.diff(firsts) == stride * longest).all()):
            return np.arange(first, first + stride * sum(rows), stride, dtype=np.int64)
        found = (firsts[:, None] + strides[:, None] * np.arange(longest, dtype=np.int64)).ravel()
        return found[: sum(rows)]
    return np.concatenate([_unpack_block(part, count) for part, count in zip(parts, rows, strict=True)])


def pack_times(times: NDArray[np.float64]) -> bytes | None:
    """Return float64 bytes; None if all are NaN, which stands for no time."""
    return None if np.isnan(times).all() else times.astype("<f8").tobytes()


def unpack_times(content: bytes | None, rows: int) -> NDArray[np.float64]:
    """Return the times of one block, NaN where there is none."""
    return np.full(rows, np.nan) if content is None else unpack_floats(content)


def pack_rows(present: NDArray[np.intp], rows: int) -> bytes | None:
    """Return which of a block's rows hold a metric; None for all of them."""
    return None if len(present) == rows else present.astype("<u2").tobytes()


def unpack_rows(content: bytes | None, rows: int) -> NDArray[np.intp]:
    """Return which of a block's rows hold a metric."""
    return np.arange(rows) if content is None else np.frombuffer(content, "<u2").astype(np.intp)


def pack_keys(keys: Iterable[int]) -> bytes:
    """Return keys of names as bytes."""
    return np.fromiter(keys, "<u4").tobytes()


def unpack_keys(content: bytes) -> list[int]:
    """Return keys of names."""
    return np.frombuffer(content, "<u4").tolist()


def _unpack_block(part: bytes, rows: int) -> NDArray[np.int64]:
    if len(part) == rows * 8:
        return np.frombuffer(part, "<i8").astype(np.int64)
    first, stride = np.frombuffer(part, "<i8")
    return first + stride * np.arange(rows, dtype=np.int64)
