"""A host without a way to any package index, in a network namespace of its own, with a small disk."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from ssh_server import SSHD, Server
from tiny_release import TinyRelease

from verl_lab.environments import needs
from verl_lab.environments.asking import answer_of
from verl_lab.errors import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

IP = shutil.which("ip") or "/usr/sbin/ip"


def may_make_namespaces() -> bool:
    """Whether this user may make networks and disks for processes of its own."""
    if os.getuid() != 0 or not shutil.which(IP):
        return False
    command = ["unshare", "--net", "--mount", IP, "link", "add", "vl-try", "type", "veth"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


pytestmark = pytest.mark.skipif(not may_make_namespaces(), reason="only root may make network namespaces")


class CutOffServer(Server):
    """A server that can be reached, and reaches nothing; ``disk`` is a file system of ``disk_mb`` that only it sees."""

    def __init__(self, folder: Path, disk_mb: int) -> None:
        self.disk = folder / "disk"
        self.disk.mkdir(parents=True)
        self.disk_mb = disk_mb
        self.name = f"vl{os.getpid() % 100000}"
        net = f"10.{os.getpid() % 200 + 20}.{os.getpid() % 250}"
        self.address = f"{net}.2"
        for command in (
            ("netns", "add", self.name),
            ("link", "add", f"{self.name}a", "type", "veth", "peer", "name", f"{self.name}b", "netns", self.name),
            ("addr", "add", f"{net}.1/30", "dev", f"{self.name}a"),
            ("link", "set", f"{self.name}a", "up"),
            ("-n", self.name, "addr", "add", f"{net}.2/30", "dev", f"{self.name}b"),
            ("-n", self.name, "link", "set", f"{self.name}b", "up"),
            ("-n", self.name, "link", "set", "lo", "up"),
        ):
            subprocess.run([IP, *command], check=True)
        super().__init__(folder, f"ListenAddress {self.address}")

    def start(self) -> None:
        """Start it in its namespaces."""
        mount = ["mount", "-t", "tmpfs", "-o", f"size={self.disk_mb}m", "none", str(self.disk)]
        within = [IP, "netns", "exec", self.name, "sh", "-c", '"$@" && exec "$SSHD" -D -e -f "$CONFIG"', "sh", *mount]
        variables = {**os.environ, "SSHD": SSHD, "CONFIG": str(self._config)}
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(within, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=variables)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as attempt:
                if attempt.connect_ex((self.address, self.port)) == 0:
                    return
            assert self._process.poll() is None, self.log()
            time.sleep(0.02)
        raise AssertionError(self.log())

    def stop(self) -> None:
        """End it, with its network."""
        super().stop()
        # A process that is still ending would keep the namespace, and with it the connection to it.
        subprocess.run([IP, "link", "del", f"{self.name}a"], check=True)
        subprocess.run([IP, "netns", "del", self.name], check=True)


@pytest.fixture
def cut_off(tmp_path: Path) -> Iterator[CutOffServer]:
    """Return a server without a way out."""
    server = CutOffServer(tmp_path / "sshd", disk_mb=200)
    yield server
    server.stop()


def test_a_host_without_internet_is_set_up_from_packages_that_are_pushed(
    cut_off: CutOffServer, tmp_path: Path, make_wheel: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(needs.ROOM_BYTES, "cpu", 10**6)
    release = TinyRelease(tmp_path / "release", tmp_path / "wheels", make_wheel)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(release.wheels))
    host = cut_off.host(hostname=cut_off.address)
    try:
        assert answer_of(host, None, "reach", (), 60)["why_not"], "it must be cut off for this to say anything"
        environment = release.on(host, cut_off.disk / "home")
        lines: list[str] = []
        report = environment.setup("cpu", progress=lines.append)
        assert report.ok, report
        assert any("does not reach https://pypi.org/simple" in line for line in lines)
        code = "import tinything, verl_lab"
        assert host.run([environment.python(), "-c", code], timeout_s=60).exit_code == 0
        assert not list(cut_off.disk.iterdir()), "all of it lies on the host"
    finally:
        host.close()


def test_a_disk_that_fills_up_on_the_way_is_named(
    cut_off: CutOffServer, tiny: TinyRelease, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(needs.ROOM_BYTES, "cpu", 10**6)
    host = cut_off.host(hostname=cut_off.address)
    try:
        environment = tiny.on(host, cut_off.disk / "home")

        def fill(line: str) -> None:
            if "setup: making" in line:
                filling = ["dd", "if=/dev/zero", f"of={cut_off.disk}/filling", "bs=64k"]
                host.run(filling, timeout_s=60)

        with pytest.raises(NoSpaceError, match=r"The disk of .* on box is full: role cpu was not set up\.\nMake room"):
            environment.setup("cpu", offline=True, progress=fill)
        host.run(["rm", f"{cut_off.disk}/filling"], timeout_s=60)
        assert environment.mismatches() == ["role cpu was set up there in part only"]
    finally:
        host.close()
