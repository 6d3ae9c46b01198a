"""Sixteen bytes for each row, and which rows of two sets are the same: what a data set needs in memory."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import orjson
from blake3 import blake3

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PAIR = np.dtype([("high", "<u8"), ("low", "<u8")])


@dataclass
class Digests:
    """A digest for each row, in order."""

    packed: bytearray = field(default_factory=bytearray)

    def add(self, value: Any) -> None:
        """Add the digest of a value; equal values have equal ones, whatever the order of their fields."""
        self.packed += blake3(canonical(value)).digest(16)

    def __len__(self) -> int:
        return len(self.packed) // 16

    @property
    def pairs(self) -> NDArray[Any]:
        """Shape ``(n_rows,)``: each digest as two numbers."""
        return np.frombuffer(bytes(self.packed), dtype=_PAIR)


def canonical(value: Any) -> bytes:
    """Write a value so that equal ones are written equally."""
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_SORT_KEYS | orjson.OPT_NON_STR_KEYS)
    except (TypeError, ValueError):  # whole numbers beyond 64 bits, lone surrogates
        return json.dumps(value, default=str, sort_keys=True).encode()


def repeats(digests: Digests) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows that repeat an earlier one, in order, and the row that each repeats.

    Returns
    -------
    two arrays of shape ``(n_repeats,)``
        Numbers of rows, counted from 0.
    """
    order, begins = _sorted(digests.pairs)
    group = np.cumsum(begins) - 1
    first = order[begins][group]
    is_repeat = ~begins
    later = np.argsort(order[is_repeat])
    return order[is_repeat][later], first[is_repeat][later]


def shared(one: Digests, two: Digests) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the rows of ``two`` that are in ``one`` too, in order, and the first such row of ``one``."""
    order, begins = _sorted(np.concatenate([one.pairs, two.pairs]))
    group = np.cumsum(begins) - 1
    first = order[begins][group]  # equal rows keep their order: one of ``one``, where there is any
    is_both = (order >= len(one)) & (first < len(one))
    rows, same = order[is_both] - len(one), first[is_both]
    later = np.argsort(rows)
    return rows[later], same[later]


def paired(one: NDArray[Any], two: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Pair each row of ``one`` with an equal one of ``two``, every row at most once; by the numbers of the rows."""
    every = np.concatenate([one, two])
    rank = np.concatenate([_ranks(one), _ranks(two)])
    order = np.lexsort((rank, every["low"], every["high"]))
    ordered, ranks = every[order], rank[order]
    same = (ordered[1:] == ordered[:-1]) & (ranks[1:] == ranks[:-1])
    return order[:-1][same], order[1:][same] - len(one)


def _ranks(pairs: NDArray[Any]) -> NDArray[np.int64]:
    """Return, for each row, how many equal ones stand before it."""
    order, begins = _sorted(pairs)
    places = np.arange(len(pairs))
    begun = np.maximum.accumulate(np.where(begins, places, 0)) if len(pairs) else places
    ranks = np.empty(len(pairs), dtype=np.int64)
    ranks[order] = places - begun
    return ranks


def _sorted(pairs: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Return the order that brings equal rows together, earlier ones first, and where a new one begins."""
    order = np.lexsort((pairs["low"], pairs["high"]))
    ordered = pairs[order]
    begins = np.ones(len(pairs), dtype=bool)
    begins[1:] = ordered[1:] != ordered[:-1]
    return order, begins
