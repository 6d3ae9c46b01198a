"""The same host twice: this machine, and this machine over a real SSH server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from verl_lab.transport.base import Host


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture(params=["local", "ssh", "sftp"])
def files(request: pytest.FixtureRequest) -> Host:
    """Return whatever serves files."""
    return LocalHost() if request.param == "local" else request.getfixturevalue(f"{request.param}_host")
