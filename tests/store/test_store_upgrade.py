"""Databases of older versions, as those versions wrote them: brought up to date whole, or left as they were."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sqlite3
from typing import TYPE_CHECKING, Any

import pytest
from index_recordings import RUN, make_index, make_newer
from sqlalchemy import event, inspect, text
from sqlalchemy.engine import Engine

from verl_lab.domain.host import HostEntry
from verl_lab.domain.wire import MetricRecord
from verl_lab.errors import StoreError
from verl_lab.store import Batch, FilePosition, Store, tables
from verl_lab.store.migrations import NEWEST, STEPS

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from postgres_server import Server

OLDER = range(1, NEWEST)
ADDED = {2: ("datasets", "dataset_places", "file_hashes"), 3: ("hosts", "secret_keys", "secrets")}


@pytest.mark.parametrize("version", OLDER)
def test_older_database_becomes_the_newest_with_all_it_held(tmp_path: Path, version: int) -> None:
    file = make_index(tmp_path / "index.db", version)
    store = Store.open(f"sqlite:///{file}")
    assert_newest(store)
    assert_all_there(store, version)
    entry = HostEntry.of(name="box", hostname="192.0.2.1")
    store.hosts.add(entry)
    record = (102100, MetricRecord(1020, 1021, 1.7e9, {"critic/score/mean": 9.0}))
    start = store.position(RUN, 2, "metrics.jsonl")
    assert store.commit(Batch(RUN, 2, "metrics.jsonl", start, FilePosition(2100, 0, b"i"), records=[record]))
    assert store.metrics.read(RUN, "critic/score/mean")[1][-1] == 9.0
    store.close()
    with sqlite3.connect(file) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.parametrize("version", OLDER)
def test_older_postgresql_database_becomes_the_newest(postgres: Server, version: int) -> None:
    url = postgres.new_database()
    store = Store.open(url)
    with store._database.write() as connection:
        for later in range(version + 1, NEWEST + 1):
            for table in ADDED[later]:
                connection.execute(text(f"DROP TABLE {table}"))
        connection.execute(text("UPDATE schema_version SET version = :v"), {"v": version})
    store.close()
    store = Store.open(url)
    assert_newest(store)
    store.hosts.add(HostEntry.of(name="box", hostname="192.0.2.1"))
    assert [row.entry.name for row in store.hosts.list()] == ["box"]
    assert store.datasets.list() == []
    store.close()


@pytest.mark.parametrize("version", OLDER)
def test_process_killed_while_it_migrates_leaves_the_database_as_it_was(
    tmp_path: Path, version: int, rounds: Callable[[int], int], dice: random.Random
) -> None:
    statements = _statements_of(make_index(tmp_path / "counted.db", version))
    assert statements > len(ADDED[version + 1])
    for number in range(rounds(40)):
        file = make_index(tmp_path / f"index-{number}.db", version)
        last = dice.randint(1, statements)
        child = multiprocessing.get_context("fork").Process(target=_migrate_and_die, args=(file, last))
        child.start()
        child.join(60)
        assert child.exitcode == -signal.SIGKILL
        with sqlite3.connect(file) as connection:
            present = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
            versions = [found for (found,) in connection.execute("SELECT version FROM schema_version")]
        connection.close()
        assert versions == [version], last
        assert not present & {table for later in range(version + 1, NEWEST + 1) for table in ADDED[later]}, last
        store = Store.open(f"sqlite:///{file}")
        assert_newest(store)
        assert_all_there(store, version)
        store.close()


def test_migration_that_fails_leaves_the_database_as_it_was(tmp_path: Path) -> None:
    file = make_index(tmp_path / "index.db", 1)
    with sqlite3.connect(file) as connection:
        connection.execute("CREATE TABLE secret_keys (x)")  # of the last step, and of someone else
    connection.close()
    for _ in range(2):
        with pytest.raises(StoreError, match="secret_keys"):
            Store.open(f"sqlite:///{file}")
    with sqlite3.connect(file) as connection:
        assert connection.execute("SELECT version FROM schema_version").fetchall() == [(1,)]
        assert not connection.execute("SELECT * FROM sqlite_master WHERE name = 'datasets'").fetchall()
        connection.execute("DROP TABLE secret_keys")
    connection.close()
    store = Store.open(f"sqlite:///{file}")
    assert_all_there(store, 1)
    store.close()


def test_newer_database_is_refused_and_left_as_it_is(tmp_path: Path) -> None:
    file = make_newer(tmp_path / "index.db")
    before = file.read_bytes()
    with pytest.raises(StoreError, match=f"schema version {NEWEST + 1}; .* up to {NEWEST}") as caught:
        Store.open(f"sqlite:///{file}")
    assert "Upgrade verl-lab" in (caught.value.hint or "")
    assert file.read_bytes() == before


def assert_newest(store: Store) -> None:
    assert len(STEPS) == NEWEST - 1
    with store._database.read() as connection:
        assert connection.scalar(text("SELECT max(version) FROM schema_version")) == NEWEST
        found = inspect(connection)
        assert set(found.get_table_names()) == set(tables.metadata.tables)
        for name, table in tables.metadata.tables.items():
            columns = {one["name"]: one for one in found.get_columns(name)}
            assert list(columns) == [column.name for column in table.columns]
            for column in table.columns:
                shown = columns[column.name]["type"]
                assert type(shown)._type_affinity is type(column.type)._type_affinity, (name, column.name)
            assert found.get_pk_constraint(name)["constrained_columns"] == [one.name for one in table.primary_key]


def assert_all_there(store: Store, version: int) -> None:
    rows = {row.id: row for row in store.runs.list()}
    assert list(rows) == ["attached-0123456789", RUN]
    run = rows[RUN]
    assert (run.name, run.recipe, run.state, run.step, run.attempt) == ("old", "grpo-cpu", "completed", 1020, 2)
    assert run.last["critic/score/mean"] == 1020 / 4 + 0.5
    steps, values = store.metrics.read(RUN, "critic/score/mean")
    # The second attempt went on from step 1000: what the first had logged after it does not count.
    assert steps.tolist() == list(range(1, 1021))
    assert values.tolist() == [step / 4 if step <= 1000 else step / 4 + 0.5 for step in range(1, 1021)]
    assert store.metrics.read(RUN, "val-core/acc")[0].tolist() == list(range(100, 1001, 100))
    kinds = [(one.attempt, one.kind) for one in store.events.read(RUN)]
    assert kinds == [(1, "train_begin"), (1, "checkpoint_saved"), (2, "train_begin")]
    assert store.quarantine.count(RUN) == 1
    assert store.position(RUN, 1, "metrics.jsonl") == FilePosition(120000, 0, b"fingerprint")
    names = [(one.name, one.places, one.schema) for one in store.datasets.list()]
    assert names == ([("questions", ("/data/rows.parquet",), {"prompt": "string"})] if version >= 2 else [])
    assert bool(store.datasets.hashes(["/data/rows.parquet"])) == (version >= 2)


def _statements_of(file: Path) -> int:
    """Return how many statements are executed to bring a database up to date."""
    count = 0

    def counted(*_: Any) -> None:
        nonlocal count
        count += 1

    event.listen(Engine, "before_cursor_execute", counted)
    try:
        Store.open(f"sqlite:///{file}").close()
    finally:
        event.remove(Engine, "before_cursor_execute", counted)
    return count


def _migrate_and_die(file: Path, last: int) -> None:
    done = 0

    def counted(*_: Any) -> None:
        nonlocal done
        done += 1
        if done == last:
            os.kill(os.getpid(), signal.SIGKILL)

    event.listen(Engine, "after_cursor_execute", counted)
    Store.open(f"sqlite:///{file}")
