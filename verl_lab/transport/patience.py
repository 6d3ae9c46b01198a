"""How long to go on with something large while a connection breaks again and again."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from verl_lab.errors import UnreachableError

_FIRST_PAUSE_S = 0.1
_LONGEST_PAUSE_S = 5.0


class Patience:
    """Lasts for ``seconds`` from the last time that anything moved.

    Before that nothing is tried again: a host that was never reached is told of at once. One that lets us in and hangs
    up before a byte has come further is given up in time.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until = 0.0
        self._pause_s = _FIRST_PAUSE_S
        self._most = -1

    def moved(self, done: int) -> None:
        """Say how far it is."""
        if done > self._most:
            self._most = done
            self._until = time.monotonic() + self._seconds
            self._pause_s = _FIRST_PAUSE_S

    def wait(self, error: UnreachableError) -> None:
        """Wait a little before the next attempt.

        Raises
        ------
        UnreachableError
            ``error``, when it has lasted long enough.
        """
        if time.monotonic() + self._pause_s > self._until:
            raise error
        time.sleep(self._pause_s)
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)
