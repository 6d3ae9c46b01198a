"""Reads everything one run writes: its attempts, or the log of an attached run, or its folder of event files."""

from __future__ import annotations

import threading
import time
from dataclasses import replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.domain.wire import RunLayout
from verl_lab.errors import NotFoundError
from verl_lab.stream.cursor import Cursor
from verl_lab.stream.feed import RunUpdate
from verl_lab.stream.file_reader import FileReader, Source
from verl_lab.stream.formats import ours
from verl_lab.stream.formats.detect import format_named, recognise
from verl_lab.stream.formats.status import decode_status
from verl_lab.stream.logs import is_event_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from verl_lab.domain.run import Status
    from verl_lab.domain.wire import AttemptLayout
    from verl_lab.store import FilePosition, Store
    from verl_lab.stream.feed import Feed
    from verl_lab.stream.followed import FollowedRun
    from verl_lab.stream.formats.base import LogFormat, Parsed
    from verl_lab.transport.base import FileStat

_ATTACHED_FILE = "log"
_HEARTBEAT_S = 10.0


class RunReader:
    """One run. ``read`` may be called from any thread; one at a time reads."""

    def __init__(self, store: Store, feed: Feed, followed: FollowedRun) -> None:
        self.followed = followed
        self.was_looked_at = threading.Event()
        """Set once the background thread has read it, or could not."""
        self._store = store
        self._feed = feed
        self._reading = threading.RLock()  # a listener may ask for a sync of the very run it hears of
        self._is_closed = False
        self._layout = RunLayout(PurePosixPath(followed.path))
        self._is_folder = followed.kind != "attached"
        self._event_files: dict[str, bool] = {}  # of a folder: which of its files are some
        self._attempt_of_file: dict[str, int] = {}
        self._files: dict[str, FileReader] = {}
        # What the index holds by now is not delivered again; what comes from now on is, whoever stores it.
        self._positions = store.positions(followed.run_id)
        self._newest = 0
        self._status_seen: FileStat | None = None
        self._status: Status | None = None
        self._status_at = 0.0
        self._status_stored: Status | None = None

    @property
    def folders(self) -> list[str]:
        """The folders in which a change may be news of this run."""
        if self.followed.kind == "attached":
            path = self.followed.path
            return [path if self._is_folder else str(PurePosixPath(path).parent)]
        newest = [str(self._layout.attempt(self._newest).folder)] if self._newest else []
        return [str(self._layout.attempts), *newest]

    @property
    def listed(self) -> list[str]:
        """The folders that the next read lists first."""
        return [] if self.followed.kind == "attached" else [str(self._layout.attempts)]

    def files_ahead(self, names: Mapping[str, list[str]]) -> dict[str, int]:
        """Return the files that the next read looks at, and from which byte, as the ``listed`` folders tell."""
        if self.followed.kind == "attached":
            path = self.followed.path
            attempt = max((number for number, _ in self._positions), default=1)
            return {path: self._begin_of(path, self._positions.get((attempt, _ATTACHED_FILE)))}
        found: dict[str, int] = {}
        numbers = _numbers(names.get(str(self._layout.attempts), []))
        for number in numbers:
            attempt = self._layout.attempt(number)
            for path in (attempt.events, attempt.metrics):
                found[str(path)] = self._begin_of(str(path), self._positions.get((number, path.name)))
            found[str(attempt.system)] = self._begin_of(str(attempt.system), None)
        if numbers:
            found[str(self._layout.attempt(numbers[-1]).status)] = 0
        return found

    def concerns(self, path: str) -> bool:
        """Say whether a changed path may be news of this run."""
        if self.followed.kind == "attached":
            parent = str(PurePosixPath(path).parent)
            return self.followed.path in (path, parent if self._is_folder else None)
        attempt = self._layout.attempt(self._newest)
        return (
            path in self.folders
            or path in map(str, (attempt.metrics, attempt.events, attempt.status, attempt.system))
            or (PurePosixPath(path).parent == self._layout.attempts)
        )

    @property
    def is_over(self) -> bool:
        """Whether the run says that nothing more comes unless it is resumed."""
        return self._status is not None and self._status.state.is_over

    @property
    def status(self) -> tuple[Status, float] | None:
        """The newest status read, and how many seconds ago it came; None before the first."""
        status = self._status
        return None if status is None else (status, time.monotonic() - self._status_at)

    def read(self, *, thoroughly: bool) -> None:
        """Read everything there is now into the index, and publish it.

        Raises
        ------
        VerlLabError
            The host, the index or a file refused; the next call goes on where this one stopped.
        """
        with self._reading:
            if self._is_closed:
                return
            if self.followed.kind == "attached":
                self._read_log(thoroughly=thoroughly)
            else:
                self._read_attempts(thoroughly=thoroughly)

    def close(self) -> None:
        """Read nothing more; waits for a read that is under way in another thread."""
        with self._reading:
            self._is_closed = True

    def _read_log(self, *, thoroughly: bool) -> None:
        run_id, path = self.followed.run_id, self.followed.path
        found = self.followed.host.stat(path)
        self._is_folder = found is not None and found.is_dir
        if self._is_folder:
            self._read_event_files(thoroughly=thoroughly)
            return
        attempt = max((number for number, _ in self._positions), default=1)
        source = Source(run_id, attempt, _ATTACHED_FILE, path, is_foreign=True)
        if not self._reader_of(source, _foreign_format).read(thoroughly=thoroughly, found=found):
            raise NotFoundError(f"The log {path} is gone.", "It is looked for again.")

    def _read_event_files(self, *, thoroughly: bool) -> None:
        """Read TensorBoard's files of a folder: one for each start of the program that writes them."""
        folder, host = PurePosixPath(self.followed.path), self.followed.host
        for name in host.list_folder(str(folder)):  # their names sort by the time they were begun
            path = str(folder / name)
            if name not in self._event_files:
                stat = host.stat(path)
                is_one = False if stat is None or stat.is_dir else is_event_file(host, path)
                if is_one is None:
                    continue
                self._event_files[name] = is_one
            if self._event_files[name]:
                source = Source(self.followed.run_id, self._attempt_of(name), name, path)
                self._reader_of(source, _foreign_format).read(thoroughly=thoroughly)

        if not any(self._event_files.values()):
            raise NotFoundError(f"The folder {folder} holds no event files.", "It is looked through again.")

    def _attempt_of(self, file: str) -> int:
        """Return which attempt a file of its own is; a new one is the next."""
        if file not in self._attempt_of_file:
            # Another process may have come across it first.
            self._attempt_of_file |= {name: attempt for attempt, name in self._store.positions(self.followed.run_id)}
            newest = max(self._attempt_of_file.values(), default=0)
            self._attempt_of_file.setdefault(file, newest + 1)
        return self._attempt_of_file[file]

    def _read_attempts(self, *, thoroughly: bool) -> None:
        names = self.followed.host.list_folder(str(self._layout.attempts))
        numbers = _numbers(names)
        if self._newest and not numbers:
            raise NotFoundError(f"The folder {self.followed.path} is gone.", "It is looked for again.")
        self._newest = max(numbers, default=0)
        # The status is read before the files and told after them: a run that is over has been read to its end.
        status = self._read_status(self._layout.attempt(self._newest)) if numbers else None
        for number in numbers:
            attempt = self._layout.attempt(number)
            # The events say where a resumed attempt went on from, before its first metrics come.
            for path, format_ in ((attempt.events, ours.EVENTS), (attempt.metrics, ours.METRICS)):
                source = Source(self.followed.run_id, number, path.name, str(path))
                self._reader_of(source, format_).read(thoroughly=thoroughly)
            self._read_samples(number, attempt.system, thoroughly=thoroughly)
        if status is not None:
            self._take_status(status)

    def _begin_of(self, path: str, position: FilePosition | None) -> int:
        """Return from where a file is read next; ``position`` counts until there is a reader of it."""
        reader = self._files.get(path)
        if reader is not None:
            return reader.begin
        return 0 if position is None else Cursor(position.offset).window_start

    def _read_samples(self, attempt: int, path: PurePosixPath, *, thoroughly: bool) -> None:
        """Read what the host was measured to do, where it was: it is kept apart from what the trainer logged."""
        reader, found = self._files.get(str(path)), None
        if reader is None:
            found = self.followed.host.stat(str(path))
            if found is None:
                return
            source = Source(self._store.system_of(self.followed.run_id), attempt, path.name, str(path))
            reader = self._files[source.path] = FileReader(
                self._store,
                self.followed.host,
                source,
                position=self._store.position(source.run_id, attempt, source.file),
                recognise=ours.SYSTEM,
                deliver=self._tell_of_samples,
            )
        reader.read(thoroughly=thoroughly, found=found)

    def _tell_of_samples(self, attempt: int, parsed: Parsed) -> None:
        # Whoever hears of it looks it up: as records, they would pass for steps of the training.
        if parsed.records:
            self._feed.publish(RunUpdate(self.followed.run_id, attempt))

    def _reader_of(self, source: Source, recognise: LogFormat | Callable[[bytes], LogFormat | None]) -> FileReader:
        reader = self._files.get(source.path)
        if reader is None:
            reader = self._files[source.path] = FileReader(
                self._store,
                self.followed.host,
                source,
                position=self._positions.get((source.attempt, source.file)),
                recognise=recognise,
                deliver=self._deliver,
            )
        return reader

    def _deliver(self, attempt: int, parsed: Parsed) -> None:
        if parsed.records or parsed.events:
            records = tuple(record for _, record in parsed.records)
            events = tuple(event for _, event in parsed.events)
            self._feed.publish(RunUpdate(self.followed.run_id, attempt, records, events))

    def _read_status(self, attempt: AttemptLayout[PurePosixPath]) -> Status | None:
        path = str(attempt.status)
        found = self.followed.host.stat(path)
        if found is None or found == self._status_seen:
            return None
        # A folder that was copied says the old name.
        status = replace(decode_status(self.followed.host.read(path)), run=self.followed.run_id)
        self._status_seen = found
        return status

    def _take_status(self, status: Status) -> None:
        if status == self._status:
            return
        if self._is_worth_storing(status):
            self._store.runs.set_status(status)
            self._status_stored = status
        self._status, self._status_at = status, time.monotonic()
        self._feed.publish(RunUpdate(self.followed.run_id, status.attempt, status=status))

    def _is_worth_storing(self, status: Status) -> bool:
        """Say whether more than the heartbeat moved, or the heartbeat by much: it beats once a second."""
        old = self._status_stored
        if old is None or old.updated is None or status.updated is None:
            return True
        return replace(old, updated=status.updated) != status or abs(status.updated - old.updated) >= _HEARTBEAT_S


def _numbers(names: Iterable[str]) -> list[int]:
    """Return the attempts among the names in their folder."""
    return sorted(int(name) for name in names if name.isascii() and name.isdecimal() and len(name) < 10)  # noqa: PLR2004


def _foreign_format(beginning: bytes) -> LogFormat | None:
    name = recognise(beginning)
    return None if name is None else format_named(name)
