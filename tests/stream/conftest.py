"""A run folder that a test writes, and a lab's reading side to read it."""

from __future__ import annotations

import os
import sqlite3
import time
from typing import TYPE_CHECKING

import orjson
import pytest

from verl_lab.domain.wire import EventRecord, Header, RunLayout, encode_event, encode_header, encode_metrics
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader, RunUpdate
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


class Trainer:
    """Writes a run folder as verl's side does."""

    def __init__(self, folder: Path, run_id: str = "run-1") -> None:
        self.run_id = run_id
        self.layout = RunLayout(folder)
        self.number = 0
        self.seq = 0
        self.begin()

    def begin(self, resumed_from: int | None = None) -> None:
        self.number += 1
        self.seq = 0
        self.attempt.folder.mkdir(parents=True)
        header = encode_header(Header(self.run_id, self.number, os.getpid(), self.number, "boot"))
        self.append(self.attempt.events, header)
        if resumed_from is not None:
            self.event("train_begin", resumed_from=resumed_from)
        self.append(self.attempt.metrics, header)

    @property
    def attempt(self):
        return self.layout.attempt(self.number)

    def append(self, path: Path, content: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(content)

    def log(self, step: int, **data: float) -> None:
        self.append(self.attempt.metrics, encode_metrics(self.seq, step, 1e9 + self.seq, data))
        self.seq += 1

    def event(self, kind: str, **data: object) -> None:
        self.append(self.attempt.events, encode_event(EventRecord(0, 1.0, kind, None, "trainer", data)))

    def status(self, state: str, **fields: object) -> None:
        content = orjson.dumps({"version": 1, "run": self.run_id, "attempt": self.number, "state": state, **fields})
        beside = self.attempt.folder / "status.new"
        beside.write_bytes(content)
        beside.replace(self.attempt.status)


class Reading:
    """A store, a feed and a reader, and what the feed said."""

    def __init__(self, url: str, poll_s: float = 0.1) -> None:
        self.store = Store.open(url, busy_s=5)
        self.host = LocalHost()
        self.feed = Feed()
        self.heard: list[RunUpdate] = []
        self.feed.subscribe(self.heard.append)
        self.reader = Reader(self.store, self.feed, poll_s=poll_s)

    def follow(self, path: Path, run_id: str = "run-1", kind: str = "run") -> None:
        self.store.runs.upsert(RunRow(id=run_id, name=run_id, folder=str(path), kind=kind))
        self.reader.follow(FollowedRun(run_id, self.host, str(path), kind))

    def read(self, name: str, run_id: str = "run-1") -> dict[int, float]:
        steps, values = self.store.metrics.read(run_id, name)
        return dict(zip(steps.tolist(), values.tolist(), strict=True))

    def row(self, run_id: str = "run-1") -> RunRow:
        row = self.store.runs.get(run_id)
        assert row is not None
        return row

    def rows_stored(self) -> int:
        """Count the metric records in the database, masked or not, checking the file as well."""
        connection = sqlite3.connect(str(self.store._database._file))
        tail = connection.execute("SELECT count(*) FROM tail").fetchone()[0]
        folded = connection.execute("SELECT coalesce(sum(rows), 0) FROM blocks").fetchone()[0]
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        connection.close()
        return tail + folded

    def steps_heard(self, run_id: str = "run-1") -> list[int]:
        return [record.step for update in self.heard if update.run_id == run_id for record in update.records]

    def close(self) -> None:
        self.reader.close()
        self.store.close()


def eventually(holds: Callable[[], object], timeout_s: float = 60) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.005)


@pytest.fixture
def until() -> Callable[..., None]:
    return eventually


@pytest.fixture
def url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path / 'index.db'}"


@pytest.fixture
def new_trainer(tmp_path: Path) -> Callable[[str], Trainer]:
    """Return what begins a run of a given id."""
    return lambda run_id: Trainer(tmp_path / run_id, run_id)


@pytest.fixture
def trainer(new_trainer: Callable[[str], Trainer]) -> Trainer:
    return new_trainer("run-1")


@pytest.fixture
def reading(url: str) -> Iterator[Reading]:
    found = Reading(url)
    yield found
    found.close()


@pytest.fixture
def another_reading(url: str) -> Iterator[Callable[[], Reading]]:
    """Return what opens one more reader on the same database, as another notebook would."""
    opened: list[Reading] = []

    def open_one() -> Reading:
        opened.append(Reading(url))
        return opened[-1]

    yield open_one
    for one in opened:
        one.close()
