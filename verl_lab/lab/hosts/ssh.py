"""Hosts over SSH as a lab makes them. Imported when the first one is used: paramiko takes its time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.errors import EnvironmentMismatchError

try:
    from verl_lab.transport.ssh import HostKeyError, KnownHosts, SshHost
    from verl_lab.transport.ssh.known_hosts import fingerprint
except ModuleNotFoundError as error:
    raise EnvironmentMismatchError(
        f"Hosts cannot be reached over SSH here: the package {error.name} is not installed.",
        f"Install it: pip install {error.name}.",
    ) from error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab.domain.host import HostEntry, SecretKind
    from verl_lab.domain.secret import Secret
    from verl_lab.transport.ssh import Timings


class LabKnownHosts(KnownHosts):
    """The keys of hosts as one of a lab's hosts needs them: whoever meets an unknown key is told what to type.

    Parameters
    ----------
    name
        What the user calls the host that is to be reached.
    own
        The lab's file of accepted keys.
    """

    def __init__(self, name: str, own: Path) -> None:
        super().__init__(own)
        self._name = name

    def check(self, host: str, port: int, key_type: str, key: bytes) -> None:
        """Accept the key a host showed, or refuse it, as in ``KnownHosts``."""
        try:
            super().check(host, port, key_type, key)
        except HostKeyError as error:
            if not error.can_accept:
                raise
            shown = error.fingerprint
            hint = (
                "Compare this fingerprint with what the host's administrator says, or with `ssh-keygen -lf` of its"
                f" key there. If it is the same: lab.hosts.accept({self._name!r}, {shown!r}), or in a cell: "
                f"%verl_hosts accept {self._name} {shown}"
            )
            raise HostKeyError(error.message, hint, error.host, shown, can_accept=True) from None


def ssh_host(
    entry: HostEntry,
    own: Path,
    secrets: Callable[[SecretKind], Secret | None],
    told: Callable[[BaseException | None], None],
    timings: Timings | None,
) -> SshHost:
    """Make a host that remembers accepted keys in the file ``own``; nothing is connected yet."""
    return SshHost(entry, LabKnownHosts(entry.name, own), secrets, timings, told)


def accept_key(host: SshHost, own: Path, shown: str) -> bool:
    """Accept the key with this fingerprint; False if it is that of a machine on the way there.

    Raises
    ------
    HostKeyError
        Another key is shown now, or another one is known.
    TransportError
        The host does not answer, or ``own`` cannot be written.
    """
    host.accept_key(shown)
    known = KnownHosts(own).keys(host.entry.hostname, host.entry.port)
    return any(fingerprint(one.key) == shown and not one.is_revoked for one in known)
