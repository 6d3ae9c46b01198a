"""Bringing to a host what it makes an environment from: only what is missing there, and going on after a break."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import socket
from typing import TYPE_CHECKING

from verl_lab.environments.asking import answer_of
from verl_lab.environments.wheels import collect, sha256
from verl_lab.errors import NoSpaceError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

    from verl_lab.environments.kit import Kit
    from verl_lab.environments.setup_log import SetupLog
    from verl_lab.environments.wheels import Target
    from verl_lab.transport.base import Host

_UNPACK_S = 120.0
_HASHES_S = 1800.0
_STEP = 0.05  # of all bytes, between two lines that say how far it is
_MB = 10**6


class Pusher:
    """Sends to one host.

    Parameters
    ----------
    python
        The host's Python.
    folder
        The host's ``<root>/environments``.
    cache
        The folder here for what is fetched and packed.
    """

    def __init__(self, host: Host, python: str, folder: str, cache: Path, log: SetupLog) -> None:
        self._host = host
        self._python = python
        self._folder = folder
        self._cache = cache
        self._log = log

    @contextlib.contextmanager
    def alone(self) -> Generator[None]:
        """Let no other process of this machine send to the same folder: both would continue the same file."""
        self._cache.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(f"{self._host.name}\0{self._folder}".encode()).hexdigest()[:16]
        with (self._cache / f"{name}.lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                self._log.say(f"another process here is sending to {self._host.name}; waiting for it")
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def push(self, kit: Kit) -> None:
        """Bring the kit there, if it is not."""
        kits = f"{self._folder}/.kits"
        place = f"{kits}/{kit.name}"
        local = self._cache / f"kit-{kit.name}.zip"
        # Another machine may bring the same one at the same time.
        archive = f"{place}-{hashlib.sha256(f'{socket.gethostname()}:{local}'.encode()).hexdigest()[:8]}.zip"

        def send() -> None:
            if self._host.stat(f"{place}/runner.py") is not None:
                return
            if not local.exists():
                kit.write(local)
            self._host.make_folder(kits)
            self._log.say(f"sending the setup scripts and verl-lab itself ({local.stat().st_size / _MB:.1f} MB)")
            self._host.put(local, archive)
            answer_of(self._host, self._python, "unpack", [archive, place], _UNPACK_S)

        try:
            self._log.patiently(send)
        finally:
            local.unlink(missing_ok=True)

    def push_wheels(self, kit: Kit, target: Target) -> None:
        """Collect the packages of the kit's role here, and bring those there that are missing.

        Raises
        ------
        EnvironmentMismatchError
            They are not to be had here.
        NoSpaceError
            There is less room there than they take.
        """
        torch = None if kit.role == "training" else kit.versions["torch"].get(kit.role)
        files = {path.name: path for path in collect(kit.pinned, kit.role, torch, target, self._cache, self._log.say)}
        there = f"{self._folder}/.wheels/{kit.role}"
        words = [there, json.dumps({name: sha256(path) for name, path in files.items()})]
        self._log.say(f"comparing {len(files)} packages with what {self._host.name} has")
        found = self._log.patiently(lambda: answer_of(self._host, self._python, "hashes", words, _HASHES_S))
        missing = [files[name] for name in found["missing"]]
        total = sum(path.stat().st_size for path in missing)
        if found["free_bytes"] < total:
            raise NoSpaceError(
                f"{self._host.name} has {found['free_bytes'] / _MB:.0f} MB free in {there}; what is to be sent takes "
                f"{total / _MB:.0f} MB.",
                "Make room there, or give the host a runs_root on a larger disk.",
            )
        if missing:
            self._send(missing, there, total)

    def _send(self, missing: list[Path], there: str, total: int) -> None:
        self._log.say(f"sending {len(missing)} packages, {total / _MB:.0f} MB")
        done, told = 0, 0.0

        def say(bytes_there: int, _size: int) -> None:
            nonlocal told
            if (done + bytes_there) / total >= told + _STEP:
                told = (done + bytes_there) / total
                self._log.say(f"sent {(done + bytes_there) / _MB:.0f} of {total / _MB:.0f} MB")

        for path in missing:
            self._log.patiently(lambda path=path: self._host.put(path, f"{there}/{path.name}", progress=say))
            done += path.stat().st_size
