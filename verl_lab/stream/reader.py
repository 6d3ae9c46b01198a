"""``Reader``: follows any number of runs on any number of hosts."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from verl_lab.errors import NotFoundError, StoreError
from verl_lab.stream.host_reader import HostReader
from verl_lab.stream.run_reader import RunReader

if TYPE_CHECKING:
    from verl_lab.domain.run import Status
    from verl_lab.store import Store
    from verl_lab.stream.feed import Feed
    from verl_lab.stream.followed import FollowedRun
    from verl_lab.transport.base import Host


class Reader:
    """Reads what followed runs write into a store, and publishes it on a feed.

    Parameters
    ----------
    poll_s
        How often to look at each run even if nothing says that it changed, in seconds.

    The same run may be followed by several processes: each line is stored once, and published once
    in each of them. All methods may be called from any thread.
    """

    def __init__(self, store: Store, feed: Feed, *, poll_s: float = 0.5) -> None:
        self._store = store
        self._feed = feed
        self._poll_s = poll_s
        self._changing = threading.Lock()
        self._runs: dict[str, RunReader] = {}
        self._hosts: dict[Host, HostReader] = {}
        self._is_closed = False

    def follow(self, run: FollowedRun) -> None:
        """Read a run from now on; one that is followed already is left as it is.

        Raises
        ------
        NotFoundError
            If the index has no such run.
        """
        with self._changing:
            if self._is_closed:
                raise StoreError("The reader is closed.", "Make a new Lab.")
            present = self._runs.get(run.run_id)
            if present is not None and present.followed == run:
                return
            if self._store.runs.get(run.run_id) is None:
                raise NotFoundError.of("run", run.run_id, self._store.runs.ids())
            reader = RunReader(self._store, self._feed, run)
            self._runs[run.run_id] = reader
            host = self._hosts.get(run.host)
            if host is None:
                host = self._hosts[run.host] = HostReader(run.host, self._feed, self._poll_s)
            host.add(reader)
        if present is not None:
            self._drop(present, replaced_by=reader)

    def is_following(self, run_id: str) -> bool:
        """Say whether a run is read already."""
        with self._changing:
            return run_id in self._runs

    def status(self, run_id: str, *, patience_s: float = 0) -> tuple[Status, float] | None:
        """Return the status of a followed run that was read last, and how many seconds ago; None if there is none.

        The first look at a run is waited for, up to ``patience_s``.
        """
        with self._changing:
            reader = self._runs.get(run_id)
        if reader is None:
            return None
        reader.was_looked_at.wait(patience_s)
        return reader.status

    def unfollow(self, run_id: str) -> None:
        """Read a run no more; a read that is under way ends first."""
        with self._changing:
            reader = self._runs.pop(run_id, None)
        if reader is not None:
            self._drop(reader)

    def sync(self, run_id: str) -> None:
        """Read everything a followed run has written up to now, then return.

        Of a run that is over, files whose size and time are as they were are not looked into again.

        Raises
        ------
        NotFoundError
            If the run is not followed, or an attached log is gone.
        TransportError, StoreError, FormatError
            If it cannot be read or stored now; the background reader tries again.
        """
        with self._changing:
            reader = self._runs.get(run_id)
            followed = list(self._runs)
        if reader is None:
            raise NotFoundError.of("followed run", run_id, followed)
        reader.read(thoroughly=not reader.is_over)

    def close(self) -> None:
        """End all reading and its threads. May be called again."""
        with self._changing:
            self._is_closed = True
            hosts, self._hosts = list(self._hosts.values()), {}
            runs, self._runs = list(self._runs.values()), {}
        for host in hosts:
            host.close()
        for run in runs:
            run.close()

    def _drop(self, reader: RunReader, replaced_by: RunReader | None = None) -> None:
        """Read no more with a reader; a thread that has no runs left ends."""
        done: HostReader | None = None
        with self._changing:
            host = self._hosts.get(reader.followed.host)
            if host is not None and (replaced_by is None or replaced_by.followed.host is not reader.followed.host):
                host.remove(reader.followed.run_id)
                if host.is_idle:
                    done = self._hosts.pop(reader.followed.host)
        if done is not None:
            done.close()
        reader.close()
