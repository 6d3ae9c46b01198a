"""The same host twice: this machine, and this machine over a real SSH server."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.transport.local import LocalHost

sys.path.append(str(Path(__file__).parent))

from cuttable_proxy import Proxy
from ssh_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator

    from verl_lab.transport.base import Host
    from verl_lab.transport.ssh import SshHost


@pytest.fixture(scope="session")
def sshd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return a running OpenSSH server."""
    server = Server(tmp_path_factory.mktemp("sshd"))
    yield server
    server.stop()


@pytest.fixture(scope="session")
def sshd_for_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Return one that serves files, but runs no commands."""
    server = Server(tmp_path_factory.mktemp("sshd-files"), "ForceCommand internal-sftp")
    yield server
    server.stop()


@pytest.fixture
def own_sshd(tmp_path: Path) -> Iterator[Server]:
    """Return a server that the test may stop and start."""
    server = Server(tmp_path / "sshd")
    yield server
    server.stop()


@pytest.fixture
def proxy(sshd: Server) -> Iterator[Proxy]:
    """Return a network to the server that can be cut."""
    proxy = Proxy(sshd.port)
    yield proxy
    proxy.close()


@pytest.fixture
def far(sshd: Server, proxy: Proxy) -> Iterator[SshHost]:
    """Return the server as a host, through that network."""
    host = sshd.host(proxy.port)
    yield host
    host.close()


@pytest.fixture(scope="session")
def ssh_host(sshd: Server) -> Iterator[SshHost]:
    """Return the server as a host."""
    host = sshd.host()
    yield host
    host.close()


@pytest.fixture(scope="session")
def sftp_host(sshd_for_files: Server) -> Iterator[SshHost]:
    """Return the server that runs no commands as a host."""
    host = sshd_for_files.host()
    yield host
    host.close()


@pytest.fixture(params=["local", "ssh"])
def host(request: pytest.FixtureRequest) -> Host:
    """Return this machine, near and far."""
    return LocalHost() if request.param == "local" else request.getfixturevalue("ssh_host")


@pytest.fixture(params=["local", "ssh", "sftp"])
def files(request: pytest.FixtureRequest) -> Host:
    """Return whatever serves files."""
    return LocalHost() if request.param == "local" else request.getfixturevalue(f"{request.param}_host")
