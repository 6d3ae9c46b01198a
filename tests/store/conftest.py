"""A store in a database of its own, on SQLite and on a real PostgreSQL server."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

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
