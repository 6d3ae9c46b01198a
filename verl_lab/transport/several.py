"""Many files on their way between two machines: small ones several at once, since each is a round trip."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Tell = Callable[[int, int], None]

_AT_ONCE = 16
_SMALL_BYTES = 2**18  # as much as is moved over SSH in one round trip


def move_several(
    sizes: Mapping[str, int], move: Callable[[str, Tell], object], moved: Callable[[str, int], None]
) -> None:
    """Move files; those above 256 kB one after the other, so that little else waits behind them.

    Parameters
    ----------
    sizes
        Of the files, by name.
    move
        Moves one, from any thread; what it is given can be told how many bytes of how many are there.
    moved
        Called in this thread with the name of one that moves, and how many bytes of all are there.

    Raises
    ------
    BaseException
        What the first ``move`` that failed raised, when those under way have ended; no other is begun.
    """
    done = 0
    for name, size in sizes.items():
        if size > _SMALL_BYTES:
            move(name, lambda part, _, name=name, before=done: moved(name, before + part))
            done += size
            moved(name, done)
    pool = ThreadPoolExecutor(_AT_ONCE, "verl-lab-move")
    try:
        small = {pool.submit(move, name, _no_parts): name for name, size in sizes.items() if size <= _SMALL_BYTES}
        for ended in as_completed(small):
            ended.result()
            done += sizes[small[ended]]
            moved(small[ended], done)
    finally:
        pool.shutdown(cancel_futures=True)


def _no_parts(_done: int, _size: int) -> None:
    """Take no note of how far a file is that comes as a whole."""
