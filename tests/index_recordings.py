"""Databases of other versions of the index: older ones as those versions wrote them, and one that is newer."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from verl_lab.store import Store
from verl_lab.store.migrations import NEWEST

RUN = "20260101-000000-old-0000"
_RECORDINGS = Path(__file__).parent / "recordings" / "index"


def make_index(file: Path, version: int) -> Path:
    """Make a database as a verl-lab of this schema version left it."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(file)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.executescript((_RECORDINGS / f"version-{version}.sql").read_text())
    return file


def make_newer(file: Path) -> Path:
    """Make a database that a later verl-lab has brought to a version that this one does not know."""
    Store.open(f"sqlite:///{file}").close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("INSERT INTO schema_version VALUES (?, 0)", (NEWEST + 1,))
    return file
