"""Series that were read before, kept for as long as the index says nothing new about their run."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Hashable

    from verl_lab.store.pieces import Series

_MOST_BYTES = 256 * 2**20


class Memo:
    """The series read last, up to ``most_bytes`` of them; used by any number of threads.

    Each is kept with the *stand* of its run: how far each file had been read. A commit of whatever
    process moves it, so what is found under an equal stand is what the database would give.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._held_bytes = 0
        self._series: OrderedDict[Hashable, tuple[Hashable, Series, Any]] = OrderedDict()
        self._changing = threading.Lock()

    def get(self, key: Hashable, stand: Hashable) -> Series | None:
        """Return what was kept for ``key`` at this stand; it is not to be written to."""
        with self._changing:
            found = self._series.get(key)
            if found is None or found[0] != stand:
                return None
            self._series.move_to_end(key)
            return found[1]

    def older(self, key: Hashable) -> tuple[Any, Series, Any] | None:
        """Return the stand, the series and the mark that were kept for ``key`` last, whatever the stand is now."""
        with self._changing:
            return self._series.get(key)

    def put(self, key: Hashable, stand: Hashable, series: Series, mark: Any = None) -> None:
        """Keep a series, at the cost of those that were not asked for longest.

        ``mark`` is kept beside it, for whoever wants to go on from there.
        """
        with self._changing:
            self._forget(key)
            if series.size_bytes > self._most_bytes:
                return
            self._series[key] = (stand, series, mark)
            self._held_bytes += series.size_bytes
            while self._held_bytes > self._most_bytes:
                self._forget(next(iter(self._series)))

    def _forget(self, key: Hashable) -> None:
        old = self._series.pop(key, None)
        if old is not None:
            self._held_bytes -= old[1].size_bytes
