"""Real SSH servers of the tests' own, for every room."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
from cuttable_proxy import Proxy
from ssh_server import Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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


@dataclass
class Elsewhere:
    """A host with files of its own: what lies in ``folder`` is another thing there than here. ``root`` is its lab's."""

    host: SshHost
    folder: Path
    root: str


@pytest.fixture(scope="session")
def other_machine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[SshHost, Path]]:
    """Return a host on which one folder of this machine is another one, and that folder."""
    if os.getuid() != 0:
        pytest.skip("only root can give a server files of its own")
    place = tmp_path_factory.mktemp("other-machine")
    folder = place / "mine"
    folder.mkdir()
    hide = 'mount -t tmpfs -o size=64m none "$1" && shift && exec "$@"'
    server = Server(place / "sshd", within=("unshare", "--mount", "sh", "-c", hide, "sh", str(folder)))
    host = server.host()
    yield host, folder
    host.close()
    server.stop()


@pytest.fixture
def elsewhere(other_machine: tuple[SshHost, Path], tmp_path: Path) -> Elsewhere:
    """Return a host with files of its own, and none in the folder yet, neither here nor there."""
    host, place = other_machine
    folder = place / tmp_path.name
    folder.mkdir()
    return Elsewhere(host, folder, str(tmp_path / "far home" / ".verl-lab"))


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a home without keys, agent and keyring."""
    folder = tmp_path / "me"
    (folder / ".ssh").mkdir(parents=True)
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    monkeypatch.delenv("SSH_AUTH_SOCK", raising=False)
    return folder
