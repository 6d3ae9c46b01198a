"""Runs that are followed over SSH: everything once, whatever the network does, and new bytes without asking."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.wire import Header, RunLayout, encode_header, encode_metrics
from verl_lab.errors import TransportError
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader, RunUpdate

if TYPE_CHECKING:
    import random
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from cuttable_proxy import Proxy
    from ssh_server import Server

    from verl_lab.transport.ssh import SshHost

PATIENCE_S = 120.0


class Followed:
    """Runs that are written here and followed over a connection, and what was heard of them."""

    def __init__(self, folder: Path, host: SshHost) -> None:
        self.folder = folder
        self.host = host
        self.store = Store.open(f"sqlite:///{folder / 'index.db'}")
        self.feed = Feed()
        self.heard: list[RunUpdate] = []
        self.feed.subscribe(self.heard.append)
        self.reader = Reader(self.store, self.feed, poll_s=0.1)

    def begin(self, run_id: str, *, steps: int = 0, resumed: bool = False, is_followed: bool = True) -> Path:
        layout = RunLayout(self.folder / run_id)
        attempts = 2 if resumed else 1
        for number in range(1, attempts + 1):
            attempt = layout.attempt(number)
            attempt.folder.mkdir(parents=True)
            header = encode_header(Header(run_id, number, 1, 1, "boot"))
            for path in (attempt.events, attempt.metrics, attempt.system):
                path.write_bytes(header)
            status = {"version": 1, "run": run_id, "attempt": number, "state": "running", "step": steps}
            attempt.status.write_text(json.dumps(status))
            self.add(run_id, steps=range((number - 1) * steps, number * steps))
        self.store.runs.upsert(RunRow(id=run_id, name=run_id, folder=str(self.folder / run_id)))
        if is_followed:
            self.follow(run_id)
        return layout.attempt(attempts).metrics

    def add(self, run_id: str, *, steps: range) -> None:
        """Let the newest attempt write some steps."""
        layout = RunLayout(self.folder / run_id)
        newest = max(int(entry.name) for entry in layout.attempts.iterdir())
        with layout.attempt(newest).metrics.open("ab") as file:
            for step in steps:
                file.write(encode_metrics(step, step, 1.0, {"a": 1.0}))

    def follow(self, run_id: str) -> None:
        self.reader.follow(FollowedRun(run_id, self.host, str(self.folder / run_id)))

    def steps(self, run_id: str) -> list[int]:
        return self.store.metrics.read(run_id, "a")[0].tolist()

    def heard_steps(self, run_id: str) -> Counter[int]:
        return Counter(record.step for update in self.heard if update.run_id == run_id for record in update.records)

    def until(self, holds: Callable[[], object]) -> None:
        until = time.monotonic() + PATIENCE_S
        while not holds():
            assert time.monotonic() < until, [update.error for update in self.heard if update.error][-3:]
            time.sleep(0.01)

    def close(self) -> None:
        self.reader.close()
        self.store.close()


@pytest.fixture
def followed(far: SshHost, tmp_path: Path) -> Iterator[Followed]:
    followed = Followed(tmp_path / "lab", far) if (tmp_path / "lab").mkdir() is None else None
    assert followed is not None
    yield followed
    followed.close()


def test_cuts_lose_and_double_nothing(
    followed: Followed, proxy: Proxy, rounds: Callable[[int], int], dice: random.Random
):
    log = followed.begin("run-1")
    cuts = rounds(200)
    written = threading.Event()
    steps = 0

    def write() -> None:
        nonlocal steps
        with log.open("ab", buffering=0) as file:
            while not written.is_set():
                content = b""
                for _ in range(dice.choice([1, 1, 5, 100])):
                    content += encode_metrics(steps, steps, 1.0, {"a": steps / 7})
                    steps += 1
                cut = dice.randrange(len(content))
                file.write(content[:cut])
                time.sleep(dice.uniform(0, 0.04))
                file.write(content[cut:])

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for number in range(cuts):
            if number % 2:  # some cuts follow each other, some come after something was read
                read = len(followed.steps("run-1"))
                followed.until(lambda read=read: len(followed.steps("run-1")) > read)
            before = proxy.connections
            proxy.cut_after = dice.randrange(1, 50_000)
            followed.until(lambda: proxy.cut_after is None)
            followed.until(lambda before=before: proxy.connections > before)
    finally:
        written.set()
        writer.join()
    followed.until(lambda: len(followed.steps("run-1")) == steps)
    assert followed.steps("run-1") == list(range(steps))
    followed.until(lambda: len(followed.heard_steps("run-1")) == steps)
    assert followed.heard_steps("run-1") == Counter(range(steps))
    assert followed.store.positions("run-1")[1, "metrics.jsonl"].generation == 0


def test_fifty_runs_are_followed_over_one_channel(followed: Followed, proxy: Proxy, sshd: Server):
    sessions = sshd.log().count("Starting session")
    logs = [followed.begin(f"run-{number}") for number in range(50)]
    for step in range(10):
        for log in logs:
            with log.open("ab") as file:
                file.write(encode_metrics(step, step, 1.0, {"a": 1.0}))
    for number in range(50):
        followed.until(lambda number=number: followed.steps(f"run-{number}") == list(range(10)))
        followed.until(lambda number=number: followed.heard_steps(f"run-{number}") == Counter(range(10)))
    assert proxy.connections == 1
    assert sshd.log().count("Starting session") == sessions + 1


def test_sync_reads_what_was_written_before_it_whatever_was_pushed(followed: Followed, rounds: Callable[[int], int]):
    log = followed.begin("run-1")
    steps = rounds(500)
    for step in range(steps):
        with log.open("ab") as file:
            file.write(encode_metrics(step, step, 1.0, {"a": 1.0}))
        followed.reader.sync("run-1")
        assert len(followed.steps("run-1")) == step + 1
    followed.until(lambda: len(followed.heard_steps("run-1")) == steps)
    assert followed.heard_steps("run-1") == Counter(range(steps))
    assert followed.store.positions("run-1")[1, "metrics.jsonl"].generation == 0


def test_file_that_is_replaced_or_cut_short_is_noticed(followed: Followed, proxy: Proxy):
    proxy.delay_s = 0.005
    log = followed.begin("run-1")
    header = encode_header(Header("run-1", 1, 1, 1, "boot"))
    for generation in range(10):
        lines = [encode_metrics(step, step, 1.0, {"a": float(generation)}) for step in range(20)]
        if generation % 2:
            beside = log.with_name("beside")
            beside.write_bytes(header + b"".join(lines))
            beside.replace(log)  # as long as the one before, and never shorter
        else:
            log.write_bytes(header)
            log.write_bytes(header + b"".join(lines))
        followed.until(
            lambda generation=generation: (
                followed.store.metrics.read("run-1", "a")[1].tolist() == [float(generation)] * 20
            )
        )


def numbered(host: SshHost) -> int:
    """Return how many questions were asked on the present connection."""
    agent = host._link.session().agent
    assert agent is not None
    return agent._number


def test_many_runs_are_read_with_as_few_questions_as_one(far: SshHost, proxy: Proxy, tmp_path: Path):
    asked: dict[tuple[int, str], int] = {}
    for runs in (1, 40):
        (tmp_path / f"{runs}").mkdir()
        followed = Followed(tmp_path / f"{runs}", far)
        before = numbered(far)
        names = [f"run-{number}" for number in range(runs)]
        for name in names:
            followed.begin(name, steps=20, resumed=True)
        for name in names:
            followed.until(lambda name=name, followed=followed: followed.steps(name) == list(range(40)))
        asked[runs, "first"] = numbered(far) - before
        proxy.cut()
        for name in names:
            followed.add(name, steps=range(40, 42))
        for name in names:
            followed.until(lambda name=name, followed=followed: followed.steps(name) == list(range(42)))
        asked[runs, "after a cut"] = numbered(far)
        followed.reader.close()
        followed.reader = Reader(followed.store, followed.feed, poll_s=0.1)
        for name in names:
            followed.add(name, steps=range(42, 44))
        before = numbered(far)
        for name in names:
            followed.follow(name)
        for name in names:
            followed.until(lambda name=name, followed=followed: followed.steps(name) == list(range(44)))
        asked[runs, "anew"] = numbered(far) - before
        assert followed.heard_steps(names[-1]) == Counter(range(44))
        followed.close()
    # The first of them is begun with while the others are still named.
    assert max(asked.values()) <= 12, asked


def test_more_than_comes_at_once_is_read_in_parts_and_as_a_whole(followed: Followed, far: SshHost):
    lines = b"".join(encode_metrics(step, step, 1.0, {"a": 1.0, "b" * 100: 2.0}) for step in range(2000))
    assert len(lines) > 250_000
    before = numbered(far)
    sizes = [1, 1, 9, 1, 1, 1, 1, 1, 1, 1, 1]  # the third is larger than all that comes at once
    for number, times in enumerate(sizes):
        log = followed.begin(f"run-{number}", is_followed=False)
        with log.open("ab") as file:
            for _ in range(times):
                file.write(lines)
    for number in range(len(sizes)):
        followed.follow(f"run-{number}")
    for number, times in enumerate(sizes):
        followed.until(lambda number=number: followed.steps(f"run-{number}") == list(range(2000)))
        followed.until(
            lambda number=number, times=times: set(followed.heard_steps(f"run-{number}").values()) == {times}
        )
    assert numbered(far) - before <= 25


def test_new_bytes_come_without_a_question(far: SshHost, proxy: Proxy, tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"begin\n")
    watcher = far.watcher()
    watcher.watch([str(tmp_path)])
    watcher.wait(PATIENCE_S)
    assert far.stat(str(path))
    assert far.read(str(path), 0, 4096) == b"begin\n"
    agent = far._link.session().agent
    assert agent is not None
    for number in range(50):
        before = agent._number
        with path.open("ab") as file:
            file.write(b"%d\n" % number)
        found = None
        while found is None or found.size != path.stat().st_size:  # one write may be told of in two waits
            if str(path) in watcher.wait(PATIENCE_S):
                found = far.stat(str(path))
        assert far.read(str(path), 0, 4096) == path.read_bytes()
        assert agent._number == before, "the host was asked"
    watcher.close()


def test_asking_twice_between_two_waits_looks_anew(far: SshHost, tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"old")
    watcher = far.watcher()
    watcher.watch([str(tmp_path)])
    watcher.wait(PATIENCE_S)
    assert far.read(str(path), 0, 4096) == b"old"
    watcher.wait(0.01)
    path.write_bytes(b"newer")
    assert far.read(str(path), 0, 4096) in (b"old", b"newer")
    assert far.read(str(path), 0, 4096) == b"newer"
    far.write_atomic(str(path), b"mine")
    assert far.read(str(path), 0, 4096) == b"mine"
    watcher.close()


def test_reader_that_takes_nothing_makes_nothing_pile_up(far: SshHost, tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"begin\n")
    watcher = far.watcher()
    watcher.watch([str(tmp_path)])
    watcher.wait(PATIENCE_S)
    far.read(str(path), 0, 4096)
    for _ in range(200):
        with path.open("ab") as file:
            file.write(b"x" * 10_000)
        watcher.wait(0.01)
    held = sum(len(body) for _, body in watcher._frames) + len(watcher.mirror._paths[str(path)].content)
    assert held <= 2**17
    content = b""
    while len(content) < path.stat().st_size:
        content += far.read(str(path), len(content), 2**20)
    assert content == path.read_bytes()
    watcher.close()


def test_host_without_commands_is_followed_by_looking(sftp_host: SshHost, tmp_path: Path):
    (tmp_path / "lab").mkdir()
    followed = Followed(tmp_path / "lab", sftp_host)
    log = followed.begin("run-1")
    for step in range(5):
        with log.open("ab") as file:
            file.write(encode_metrics(step, step, 1.0, {"a": 1.0}))
    followed.until(lambda: followed.steps("run-1") == list(range(5)))
    with pytest.raises(TransportError, match="runs no commands"):
        sftp_host.run(["true"], timeout_s=60)
    with pytest.raises(TransportError, match="runs no commands"):
        sftp_host.start_detached(["true"], cwd="/", log="/dev/null")
    followed.close()
