"""The index on a real PostgreSQL server: many writers, killed readers, a server that goes and comes back."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import orjson
import pytest
from sqlalchemy import text

from verl_lab.domain.wire import Header, RunLayout, encode_header, encode_metrics
from verl_lab.errors import InvalidInputError, StoreError
from verl_lab.store import RunRow, Store
from verl_lab.store.migrations import NEWEST
from verl_lab.stream import Feed, FollowedRun, Reader, Reindexed, RunUpdate, rebuild
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

    from postgres_server import Server

KILLED_READERS = Path(__file__).parents[1] / "stream" / "programs" / "killed_readers.py"


def test_processes_opening_a_new_store_at_once_make_one_schema(
    crowd: Callable[[str, int, int], None], postgres: Server, rounds: Callable[[int], int]
):
    for _ in range(max(1, rounds(30) // 3)):
        url = postgres.new_database()
        crowd(url, 8, 1)
        store = Store.open(url)
        assert sorted(store.runs.ids()) == [f"run-{n}" for n in range(8)]
        with store._database.read() as connection:
            assert connection.scalars(text("SELECT version FROM schema_version")).all() == [NEWEST]
        store.close()


def test_eight_processes_write_at_once_and_lose_nothing(crowd: Callable[[str, int, int], None], postgres: Server):
    url = postgres.new_database()
    crowd(url, 8, 100)
    store = Store.open(url)
    for n in range(8):
        for name in ("shared", f"own-{n}"):
            assert store.metrics.read(f"run-{n}", name)[1].tolist() == [float(x) for x in range(100)]
    store.close()


def test_killed_readers_lose_and_double_nothing(
    postgres: Server, tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
):
    url, log = postgres.new_database(), tmp_path / "verl.jsonl"
    log.touch()
    store = Store.open(url)
    store.runs.upsert(RunRow(id="run-1", name="run-1", folder=str(log), kind="attached"))
    kills = max(1, rounds(200))
    argv = [sys.executable, str(KILLED_READERS), url, str(log), "attached", str(kills), "postgres"]
    killer = subprocess.Popen(argv, stdout=subprocess.PIPE)
    step = 0
    with log.open("ab", buffering=0) as file:
        while killer.poll() is None:
            content = b""
            for _ in range(dice.choice([1, 1, 5, 300])):
                step += 1
                content += orjson.dumps({"step": step, "data": {"a": step / 7}}) + b"\n"
            cut = dice.randrange(len(content))
            file.write(content[:cut])
            time.sleep(dice.uniform(0, 0.02))
            file.write(content[cut:])
    said, _ = killer.communicate()
    assert (killer.returncode, len(said.splitlines())) == (0, kills)
    reader = Reader(store, Feed())
    reader.follow(FollowedRun("run-1", LocalHost(), str(log), "attached"))
    reader.sync("run-1")
    reader.close()
    steps, values = store.metrics.read("run-1", "a")
    assert steps.tolist() == list(range(1, step + 1))
    assert values.tolist() == [n / 7 for n in range(1, step + 1)]
    assert records_in(store) == step
    store.close()


def test_a_server_that_crashes_and_comes_back_costs_nothing(stoppable_postgres: Server, tmp_path: Path):
    layout = RunLayout(tmp_path / "run")
    attempt = layout.attempt(1)
    attempt.folder.mkdir(parents=True)
    store = Store.open(stoppable_postgres.new_database())
    store.runs.upsert(RunRow(id="run-1", name="run-1", folder=str(layout.folder)))
    feed = Feed()
    heard: list[RunUpdate] = []
    feed.subscribe(heard.append)
    reader = Reader(store, feed, poll_s=0.05)
    reader.follow(FollowedRun("run-1", LocalHost(), str(layout.folder)))
    with attempt.metrics.open("ab", buffering=0) as file:
        file.write(encode_header(Header("run-1", 1, 1, 1, "boot")))
        for step in range(1, 401):
            file.write(encode_metrics(step, step, 1.0, {"a": float(step)}))
            if step == 200:
                stoppable_postgres.stop(signal.SIGQUIT)
                with pytest.raises(StoreError, match="refused"):
                    store.runs.list()
            if step == 220:  # what was written before may all have been stored
                until(lambda: any(update.error for update in heard))
                stoppable_postgres.start()
            time.sleep(0.001)
    until(lambda: [r.step for update in heard for r in update.records] == list(range(1, 401)))
    assert store.metrics.read("run-1", "a")[1].tolist() == [float(step) for step in range(1, 401)]
    assert records_in(store) == 400
    reader.close()
    done = Reindexed()
    rebuild(store, FollowedRun("run-1", LocalHost(), str(layout.folder)), done)
    assert (done.rebuilt, records_in(store)) == (["run-1"], 400)
    assert store.runs.ids() == ["run-1"]
    store.close()


def test_a_writer_that_does_not_let_go_is_reported(postgres: Server):
    url = postgres.new_database()
    store, other = Store.open(url), Store.open(url, busy_s=0.3)
    with store._database.write(), pytest.raises(StoreError, match="lock timeout") as caught:
        other.runs.upsert(RunRow(id="x", name="x", folder="/"))
    assert "read again later" in (caught.value.hint or "")
    other.runs.upsert(RunRow(id="x", name="x", folder="/"))
    store.close()
    other.close()


def test_a_reading_sees_one_moment(postgres: Server):
    url = postgres.new_database()
    store, other = Store.open(url), Store.open(url)
    with store._database.read() as connection:
        assert connection.scalar(text("SELECT count(*) FROM runs")) == 0
        other.runs.upsert(RunRow(id="x", name="x", folder="/"))
        assert connection.scalar(text("SELECT count(*) FROM runs")) == 0
    assert store.runs.ids() == ["x"]
    store.close()
    other.close()


def test_a_server_that_is_not_there_is_told_without_the_password(tmp_path: Path):
    with pytest.raises(StoreError) as caught:
        Store.open(f"postgresql+psycopg://me:geheim@/lab?host={tmp_path}")
    shown = "".join(str(one) for one in (caught.value, caught.value.hint))
    assert "postgresql+psycopg://me:***@/lab" in shown
    assert "geheim" not in shown


def test_a_driver_that_is_not_installed_is_named():
    with pytest.raises(InvalidInputError, match=r"database: .*psycopg2"):
        Store.open("postgresql+psycopg2://me@/lab")


def records_in(store: Store) -> int:
    with store._database.read() as connection:
        rows = connection.scalar(text("SELECT count(*) FROM tail")) or 0
        return rows + int(connection.scalar(text("SELECT coalesce(sum(rows), 0) FROM blocks")) or 0)


def until(holds: Callable[[], object], timeout_s: float = 60) -> None:
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)
