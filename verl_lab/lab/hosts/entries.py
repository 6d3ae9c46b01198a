"""What a user says of a host, and what OpenSSH's configuration adds to it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import HostEntry
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.transport.ssh_config import read_ssh_config

if TYPE_CHECKING:
    from collections.abc import Mapping


def entry_of(name: str, address: str | None, given: Mapping[str, Any]) -> tuple[HostEntry, tuple[str, ...]]:
    """Return the host to add, and what the SSH configuration says of it that is left out.

    Parameters
    ----------
    address
        None to look ``name`` up in the user's configuration of OpenSSH.
    given
        Other fields of ``HostEntry``; they win over the configuration.

    Raises
    ------
    InvalidInputError
        A field holds what it may not, or what the configuration says cannot be done.
    NotFoundError
        The configuration has no such host.
    """
    entry = HostEntry.of(name=name, hostname="localhost" if address is None else address, **given)
    if address is not None:
        return entry, ()
    aliases = {alias.name: alias for alias in read_ssh_config().aliases}
    alias = aliases.get(name)
    if alias is None:
        hint = f'Give its address: lab.hosts.add({name!r}, "gpu.example.org"), or %verl_hosts add {name} ADDRESS.'
        raise NotFoundError.of("host in ~/.ssh/config called", name, aliases, hint)
    if alias.entry is None:
        why = " ".join(alias.notes)
        raise InvalidInputError(f"name: {name!r} of ~/.ssh/config cannot be used: {why}", "Give its address instead.")
    return alias.entry.changed(**given), alias.notes
