"""What ``lab.hosts`` says of the hosts it knows, without asking them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, NamedTuple

from verl_lab.domain.host import LOCAL, SSH_PORT
from verl_lab.lab.table import Table, plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from verl_lab.domain.host import HostEntry, HostState

_HEADINGS = ("host", "address", "state", "last contact", "live runs", "key accepted here")
_SHOWN_RUNS = 3


class ListedHost(NamedTuple):
    """One host of a lab.

    Attributes
    ----------
    entry
        How it is reached; None for this machine.
    added, last_contact
        Unix times in seconds; ``last_contact`` is None if it never answered.
    host_key
        The fingerprint that was accepted for it here; None where another file knows it.
    live_runs
        The ids of the runs there that were not over when they were last heard of, newest first.
    """

    entry: HostEntry | None
    state: HostState
    added: float | None = None
    last_contact: float | None = None
    host_key: str | None = None
    live_runs: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """What the user calls it."""
        return LOCAL if self.entry is None else self.entry.name


@dataclass(frozen=True, repr=False)
class HostTable(Table):
    """The hosts of a lab as a table; ``hosts`` holds what it shows."""

    hosts: tuple[ListedHost, ...] = ()

    @classmethod
    def of(cls, hosts: Sequence[ListedHost]) -> HostTable:
        """Make the table of some hosts."""
        note = "" if len(hosts) > 1 else "%verl_hosts add NAME ADDRESS adds one that is reached over SSH."
        return cls(_HEADINGS, tuple(_row(host) for host in hosts), "", note, tuple(hosts))

    def __iter__(self) -> Iterator[ListedHost]:
        return iter(self.hosts)

    def __len__(self) -> int:
        return len(self.hosts)


@dataclass(frozen=True)
class HostCard:
    """A host as it was just added or changed, and what to do next.

    Attributes
    ----------
    done
        What was done, in a word.
    notes
        What the SSH configuration says of it that is not supported, and was left out.
    """

    entry: HostEntry
    done: str
    notes: tuple[str, ...] = ()

    def __repr__(self) -> str:
        name = self.entry.name
        said = [f"{name} was {self.done}: {address(self.entry)}.", *self.notes]
        return plain(" ".join(said)) + f"\n%verl_hosts test {name}, or lab.hosts.test({name!r}), tries it."


def address(entry: HostEntry) -> str:
    """Say where a host is, as a person writes it."""
    host = f"[{entry.hostname}]" if ":" in entry.hostname else entry.hostname
    user = f"{entry.user}@" if entry.user else ""
    port = "" if entry.port == SSH_PORT else f":{entry.port}"
    way = f" through {', '.join(map(str, entry.proxy_jump))}" if entry.proxy_jump else ""
    return f"{user}{host}{port}{way}"


def moment(time_s: float | None) -> str:
    """Write a Unix time for a person, to the minute."""
    return "" if time_s is None else datetime.fromtimestamp(time_s).astimezone().strftime("%Y-%m-%d %H:%M")


def _row(host: ListedHost) -> tuple[str, ...]:
    left = len(host.live_runs) - _SHOWN_RUNS
    runs = ", ".join(host.live_runs[:_SHOWN_RUNS]) + (f" and {left} more" if left > 0 else "")
    if host.entry is None:
        return (LOCAL, "this machine", "", "", runs, "")
    state = host.state
    told = str(state) if state.since is None or state.is_reachable else f"{state} (since {moment(state.since)})"
    contact = "now" if state.is_reachable else moment(host.last_contact) or "never"
    return (host.name, address(host.entry), plain(told), contact, runs, host.host_key or "")
