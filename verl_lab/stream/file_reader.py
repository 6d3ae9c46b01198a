"""Reads one growing file into the index, exactly once, whoever else reads it too."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.store import Batch, FilePosition
from verl_lab.stream.cursor import LONGEST_LINE_BYTES, PROBE_BYTES, Cursor
from verl_lab.stream.formats.base import LogFormat

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.store import Store
    from verl_lab.stream.formats.base import Parsed, Parser
    from verl_lab.transport.base import FileStat, Host

_CHUNK_BYTES = 4 * 2**20
_BEGINNING_BYTES = 2**20
_SETTLED_AFTER = 2


@dataclass(frozen=True)
class Source:
    """Which file is read, and what as.

    Attributes
    ----------
    file
        Its name within the attempt, in the index.
    path
        Where it lies on its host.
    is_foreign
        Whether a file that takes its place is the run's next attempt; else it is a new generation
        of the same attempt.
    """

    run_id: str
    attempt: int
    file: str
    path: str
    is_foreign: bool = False


class FileReader:
    """One file of one attempt.

    Parameters
    ----------
    position
        Where to begin: what lies before is neither stored nor delivered again.
    recognise
        The format, or what gives it for the file's first bytes: None while that cannot be told.
    deliver
        Called with the attempt and what was read, once that is in the index.
    """

    def __init__(
        self,
        store: Store,
        host: Host,
        source: Source,
        *,
        position: FilePosition | None,
        recognise: LogFormat | Callable[[bytes], LogFormat | None],
        deliver: Callable[[int, Parsed], None],
    ) -> None:
        self._store = store
        self._host = host
        self._source = source
        self._path = source.path
        self._attempt = source.attempt
        self._recognise = recognise
        self._deliver = deliver
        self._format: LogFormat | None = None
        self._parser: Parser | None = None  # None where what it has seen is not what lies before the cursor
        self._limit = _CHUNK_BYTES
        self._looked: tuple[FileStat | None, int] = (None, 0)
        self._adopt(position)

    @property
    def begin(self) -> int:
        """From which byte the next read needs the file."""
        return self._cursor.window_start

    def read(self, *, thoroughly: bool, found: FileStat | None = None) -> bool:
        """Read everything there is now; False if there is no such file.

        Parameters
        ----------
        thoroughly
            Look into the file even if its size and time are as they were.
        found
            What the host just said of it, where it was asked.

        Raises
        ------
        TransportError, StoreError
            Nothing is lost: the next call goes on where the index stands.
        """
        found = found or self._host.stat(self._path)
        if found is None:
            return False
        # Times are coarse: a file may change again without a new one, so a change is looked at twice.
        seen, times = self._looked
        if found == seen and times >= _SETTLED_AFTER and not thoroughly:
            return True
        while self._read_chunk():
            pass
        self._looked = (found, times + 1 if found == seen else 1)
        return True

    def _read_chunk(self) -> bool:
        """Take in the next stretch; say whether to go on."""
        cursor, ahead = self._cursor, self._ahead()
        wanted = PROBE_BYTES + self._limit
        if ahead is not None:
            wanted = min(wanted, ahead.offset - cursor.window_start)
        head, window = self._look(cursor, wanted)
        if not cursor.holds(head, window):
            return self._start_over()
        if ahead is not None and len(window) < wanted:
            self._adopt(ahead)  # the file ends before what is stored: the next look finds it replaced
            return True
        if self._format is None:
            self._format = self._recognised(window)
        if self._format is None:
            return False
        lines = self._format.split(cursor, head, window)
        end = lines.cursor
        if ahead is not None and cursor.window_start + len(window) == ahead.offset:
            # What another process stored may end where no line ends, inside one that is passed over.
            end = Cursor.restore(ahead.offset, ahead.fingerprint)
        if end == cursor:
            self._limit = min(self._limit * 4, 2 * LONGEST_LINE_BYTES)  # a long line: take in more at once
            return len(window) == wanted
        parser = self._parser or self._new_parser(self._format)
        self._parser = None  # until what it sees now is stored
        parsed = parser(lines.complete)
        for offset, text, reason in lines.refused:
            parsed.refuse(offset, text, reason)
        if ahead is None and not self._commit(parsed, end):
            return True
        self._limit = _CHUNK_BYTES
        self._cursor = end
        self._parser = parser
        self._deliver(self._attempt, parsed)
        return len(window) == wanted

    def _recognised(self, window: bytes) -> LogFormat | None:
        if isinstance(self._recognise, LogFormat):
            return self._recognise
        is_beginning = self._cursor.window_start == 0
        return self._recognise(window if is_beginning else self._host.read(self._path, 0, _BEGINNING_BYTES))

    def _new_parser(self, format_: LogFormat) -> Parser:
        """Return a parser that has seen what it must have seen to go on from the cursor."""
        parser = format_.new_parser()
        start = max(0, self._cursor.offset - format_.context_bytes)
        if start < self._cursor.offset:
            context = self._host.read(self._path, start, self._cursor.offset - start)
            first = context.find(b"\n") + 1 if start else 0
            parser([(start + first, line) for line in context[first:].split(b"\n")[:-1]])
        return parser

    def _ahead(self) -> FilePosition | None:
        """Return where the index stands if another process brought it there, and this one is not there yet."""
        stored = self._stored
        is_ahead = stored is not None and stored.generation == self._generation and stored.offset > self._cursor.offset
        return stored if is_ahead else None

    def _look(self, cursor: Cursor, wanted: int) -> tuple[bytes, bytes]:
        head = self._host.read(self._path, 0, PROBE_BYTES) if cursor.window_start else b""
        window = self._host.read(self._path, cursor.window_start, wanted)
        return head if cursor.window_start else window[:PROBE_BYTES], window

    def _commit(self, parsed: Parsed, cursor: Cursor) -> bool:
        run_id, file = self._source.run_id, self._source.file
        end = FilePosition(cursor.offset, self._generation, cursor.fingerprint)
        batch = Batch(
            run_id=run_id,
            attempt=self._attempt,
            file=file,
            start=self._stored,
            end=end,
            records=parsed.records,
            events=parsed.events,
            bad=parsed.bad,
            resumed_from=parsed.resumed_from,
        )
        if self._store.commit(batch):
            self._stored = end
            return True
        # Another process has read on. Where it read the file that is here, follow it, to deliver what it stored.
        ahead = self._store.position(run_id, self._attempt, file)
        if ahead is not None and ahead.generation == self._generation and ahead.offset > self._cursor.offset:
            there = Cursor.restore(ahead.offset, ahead.fingerprint)
            if there.holds(*self._look(there, PROBE_BYTES)):
                self._stored = ahead
                return False
        self._adopt(ahead)
        return False

    def _adopt(self, position: FilePosition | None) -> None:
        """Go on where the index stands."""
        self._stored = position
        self._generation = 0 if position is None else position.generation
        # Up to where everything was delivered; the index may be ahead, never behind.
        self._cursor = Cursor() if position is None else Cursor.restore(position.offset, position.fingerprint)
        self._parser = None

    def _start_over(self) -> bool:
        """Begin the file that took the place of the one read so far."""
        self._format = self._parser = None
        self._cursor = Cursor()
        self._limit = _CHUNK_BYTES
        if self._source.is_foreign:
            self._attempt += 1
            self._stored = None
            self._generation = 0
        else:
            self._generation = 0 if self._stored is None else self._stored.generation + 1
        return True
