"""The one lab behind the server, and the threads that ask it."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeVar

from verl_lab.errors import StoreError
from verl_lab.server.faults import TooManyError
from verl_lab.server.tasks import Tasks

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from verl_lab.lab import Lab

T = TypeVar("T")

_PATIENCE_S = 5.0
_CLOSING = "The server is closing."


class LabService:
    """Makes a lab when the first question comes, and answers questions beside the event loop.

    Parameters
    ----------
    home
        The lab's home; None for the usual one.
    threads
        How many questions are answered at once. Those that may take long (another machine is asked, a run is
        launched) have as many threads of their own, so that they hold up no others.
    most_waiting
        How many questions may be under way or wait in all; beyond that they are refused.
    busy_s
        How long a question waits for others that write to the index.
    roots
        The folders whose files a page may name.

    Attributes
    ----------
    tasks
        What goes on after its request was answered.
    """

    def __init__(
        self, home: str | None, *, threads: int, most_waiting: int, busy_s: float, roots: Sequence[Path] = ()
    ) -> None:
        self.tasks = Tasks()
        self.roots = tuple(roots)
        self._home = home
        self._most_waiting = most_waiting
        self._busy_s = busy_s
        self._asked = 0
        self._making = threading.Lock()
        self._lab: Lab | None = None
        self._is_closed = False
        self._quick = ThreadPoolExecutor(threads, thread_name_prefix="verl-lab-server")
        self._slow = ThreadPoolExecutor(threads, thread_name_prefix="verl-lab-server-slow")

    async def ask(self, question: Callable[[Lab], T], *, is_slow: bool = False) -> T:
        """Put a question to the lab in a thread, and return its answer. Call it on the event loop.

        Raises
        ------
        TooManyError
            Too many are waiting already.
        StoreError
            The server is closing, or the lab's database cannot be opened.
        """
        if self._is_closed:
            raise StoreError(_CLOSING)
        if self._asked >= self._most_waiting:
            raise TooManyError(f"{self._asked} requests are waiting already.", "Ask again in a moment.")
        self._asked += 1
        try:
            pool = self._slow if is_slow else self._quick
            try:
                future = pool.submit(lambda: question(self.lab()))
            except RuntimeError:  # it was shut down a moment ago
                raise StoreError(_CLOSING) from None
            try:
                return await asyncio.wrap_future(future)
            except asyncio.CancelledError:
                if future.cancelled() and self._is_closed:
                    raise StoreError(_CLOSING) from None
                raise
        finally:
            self._asked -= 1

    def lab(self) -> Lab:
        """Return the lab, made when first asked for: not on the event loop, since that reads and writes files.

        Raises
        ------
        StoreError
            The server is closing, or the database cannot be opened; the next call tries again.
        """
        with self._making:
            if self._is_closed:
                raise StoreError(_CLOSING)
            if self._lab is None:
                from verl_lab.lab import Lab

                self._lab = Lab(self._home, busy_s=self._busy_s)
            return self._lab

    def close(self) -> None:
        """Refuse what comes, drop what waits, close the lab, and wait for what is under way. May be called again."""
        with self._making:
            self._is_closed = True
            lab, self._lab = self._lab, None
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=False, cancel_futures=True)
        if lab is not None:
            lab.close()  # what waits for a host or the database gets an error now
        for pool in (self._quick, self._slow):
            pool.shutdown(wait=True)
        self.tasks.join(_PATIENCE_S)
