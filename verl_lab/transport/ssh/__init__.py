"""Hosts over SSH. Nothing here is imported before a host is used: paramiko takes its time."""

from __future__ import annotations

from verl_lab.transport.ssh.errors import (
    AuthenticationError,
    HostKeyError,
    NoCommandsError,
    NoPythonError,
    UnreachableError,
)
from verl_lab.transport.ssh.host import SshHost, accept_host_key
from verl_lab.transport.ssh.known_hosts import KnownHosts
from verl_lab.transport.ssh.login import Timings

__all__ = [
    "AuthenticationError",
    "HostKeyError",
    "KnownHosts",
    "NoCommandsError",
    "NoPythonError",
    "SshHost",
    "Timings",
    "UnreachableError",
    "accept_host_key",
]
