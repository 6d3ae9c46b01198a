"""What can go wrong between here and a host, beside what goes wrong on it.

::

    TransportError
    ├── UnreachableError        no connection, or it broke; whether what was asked was done is not known
    ├── HostKeyError            the host is unknown, or is not the one that is known: nothing was sent to it
    ├── AuthenticationError     the host refused who we are; it is not asked again by itself
    └── NoCommandsError         the host is reached, but runs no commands for us
        └── NoPythonError       it would, but the Python that was named is not there
"""

from __future__ import annotations

from verl_lab.errors import TransportError, UnreachableError

__all__ = ["AuthenticationError", "HostKeyError", "NoCommandsError", "NoPythonError", "UnreachableError"]


class HostKeyError(TransportError):
    """The host's key is unknown, changed or revoked; no name and no secret was sent.

    Attributes
    ----------
    host
        The name under which its key is looked up.
    fingerprint
        The shown key's, as ``SHA256:…``.
    can_accept
        Whether the host is merely unknown; a changed key is never accepted.
    """

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        host: str = "",
        fingerprint: str = "",
        can_accept: bool = False,  # noqa: FBT001, FBT002  pickle gives it by position
    ) -> None:
        super().__init__(message, hint)
        self.args = (message, hint, host, fingerprint, can_accept)
        self.host = host
        self.fingerprint = fingerprint
        self.can_accept = can_accept


class AuthenticationError(TransportError):
    """The host refused us."""


class NoCommandsError(TransportError):
    """The host runs no commands for us."""


class NoPythonError(NoCommandsError):
    """The host has no Python where one was looked for."""
