"""The connection to the database: transactions, locks, checkpoints, and foreign errors translated."""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import random
import sqlite3
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sqlalchemy import Connection, create_engine, event, exc, make_url, text

from verl_lab.errors import InvalidInputError, StoreBusyError, StoreError
from verl_lab.store.mounts import network_file_system

if TYPE_CHECKING:
    from collections.abc import Generator

_logger = logging.getLogger(__name__)

_BUSY_S = 30.0
_CLOSE_S = 1.0
_CHECKPOINT_BYTES = 16 * 2**20
_CACHE_KIB = 64 * 1024
_POSTGRES_LOCK = 0x7665726C  # "verl": one writer at a time, as in SQLite
_POSTGRES_WAIT = text("SELECT set_config('lock_timeout', :ms, true), pg_advisory_xact_lock(:key)")


class Database:
    """One database, used by any number of threads; ``close()`` gives everything back.

    Parameters
    ----------
    url
        An SQLAlchemy URL. For SQLite it must name a file on a local disk.
    busy_s
        How long to wait for other writers, in seconds, before giving up.
    mounts
        The table of mounts to look the file's place up in.
    """

    def __init__(self, url: str, *, busy_s: float = _BUSY_S, mounts: Path = Path("/proc/mounts")) -> None:
        self._busy_s = busy_s
        self._writer = threading.Lock()
        self._file: Path | None = None
        self._lock_fd: int | None = None
        try:
            parsed = make_url(url)
        except exc.ArgumentError as error:
            raise InvalidInputError(
                f"database: {url!r} is no database URL.", "For example sqlite:////home/me/verl-lab.db"
            ) from error
        if parsed.get_backend_name() == "sqlite":
            self._file = _local_file(parsed.database, mounts)
            self._lock_fd = _open_lock(self._file)
        with self._translated():
            self._engine = create_engine(parsed, pool_pre_ping=self._file is None, **self._options())
        if self._file is not None:
            event.listen(self._engine, "connect", self._prepare_sqlite)
            event.listen(self._engine, "begin", _begin_sqlite)
            with self._translated():
                self._switch_to_wal(self._engine)

    @contextlib.contextmanager
    def read(self) -> Generator[Connection]:
        """Give a connection that sees one moment of the database."""
        with self._translated(), self._engine.connect() as connection:
            # One moment needs no more than a transaction in SQLite; PostgreSQL would show each statement its own.
            options = {} if self._file is not None else {"isolation_level": "REPEATABLE READ"}
            with connection.execution_options(**options).begin():
                yield connection

    @contextlib.contextmanager
    def write(self) -> Generator[Connection]:
        """Give a connection in a transaction that no other writer, of any process, runs beside."""
        with self._translated(), self._locked():
            with (
                self._engine.connect() as connection,
                connection.execution_options(verl_lab_write=True).begin(),
            ):
                if self._engine.dialect.name == "postgresql":
                    connection.execute(_POSTGRES_WAIT, {"key": _POSTGRES_LOCK, "ms": str(int(self._busy_s * 1000))})
                yield connection
            self._checkpoint(_CHECKPOINT_BYTES)

    def close(self) -> None:
        """Close all connections; on SQLite, put the write-ahead log into the database first."""
        if self._lock_fd is not None:
            with contextlib.suppress(StoreError), self._locked(wait_s=_CLOSE_S):
                self._checkpoint(0)
        self._engine.dispose()
        with self._writer:
            if self._lock_fd is not None:
                os.close(self._lock_fd)
                self._lock_fd = None

    def _options(self) -> dict[str, Any]:
        if self._file is None:
            return {"pool_timeout": self._busy_s}
        return {"connect_args": {"timeout": self._busy_s, "check_same_thread": False}}

    @contextlib.contextmanager
    def _locked(self, wait_s: float | None = None) -> Generator[None]:
        """Let one writer of all processes through.

        The lock file does what SQLite's own busy handler does not: it is fair enough that nobody
        starves, and it keeps checkpoints apart from writes, which SQLite before 3.51.3 needs: one of
        each at the same instant can corrupt a write-ahead log (sqlite.org/wal.html, WAL-reset bug).
        """
        deadline = time.monotonic() + (self._busy_s if wait_s is None else wait_s)
        if not self._writer.acquire(timeout=max(0.0, deadline - time.monotonic())):
            raise self._busy()
        try:
            if self._file is not None:
                self._take_file_lock(deadline)
            yield
        finally:
            if self._lock_fd is not None:
                fcntl.flock(self._lock_fd, fcntl.LOCK_UN)
            self._writer.release()

    def _take_file_lock(self, deadline: float) -> None:
        if self._lock_fd is None:
            raise StoreError("The database is closed.")
        while True:
            try:
                fcntl.flock(self._lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise self._busy() from None
                time.sleep(random.uniform(0.0005, 0.004))  # noqa: S311  only keeps waiting processes out of step
            else:
                return

    def _busy(self) -> StoreBusyError:
        return StoreBusyError(
            f"The database is locked: another writer held it for {self._busy_s:g} s.",
            f"Look for a stopped process that has it open: fuser {self._file}" if self._file else None,
        )

    def _prepare_sqlite(self, connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None  # transactions are begun by _begin_sqlite alone
        cursor = connection.cursor()
        cursor.execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")
        cursor.execute("PRAGMA mmap_size = 0")
        cursor.execute(f"PRAGMA cache_size = -{_CACHE_KIB}")
        cursor.execute("PRAGMA synchronous = NORMAL")
        cursor.execute("PRAGMA wal_autocheckpoint = 0")
        cursor.close()

    def _switch_to_wal(self, engine: Any) -> None:
        raw = engine.raw_connection()
        try:
            mode = raw.cursor().execute("PRAGMA journal_mode").fetchone()[0]
            if mode != "wal":  # else whoever holds the database is not to keep others from opening it
                with self._locked():
                    mode = raw.cursor().execute("PRAGMA journal_mode = WAL").fetchone()[0]
        finally:
            raw.close()
        if mode != "wal":
            raise StoreError(f"The disk of {self._file} cannot hold SQLite's write-ahead log.", "Use a local disk.")

    def _checkpoint(self, more_than_bytes: int) -> None:
        """Move a long write-ahead log into the database; the caller holds the lock."""
        if self._file is None:
            return
        try:
            size = os.stat(f"{self._file}-wal").st_size  # noqa: PTH116  a hot path
        except FileNotFoundError:
            return
        if size > more_than_bytes:
            raw = self._engine.raw_connection()
            try:
                # A reader may hold an old snapshot: then this moves what it can, and the next one the rest.
                raw.cursor().execute("PRAGMA busy_timeout = 0")
                raw.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")
                raw.cursor().execute(f"PRAGMA busy_timeout = {int(self._busy_s * 1000)}")
            except sqlite3.Error as error:
                # What was committed is safe in the log; the next checkpoint moves it.
                _logger.warning("checkpoint of %s put off: %s", self._file, error)
            finally:
                raw.close()

    @contextlib.contextmanager
    def _translated(self) -> Generator[None]:
        try:
            yield
        except exc.NoSuchModuleError as error:
            raise InvalidInputError(f"database: {error}", "Give an SQLAlchemy URL of an installed driver.") from error
        except exc.DBAPIError as error:
            # SQLite says so too of a disk that is full.
            is_away = self._file is None and isinstance(error, exc.OperationalError | exc.InterfaceError)
            raise self._refusal(error.orig or error, is_away=is_away) from error
        except sqlite3.Error as error:  # while a connection is set up, before SQLAlchemy wraps what happens
            raise self._refusal(error) from error
        except exc.TimeoutError as error:  # of the pool: all connections are in use
            raise self._busy() from error
        except exc.SQLAlchemyError as error:
            raise StoreError(f"The database refused: {error}") from error
        except ModuleNotFoundError as error:
            raise InvalidInputError(f"database: its driver is not installed: {error}.") from error

    def _refusal(self, error: BaseException, *, is_away: bool = False) -> StoreError:
        said = str(error).strip().split("\n")[0]
        place = str(self._file or self._engine.url.render_as_string(hide_password=True))
        kind, hint = StoreError, None
        if "locked" in said or "busy" in said or "lock timeout" in said:
            kind, hint = StoreBusyError, "Another program writes to it; what was not stored is read again later."
        elif "full" in said or "I/O" in said:
            hint = "Make room on its disk; what was not stored is read again later."
        elif "not a database" in said or "malformed" in said:
            hint = "Move the file away; the index is rebuilt from the run folders."
        elif is_away:
            kind, hint = StoreBusyError, "Is its server running? What was not stored is read again later."
        return kind(f"The database {place} refused: {said}.", hint)


def _begin_sqlite(connection: Connection) -> None:
    write = connection.get_execution_options().get("verl_lab_write", False)
    connection.exec_driver_sql("BEGIN IMMEDIATE" if write else "BEGIN")


def _local_file(database: str | None, mounts: Path) -> Path:
    if not database or database == ":memory:" or database.startswith("file:"):
        raise InvalidInputError(
            f"database: {database or ':memory:'!r} names no file.", "Give sqlite:////absolute/path/verl-lab.db"
        )
    file = Path(database).absolute()
    kind = network_file_system(file.parent, mounts)
    if kind is not None:
        raise StoreError(
            f"The database {file} lies on a network file system ({kind}), where SQLite loses data.",
            "Set VERL_LAB_DATABASE to a file on a local disk; the run folders may stay where they are.",
        )
    return file


def _open_lock(file: Path) -> int:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        return os.open(f"{file}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise StoreError(f"The database {file} cannot be opened: {error.strerror}.") from error
