"""The same host twice: this machine, and this machine over a real SSH server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.transport.base import Host, Progress


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture(params=["local", "ssh", "sftp"])
def files(request: pytest.FixtureRequest) -> Host:
    """Return whatever serves files."""
    return LocalHost() if request.param == "local" else request.getfixturevalue(f"{request.param}_host")


def put(host: Host, source: Path, target: Path, progress: Progress | None = None) -> str:
    return host.put(source, str(target), progress=progress)


def get(host: Host, source: Path, target: Path, progress: Progress | None = None) -> str:
    return host.get(str(source), target, progress=progress)


@pytest.fixture(params=[put, get])
def move(request: pytest.FixtureRequest):
    """Return one way, then the other."""
    return request.param
