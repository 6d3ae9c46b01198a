"""``Store``: the index as one object."""

from __future__ import annotations

from types import MappingProxyType
from typing import TYPE_CHECKING

from sqlalchemy import select

from verl_lab.errors import NotFoundError
from verl_lab.store import rebuild, tables
from verl_lab.store.batch import FilePosition
from verl_lab.store.commit import commit
from verl_lab.store.datasets import Datasets
from verl_lab.store.engine import Database
from verl_lab.store.events import Events
from verl_lab.store.hosts import Hosts
from verl_lab.store.migrations import is_newest, migrate
from verl_lab.store.quarantine import Quarantine
from verl_lab.store.runs import RunRow, Runs
from verl_lab.store.shapes import Shapes
from verl_lab.store.system import SystemMetrics

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from verl_lab.store.batch import Batch
    from verl_lab.store.secrets import Secrets


class Store:
    """Runs, metrics and events, and how far each file has been read.

    Any number of threads may use one store, and any number of processes the same database.
    Every method raises ``StoreError`` when the database refuses.

    Attributes
    ----------
    runs, metrics, events, quarantine
        Reading, and the runs' own rows.
    datasets
        What data sets there are, and the hashes of files.
    hosts
        The machines that are reached over SSH.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._shapes = Shapes()
        self.runs = Runs(database, self._shapes)
        self.metrics = SystemMetrics(database, self.runs, self._shapes)
        self.events = Events(database, self.runs)
        self.quarantine = Quarantine(database, self.runs)
        self.datasets = Datasets(database)
        self.hosts = Hosts(database)

    @classmethod
    def open(cls, url: str, *, busy_s: float = 30.0) -> Store:
        """Open a database, making or updating its tables.

        Parameters
        ----------
        url
            An SQLAlchemy URL, such as ``sqlite:////home/me/verl-lab.db``.
        busy_s
            How long to wait for other writers before ``StoreError``, in seconds.

        Raises
        ------
        InvalidInputError
            The URL is none, or its driver is not installed.
        StoreError
            The database is newer than this verl-lab, not one of its own, on a network file system,
            or cannot be opened.
        """
        database = Database(url, busy_s=busy_s)
        try:
            with database.read() as connection:
                is_done = is_newest(connection)
            if not is_done:
                with database.write() as connection:
                    migrate(connection)
        except BaseException:
            database.close()
            raise
        return cls(database)

    def close(self) -> None:
        """Close all connections."""
        self._database.close()

    def secrets(self, home: Path) -> Secrets:
        """Give the secrets in this database; their keys are in the system's keyring, or in files below ``home``.

        Raises
        ------
        EnvironmentMismatchError
            What encrypts is not installed.
        """
        from verl_lab.store.secrets import Secrets  # what encrypts is in no role that only watches

        return Secrets(self._database, home)

    def commit(self, batch: Batch) -> bool:
        """Write a batch and the new position of its file in one transaction.

        Returns
        -------
        bool
            False if the database does not stand at ``batch.start`` (another process has read on):
            then nothing was written.

        Raises
        ------
        NotFoundError
            If the index has no such run.
        """
        return commit(self._database, self.runs, self.metrics, self._shapes, batch)

    def system_of(self, run_id: str) -> str:
        """Return the id under which the samples of a run's host are committed; it is listed nowhere.

        Raises
        ------
        NotFoundError
            If the index has no such run.
        """
        row = self.runs.get(run_id)
        if row is None:
            raise NotFoundError.of("run", run_id, self.runs.ids())
        beside = rebuild.beside(run_id)
        if self.runs.get(beside) is None:
            self.runs.upsert(RunRow(beside, row.name, row.folder, row.host, kind="system", created=row.created))
        return beside

    def begin_rebuild(self, run_id: str) -> str:
        """Make an empty shadow of a run, to be filled by ``commit`` under the id returned; it is listed nowhere.

        Raises
        ------
        NotFoundError
            If the index has no such run.
        """
        return rebuild.begin(self._database, run_id)

    def finish_rebuild(
        self, run_id: str, gone: Mapping[tuple[int, str], FilePosition] = MappingProxyType({})
    ) -> Mapping[tuple[int, str], FilePosition]:
        """Put a run's shadow in its place, in one transaction; the old rows are gone then.

        Parameters
        ----------
        gone
            What an earlier call returned, after which the files were read once more: what is still missing from the
            shadow is not in them.

        Returns
        -------
        Mapping
            How far the run's files have been read beyond what the shadow holds; if there is any, nothing was done.
        """
        return rebuild.finish(self._database, run_id, gone)

    def drop_rebuild(self, run_id: str) -> None:
        """Remove a run's shadow, if there is one; the old rows stay."""
        rebuild.drop(self._database, run_id)

    def position(self, run_id: str, attempt: int, file: str) -> FilePosition | None:
        """Return how far a file has been read; None if it has not been."""
        c = tables.files.c
        with self._database.read() as connection:
            run = self.runs.key(connection, run_id)
            row = connection.execute(
                select(c.offset, c.generation, c.fingerprint).where(c.run == run, c.attempt == attempt, c.file == file)
            ).one_or_none()
        return None if row is None else FilePosition(row.offset, row.generation, bytes(row.fingerprint))

    def positions(self, run_id: str) -> dict[tuple[int, str], FilePosition]:
        """Return how far each file of a run has been read, by attempt and name."""
        with self._database.read() as connection:
            return rebuild.positions(connection, self.runs.key(connection, run_id))
