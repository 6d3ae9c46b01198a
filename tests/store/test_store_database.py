from __future__ import annotations

import contextlib
import resource
import sqlite3
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from verl_lab.errors import InvalidInputError, StoreError
from verl_lab.store import RunRow, Store, tables
from verl_lab.store.engine import Database
from verl_lab.store.migrations import NEWEST
from verl_lab.store.mounts import network_file_system

if TYPE_CHECKING:
    from collections.abc import Callable, Generator


def test_processes_opening_a_new_store_at_once_make_one_schema(
    crowd: Callable[[str, int, int], None], tmp_path: Path, rounds: Callable[[int], int]
):
    for n in range(max(1, rounds(100) // 3)):
        url = f"sqlite:///{tmp_path / str(n) / 'index.db'}"
        crowd(url, 8, 1)
        store = Store.open(url)
        assert sorted(store.runs.ids()) == [f"run-{w}" for w in range(8)]
        with store._database.read() as connection:
            assert connection.scalars(text("SELECT version FROM schema_version")).all() == [NEWEST]
        store.close()


def test_eight_processes_write_without_a_locked_database(crowd: Callable[[str, int, int], None], url: str):
    crowd(url, 8, 100)
    store = Store.open(url)
    for n in range(8):
        for name in ("shared", f"own-{n}"):
            assert store.metrics.read(f"run-{n}", name)[1].tolist() == [float(x) for x in range(100)]
        assert store.metrics.names(f"run-{n}") == sorted(["shared", f"own-{n}", *(f"kind-{k}" for k in range(7))])
    with store._database.read() as connection:
        assert connection.scalar(text("PRAGMA integrity_check")) == "ok"
    store.close()


def test_the_schema_is_what_the_tables_say(store: Store):
    with store._database.read() as connection:
        found = inspect(connection)
        assert set(found.get_table_names()) == set(tables.metadata.tables)
        for name, table in tables.metadata.tables.items():
            assert [c["name"] for c in found.get_columns(name)] == [c.name for c in table.columns]


def test_a_newer_schema_is_refused_and_left_alone(url: str, store: Store):
    with store._database.write() as connection:
        connection.execute(text("INSERT INTO schema_version VALUES (:v, 0)"), {"v": NEWEST + 1})
    with pytest.raises(StoreError, match=f"schema version {NEWEST + 1}") as caught:
        Store.open(url)
    assert "Upgrade" in (caught.value.hint or "")
    assert store.runs.ids() == ["run-1"]


def test_a_database_of_something_else_is_refused(tmp_path: Path):
    file = tmp_path / "other.db"
    other = sqlite3.connect(file)
    other.execute("CREATE TABLE runs (x)")
    other.commit()
    other.close()
    with pytest.raises(StoreError, match="not verl-lab's: runs"):
        Store.open(f"sqlite:///{file}")
    text_file = tmp_path / "notes.db"
    text_file.write_text("these are notes " * 100)
    with pytest.raises(StoreError, match="not a database") as caught:
        Store.open(f"sqlite:///{text_file}")
    assert "run folders" in (caught.value.hint or "")
    assert text_file.read_text().startswith("these are notes")


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "no url", "martian://x/y", "mysql+nodriver://x/y"])
def test_urls_that_cannot_work_are_refused(url: str):
    with pytest.raises(InvalidInputError, match="database"):
        Store.open(url)


def test_a_database_that_cannot_be_made_is_refused(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be opened"):
        Store.open(f"sqlite:///{tmp_path / 'file' / 'index.db'}")


def test_a_network_file_system_is_refused(tmp_path: Path):
    mounts = tmp_path / "mounts"
    place = str(tmp_path / "home").replace(" ", "\\040")
    mounts.write_text(
        f"/dev/vda / ext4 rw 0 0\nserver:/export {place} nfs4 rw 0 0\n/dev/vdb {place}/local xfs rw 0 0\n"
    )
    assert network_file_system(tmp_path / "home" / "me", mounts) == "nfs4"
    assert network_file_system(tmp_path / "home" / "local" / "me", mounts) is None
    assert network_file_system(tmp_path / "homely", mounts) is None
    mounts.write_text(f"sshfs {place} fuse.sshfs rw 0 0\n")
    with pytest.raises(StoreError, match=r"network file system \(fuse.sshfs\)") as caught:
        Database(f"sqlite:///{tmp_path / 'home' / 'index.db'}", mounts=mounts)
    assert "VERL_LAB_DATABASE" in (caught.value.hint or "")
    assert not (tmp_path / "home").exists()


def test_a_link_does_not_hide_a_network_file_system(tmp_path: Path):
    (tmp_path / "far").mkdir()
    (tmp_path / "near").symlink_to(tmp_path / "far")
    mounts = tmp_path / "mounts"
    mounts.write_text(f"x {tmp_path / 'far'} nfs rw 0 0\n")
    assert network_file_system(tmp_path / "near" / "db", mounts) == "nfs"


def test_connections_are_set_up_as_they_must_be(store: Store):
    with store._database.read() as connection:
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in
                 ("journal_mode", "wal_autocheckpoint", "synchronous", "busy_timeout", "mmap_size")}  # fmt: skip
    assert found == {
        "journal_mode": "wal",
        "wal_autocheckpoint": 0,
        "synchronous": 1,
        "busy_timeout": 30000,
        "mmap_size": 0,
    }


def test_a_writer_that_does_not_let_go_is_reported(url: str, store: Store):
    other = Store.open(url, busy_s=0.2)
    try:
        with store._database.write(), pytest.raises(StoreError, match="locked"):
            other.runs.upsert(RunRow(id="x", name="x", folder="/"))
        with pytest.raises(StoreError, match="locked"), _foreign_lock(url):
            other.runs.upsert(RunRow(id="x", name="x", folder="/"))
        other.runs.upsert(RunRow(id="x", name="x", folder="/"))
    finally:
        other.close()


@contextlib.contextmanager
def _foreign_lock(url: str) -> Generator[None]:
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
    finally:
        connection.execute("ROLLBACK")
        connection.close()


def test_the_write_ahead_log_is_moved_into_the_database_while_others_read(url: str, store: Store):
    reading, done = threading.Event(), threading.Event()

    def reader() -> None:
        with store._database.read() as connection:
            connection.exec_driver_sql("SELECT * FROM runs").all()
            reading.set()
            done.wait(60)

    thread = threading.Thread(target=reader)
    thread.start()
    reading.wait(60)
    wal = Path(url.removeprefix("sqlite:///") + "-wal")
    big = "x" * 2**20
    try:
        for n in range(40):
            store.runs.upsert(RunRow(id=f"big-{n}", name=big, folder="/"))
        assert wal.stat().st_size > 16 * 2**20
    finally:
        done.set()
        thread.join()
    store.runs.upsert(RunRow(id="last", name="x", folder="/"))
    assert wal.stat().st_size < 2**20
    assert len(store.runs.ids()) == 42


def test_a_full_disk_loses_nothing_and_is_survived(url: str, store: Store):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    wal = Path(url.removeprefix("sqlite:///") + "-wal")
    # A file that may not grow is what a full disk looks like from inside the process.
    resource.setrlimit(resource.RLIMIT_FSIZE, (wal.stat().st_size + 20_000, limits[1]))
    try:
        with pytest.raises(StoreError, match="refused"):
            store.runs.upsert(RunRow(id="big", name="x" * 2**20, folder="/"))
        assert store.runs.ids() == ["run-1"]
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    store.runs.upsert(RunRow(id="big", name="x" * 2**20, folder="/"))
    assert store.runs.get("big") is not None


def test_closing_gives_everything_back(url: str):
    before = set(Path("/proc/self/fd").iterdir())
    for _ in range(5):
        store = Store.open(url)
        store.runs.upsert(RunRow(id="x", name="x", folder="/"))
        store.close()
        store.close()
        with pytest.raises(StoreError, match="closed"):
            store.runs.upsert(RunRow(id="y", name="y", folder="/"))
    assert set(Path("/proc/self/fd").iterdir()) <= before
