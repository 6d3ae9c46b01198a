"""A real OpenSSH server of the test's own, on a free port of this machine."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.domain.host import HostEntry
from verl_lab.transport.ssh import KnownHosts, SshHost, Timings
from verl_lab.transport.ssh.host import no_secrets

if TYPE_CHECKING:
    from collections.abc import Sequence

    from verl_lab.transport.ssh.login import Secrets

SSHD = shutil.which("sshd") or "/usr/sbin/sshd"
QUICK = Timings(connect_s=10, request_s=20, keepalive_s=0.5, longest_pause_s=0.2)


class Server:
    """The server, its keys and those it lets in."""

    def __init__(self, folder: Path, *options: str, within: Sequence[str] = ()) -> None:
        """``within`` is a command that runs the server, such as in a namespace of its own."""
        self._within = within
        folder.mkdir(parents=True, exist_ok=True)
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)  # where a server that runs as root locks itself in
        self.folder = folder
        self.user_key = folder / "user_key"
        self.host_key = folder / "host_key"
        for path in (self.user_key, self.host_key):
            make_key(path)
        shutil.copy(self.user_key.with_suffix(".pub"), folder / "authorized_keys")
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port: int = free.getsockname()[1]
        lines = [
            *options,  # the first word on a matter counts
            f"Port {self.port}",
            "ListenAddress 127.0.0.1",
            f"HostKey {self.host_key}",
            f"AuthorizedKeysFile {folder / 'authorized_keys'}",
            f"PidFile {folder / 'pid'}",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin yes",
            "MaxStartups 100",
            "LogLevel VERBOSE",
            "Subsystem sftp internal-sftp",
        ]
        self._config = folder / "sshd_config"
        self._config.write_text("\n".join(lines) + "\n")
        self.start()

    def start(self) -> None:
        """Start it, and wait until it listens."""
        with (self.folder / "log").open("ab") as log:
            command = [*self._within, SSHD, "-D", "-e", "-f", str(self._config)]
            self._process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + 30
        while time.monotonic() < until:
            with socket.socket() as attempt:
                if attempt.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            assert self._process.poll() is None, self.log()
            time.sleep(0.01)
        raise AssertionError(self.log())

    def stop(self) -> None:
        """End it with all the connections it serves, as a reboot does."""
        children = self.connections()
        self._process.terminate()
        self._process.wait()
        for pid in children:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def connections(self) -> list[int]:
        """Return the processes that serve a connection each."""
        path = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children")
        return [int(pid) for pid in path.read_text().split()] if path.exists() else []

    def let_in(self, key: Path) -> None:
        """Let the owner of a key in."""
        with (self.folder / "authorized_keys").open("a") as keys:
            keys.write(key.with_suffix(".pub").read_text())

    def log(self) -> str:
        """Return what it said."""
        return (self.folder / "log").read_text(errors="replace")

    def known(self) -> KnownHosts:
        """Return known hosts without the user's: the server is known in the lab's own file."""
        known = KnownHosts(self.folder / "known_hosts", ())
        kind, key = self.host_key.with_suffix(".pub").read_text().split()[:2]
        (self.folder / "known_hosts").write_text(f"* {kind} {key}\n")
        return known

    def entry(self, port: int | None = None, **fields: object) -> HostEntry:
        """Return how it is reached."""
        usual = {"user": getpass.getuser(), "identity": str(self.user_key), "auth": ("key",)}
        return HostEntry.of(**{"name": "box", "hostname": "127.0.0.1", "port": port or self.port, **usual, **fields})

    def host(
        self, port: int | None = None, timings: Timings = QUICK, secrets: Secrets = no_secrets, **fields: object
    ) -> SshHost:
        """Return it as a host."""
        return SshHost(self.entry(port, **fields), self.known(), secrets, timings)


def make_key(path: Path, passphrase: str = "") -> None:
    """Write a key pair."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", passphrase, "-f", str(path)], check=True)
