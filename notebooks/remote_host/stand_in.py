"""A host that is this machine, over SSH, behind a network that can be cut: to try things without another one."""

from __future__ import annotations

import contextlib
import getpass
import os
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path


class StandIn:
    """An OpenSSH server of its own, on loopback only, with keys of its own; ``stop()`` ends it.

    Attributes
    ----------
    port
        Where the network to it begins.
    key
        The private key that it lets in.
    """

    def __init__(self, folder: str | os.PathLike[str]) -> None:
        program = shutil.which("sshd") or "/usr/sbin/sshd"
        if not Path(program).exists():
            raise RuntimeError("There is no SSH server to start here. On Debian: apt-get install openssh-server")
        self.folder = Path(folder).resolve()
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        self.key, host_key = self.folder / "user_key", self.folder / "host_key"
        for path in (self.key, host_key):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(path)], check=True)
        (self.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        with socket.create_server(("127.0.0.1", 0)) as free:
            self._inner = free.getsockname()[1]
        lines = [
            f"Port {self._inner}",
            "ListenAddress 127.0.0.1",
            f"HostKey {host_key}",
            f"AuthorizedKeysFile {self.folder / 'authorized_keys'}",
            f"AllowUsers {getpass.getuser()}",
            "PidFile none",
            "StrictModes no",
            "UsePAM no",
            "PasswordAuthentication no",
            "KbdInteractiveAuthentication no",
            "PermitRootLogin prohibit-password",
            "Subsystem sftp internal-sftp",
        ]
        config = self.folder / "sshd_config"
        config.write_text("\n".join(lines) + "\n")
        if os.getuid() == 0:
            Path("/run/sshd").mkdir(exist_ok=True)
        log = (self.folder / "log").open("ab")
        self._server = subprocess.Popen(
            [program, "-D", "-e", "-f", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
        log.close()
        self._wait()
        self._is_cut = False
        self._open: set[socket.socket] = set()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Cut the network: what is connected breaks, and nothing connects."""
        self._is_cut = True
        for end in list(self._open):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)

    def mend(self) -> None:
        """Let connections through again."""
        self._is_cut = False

    def stop(self) -> None:
        """End the server and the network to it. What was launched over it goes on."""
        self._listener.close()
        self.cut()
        self._server.terminate()
        self._server.wait()

    def _wait(self) -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until and self._server.poll() is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self._inner), timeout=1):
                return
            time.sleep(0.05)
        raise RuntimeError(f"The SSH server did not start:\n{(self.folder / 'log').read_text(errors='replace')}")

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return  # stopped
            if self._is_cut:
                near.close()
                continue
            far = socket.create_connection(("127.0.0.1", self._inner))
            self._open |= {near, far}
            for source, target in ((near, far), (far, near)):
                threading.Thread(target=self._pass_on, args=(source, target), daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while piece := source.recv(2**16):
                target.sendall(piece)
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        self._open -= {source, target}
