"""The connections of a lab to its hosts: made when first used, kept, and what was seen of each."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from verl_lab.domain.host import HostState
from verl_lab.errors import StoreError, TransportError
from verl_lab.store.hosts import owner

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.domain.host import HostEntry
    from verl_lab.store.hosts import Hosts
    from verl_lab.store.secrets import Secrets
    from verl_lab.transport.ssh import SshHost, Timings

_log = logging.getLogger(__name__)


class HostLinks:
    """One connected host a name.

    Parameters
    ----------
    index
        Where the last contact is noted.
    known
        The lab's file of accepted keys.
    secrets
        Gives the secrets when a host asks for one.
    """

    def __init__(self, index: Hosts, known: Path, secrets: Callable[[], Secrets]) -> None:
        self._index = index
        self._known = known
        self._secrets = secrets
        self._lock = threading.Lock()
        self._kept: dict[str, SshHost] = {}
        self._homes: dict[str, str] = {}
        self._states: dict[str, HostState] = {}
        self._is_closed = False

    def host(self, entry: HostEntry, timings: Timings | None) -> SshHost:
        """Return the host of this name, reached as ``entry`` says; nothing is connected by this.

        Raises
        ------
        TransportError
            The lab is closed.
        EnvironmentMismatchError
            What speaks SSH is not installed.
        """
        from verl_lab.lab.hosts.ssh import ssh_host

        name = entry.name
        with self._lock:
            if self._is_closed:
                raise TransportError("The lab is closed.", "Make a new Lab.")
            kept = self._kept.get(name)
            if kept is None:
                kept = self._kept[name] = ssh_host(
                    entry,
                    self._known,
                    lambda kind: self._secrets().get(owner(name), kind),
                    lambda error: self._told(name, error),
                    timings,
                )
        self.reach_anew(entry)  # another process may have changed it
        return kept

    def reach_anew(self, entry: HostEntry, *, because_of_secrets: bool = False) -> None:
        """Let a host that is in use be reached as ``entry`` says, if it is not; whoever uses it goes on."""
        with self._lock:
            kept = self._kept.get(entry.name)
            if kept is None or (_way(kept.entry) == _way(entry) and not because_of_secrets):
                return
            self._homes.pop(entry.name, None)
            self._states.pop(entry.name, None)
        kept.change(entry)

    def home(self, entry: HostEntry, timings: Timings | None) -> str:
        """Return the home folder on a host, which is asked once.

        Raises
        ------
        TransportError
            It is not reached, or runs no commands.
        """
        name = entry.name
        with self._lock:
            known = self._homes.get(name)
        if known is not None:
            return known
        home = self.host(entry, timings).connect().get("home")
        if not home:
            raise TransportError(
                f"Where home is on {name} cannot be told: it runs no commands for us.",
                f"Name a folder: %verl_hosts edit {name} --runs-root /data/verl-lab",
            )
        with self._lock:
            self._homes[name] = home
        return home

    def state(self, name: str) -> HostState:
        """Return what was seen of a host last."""
        with self._lock:
            return self._states.get(name, HostState())

    def drop(self, name: str) -> None:
        """End the connection to a host, if there is one, and forget what was seen of it."""
        with self._lock:
            kept = self._kept.pop(name, None)
            self._homes.pop(name, None)
            self._states.pop(name, None)
        if kept is not None:
            kept.close()

    def close(self) -> None:
        """End all connections for good."""
        with self._lock:
            self._is_closed = True
            kept, self._kept = self._kept, {}
        for name, host in kept.items():
            host.close()
            if self.state(name).is_reachable:
                self._note_contact(name)

    def _told(self, name: str, error: BaseException | None) -> None:
        """Take note of how it stands with a host; its own threads call this."""
        with self._lock:
            if name not in self._kept:
                return
            before = self._states.get(name, HostState())
            state = _state(error)
            self._states[name] = replace(state, since=before.since if state.word == before.word else time.time())
            # Within the lock: nothing is written once the lab is closed.
            if state.is_reachable or before.is_reachable:
                self._note_contact(name)

    def _note_contact(self, name: str) -> None:
        try:
            self._index.contacted(name)
        except StoreError as error:  # the connection is worth more than the note about it
            _log.warning("The last contact with %s was not noted: %s", name, error.message)


def _way(entry: HostEntry) -> HostEntry:
    """Return what decides how a host is reached, not where things lie on it."""
    return entry.model_copy(update={"runs_root": None})


def _state(error: BaseException | None) -> HostState:
    if error is None:
        return HostState("reachable")
    reason = getattr(error, "message", None) or f"{type(error).__name__}: {error}"
    return HostState("unreachable" if isinstance(error, TransportError) else "unknown", reason)
