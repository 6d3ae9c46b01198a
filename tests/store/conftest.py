"""A store in a database of its own, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import contextlib
import getpass
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg
import pytest

from verl_lab.store import RunRow, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CROWD = Path(__file__).parent / "programs" / "crowd.py"
# What these files test must hold on every database; the others are about one of them.
ON_EVERY_DATABASE = {
    "test_store_metrics",
    "test_store_runs",
    "test_store_memo",
    "test_store_frame",
    "test_store_hosts",
    "test_store_secrets",
}


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


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "url" in metafunc.fixturenames and metafunc.definition.path.stem in ON_EVERY_DATABASE:
        metafunc.parametrize("url", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if getattr(request, "param", "sqlite") == "postgresql":
        return request.getfixturevalue("postgres").new_database()
    return f"sqlite:///{tmp_path / 'lab' / 'index.db'}"


@pytest.fixture
def store(url: str) -> Iterator[Store]:
    opened = Store.open(url)
    opened.runs.upsert(RunRow(id="run-1", name="first", folder="/runs/run-1", created=1.0))
    yield opened
    opened.close()


@pytest.fixture
def crowd() -> Callable[[str, int, int], None]:
    """Return what lets so many processes, begun at one moment, write so many transactions each into a database."""

    def run(url: str, workers: int, transactions: int) -> None:
        start_at = time.time() + 2
        argv = [sys.executable, str(CROWD), url]
        started = [
            subprocess.Popen([*argv, str(n), str(transactions), str(start_at)], stderr=subprocess.PIPE)
            for n in range(workers)
        ]
        for process in started:
            _, said = process.communicate(timeout=300)
            assert process.returncode == 0, said.decode()

    return run
