"""A real PostgreSQL server for tests."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator


class Server:
    """A PostgreSQL server on a socket of its own, without any port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.data = folder / "data"
        # The server refuses to run as root; Debian's package made the user for it.
        self.user = "postgres" if os.geteuid() == 0 else getpass.getuser()
        self.switched = self.user if os.geteuid() == 0 else None
        if self.switched:
            shutil.chown(folder, self.user, self.user)
        found = shutil.which("postgres") or max(Path("/usr/lib/postgresql").glob("*/bin/postgres"), default=None)
        assert found, "PostgreSQL is not installed: environments/system_parts.sh postgresql"
        self.programs = Path(found).resolve().parent if shutil.which("postgres") is None else Path(found).parent
        self._run("initdb", "--auth=trust", f"--username={self.user}", "--no-sync", "-D", str(self.data))
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        settings = [f"unix_socket_directories={self.folder}", "listen_addresses=", "fsync=off", "max_connections=200"]
        argv = [str(self.programs / "postgres"), "-D", str(self.data), *(x for one in settings for x in ("-c", one))]
        with (self.folder / "server.log").open("ab") as log:
            who, groups = self.switched, [] if self.switched else None
            self.process = subprocess.Popen(
                argv, cwd=self.folder, stdout=log, stderr=log, user=who, group=who, extra_groups=groups
            )
        deadline = time.monotonic() + 60
        while True:
            with contextlib.suppress(psycopg.OperationalError):
                self.connect().close()
                return
            assert self.process.poll() is None, (self.folder / "server.log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.05)

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """End the server; SIGINT ends its sessions first, SIGQUIT is a crash."""
        if self.process is not None:
            self.process.send_signal(how)
            self.process.wait(60)

    def connect(self) -> psycopg.Connection:
        return psycopg.connect(host=str(self.folder), user=self.user, dbname="postgres", autocommit=True)

    def new_database(self) -> str:
        """Make an empty database and return its URL."""
        name = f"lab_{secrets.token_hex(6)}"
        with self.connect() as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://{self.user}@/{name}?host={self.folder}"

    def _run(self, program: str, *arguments: str) -> None:
        argv = [str(self.programs / program), *arguments]
        who, groups = self.switched, [] if self.switched else None
        done = subprocess.run(
            argv, cwd=self.folder, capture_output=True, text=True, check=False, user=who, group=who, extra_groups=groups
        )
        assert done.returncode == 0, done.stderr


@pytest.fixture(scope="session")
def postgres() -> Iterator[Server]:
    # Not below pytest's own folder: that is closed to other users, and its path too long for a socket.
    folder = Path(tempfile.mkdtemp(prefix="vl-pg-", dir="/tmp"))
    try:
        server = Server(folder)
        server.start()
        yield server
        server.stop()
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def stoppable_postgres(postgres: Server) -> Iterator[Server]:
    """Return the server for a test that stops it; those after it find it running."""
    yield postgres
    if postgres.process is None or postgres.process.poll() is not None:
        postgres.start()
