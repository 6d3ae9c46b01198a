"""The background thread that reads all followed runs of one host."""

from __future__ import annotations

import logging
import threading
import time
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.errors import StoreBusyError, TransportError, UnreachableError, VerlLabError
from verl_lab.stream.feed import RunUpdate

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.stream.feed import Feed
    from verl_lab.stream.run_reader import RunReader
    from verl_lab.transport.base import Host

_logger = logging.getLogger(__name__)

_LONGEST_PAUSE_S = 30.0
# Of a host that is away: how often it is really tried is settled by its connection. Of a database that is busy:
# whoever writes to it waits there.
_AWAY_PAUSE_S = 2.0
_OVER_POLLS = 10  # a run that is over is looked at so much more seldom: it may be resumed elsewhere


class _Followed:
    """A run, when to look at it next, and what went wrong last."""

    def __init__(self, reader: RunReader) -> None:
        self.reader = reader
        self.due = 0.0
        self.failures = 0
        self.is_away = False
        self.error: str | None = None


class HostReader:
    """One thread for one host, so that a host that hangs holds up its own runs only.

    It looks at a run when the host's watcher names one of its files, and at all of them every
    ``poll_s`` seconds, because not every file system tells. A run that fails is put off, for longer
    each time; the others are not.
    """

    def __init__(self, host: Host, feed: Feed, poll_s: float) -> None:
        self._feed = feed
        self._poll_s = poll_s
        self._runs: dict[str, _Followed] = {}
        self._changing = threading.Lock()
        self._is_closing = False
        self._watched: list[str] = []
        self._watcher = host.watcher()
        self._thread = threading.Thread(target=self._run, name=f"verl-lab-reader-{host.name}", daemon=True)
        self._thread.start()

    def add(self, reader: RunReader) -> None:
        """Read a run from now on."""
        with self._changing:
            self._runs[reader.followed.run_id] = _Followed(reader)
        self._watcher.wake()

    def remove(self, run_id: str) -> None:
        """Read a run no more."""
        with self._changing:
            self._runs.pop(run_id, None)
        self._watcher.wake()

    @property
    def is_idle(self) -> bool:
        """Whether there is nothing to read."""
        with self._changing:
            return not self._runs

    def close(self) -> None:
        """End the thread."""
        self._is_closing = True
        self._watcher.wake()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._watcher.close()

    def _run(self) -> None:
        changed: set[str] = set()
        while not self._is_closing:
            with self._changing:
                runs = list(self._runs.values())
            self._read(runs, changed)
            changed = self._wait(runs)

    def _read(self, runs: Sequence[_Followed], changed: set[str]) -> None:
        now = time.monotonic()
        folders = {str(PurePosixPath(path).parent) for path in changed} | changed
        due: list[_Followed] = []
        for run in runs:
            # What a host that was away tells says that it is back; anything else that failed is given its pause.
            told = (run.failures == 0 or run.is_away) and not folders.isdisjoint(run.reader.folders)
            if now >= run.due or (told and any(map(run.reader.concerns, changed))):
                due.append(run)
        ready = 0
        for place, run in enumerate(due):
            if self._is_closing:
                return
            if place >= ready or self._watcher.is_broken:
                try:
                    ready = place + max(1, self._look_ahead(due[place:]))
                except UnreachableError as error:
                    for left in due[place:]:
                        self._failed(left, error)
                    return
            self._read_one(run)

    def _look_ahead(self, runs: Sequence[_Followed]) -> int:
        """Fetch what reading these runs will ask for; return of how many, from the first on, that is there.

        So a host far away is asked once for many runs, and not once for each of their files.
        """
        try:
            names = self._watcher.names_ahead([folder for run in runs for folder in run.reader.listed])
            if names is None:
                return len(runs)
            wanted = [run.reader.files_ahead(names) for run in runs]
            there = self._watcher.read_ahead({path: begin for files in wanted for path, begin in files.items()})
        except UnreachableError:
            raise
        except VerlLabError:  # reading the run that it comes from says what it is
            return len(runs)
        return next((place for place, files in enumerate(wanted) if not there.issuperset(files)), len(runs))

    def _read_one(self, run: _Followed) -> None:
        try:
            run.reader.read(thoroughly=False)
        except VerlLabError as error:
            self._failed(run, error)
        except Exception as error:  # whatever is wrong with one run, the others are read
            _logger.exception("Reading %s failed", run.reader.followed.run_id)
            self._failed(run, error)
        else:
            run.reader.was_looked_at.set()
            run.failures, run.error = 0, None
            run.due = time.monotonic() + self._poll_s * (_OVER_POLLS if run.reader.is_over else 1)

    def _failed(self, run: _Followed, error: Exception) -> None:
        run.reader.was_looked_at.set()
        run.is_away = isinstance(error, UnreachableError)
        longest_s = _AWAY_PAUSE_S if run.is_away or isinstance(error, StoreBusyError) else _LONGEST_PAUSE_S
        run.due = time.monotonic() + min(self._poll_s * 2**run.failures, longest_s)
        run.failures = min(run.failures + 1, 16)
        said = str(error) if isinstance(error, VerlLabError) else f"{type(error).__name__}: {error}"
        if said != run.error:
            run.error = said
            self._feed.publish(RunUpdate(run.reader.followed.run_id, attempt=0, error=said))

    def _wait(self, runs: list[_Followed]) -> set[str]:
        """Wait for a change, or until the next run is due."""
        folders = sorted({folder for run in runs for folder in run.reader.folders})
        pause_s = max(0.0, min((run.due for run in runs), default=time.monotonic() + 3600) - time.monotonic())
        try:
            if folders != self._watched:
                self._watcher.watch(folders)
                self._watched = folders
            return self._watcher.wait(pause_s)
        except TransportError as error:
            if not self._is_closing:
                for run in runs:
                    self._failed(run, error)
                time.sleep(self._poll_s)
            return set()
