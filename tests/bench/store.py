"""What reading, storing and querying cost, as ratios to the limits measured in the same run.

python tests/bench/store.py [--json] [--steps 20000]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson
from parts.rows import Row, interleaved, show
from parts.runs import NAMES, fill, values, write_run

from verl_lab import Lab
from verl_lab.domain.wire import MetricRecord, encode_metrics
from verl_lab.store import Batch, FilePosition, RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from verl_lab.stream import RunUpdate


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--steps", type=int, default=20_000, help="steps to ingest")
    chosen = arguments.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        rows += ingest(Path(folder) / "ingest", chosen.steps)
        for steps, bar in ((100_000, 4.0), (1_000_000, 10.0)):
            rows += query(Path(folder) / f"query-{steps}", steps, bar)
            shutil.rmtree(Path(folder) / f"query-{steps}")
        rows += freshness(Path(folder) / "fresh")
        rows += run_list(Path(folder) / "list")
    show(rows, as_json=chosen.json)


def opened(folder: Path, run_id: str = "bench") -> tuple[Store, Feed, Reader]:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(f"sqlite:///{folder / 'bench.db'}")
    store.runs.upsert(RunRow(id=run_id, name=run_id, folder=str(folder)))
    feed = Feed()
    return store, feed, Reader(store, feed)


def ingest(folder: Path, steps: int) -> list[Row]:
    file = write_run(folder / "run", steps)
    size = file.stat().st_size
    parse_s: list[float] = []
    ingest_s: list[float] = []
    for n in range(7):
        start = time.perf_counter()
        for line in file.read_bytes().splitlines():
            orjson.loads(line)
        parse_s.append(time.perf_counter() - start)
        store, _, reader = opened(folder / f"round-{n}")
        start = time.perf_counter()
        reader.follow(FollowedRun("bench", LocalHost(), str(folder / "run")))
        reader.sync("bench")
        ingest_s.append(time.perf_counter() - start)
        reader.close()
        store.close()
    points = steps * len(NAMES)
    share = statistics.median(p / i for p, i in zip(parse_s, ingest_s, strict=True))
    disk = (folder / "round-0" / "bench.db").stat().st_size / points
    said = f"{share:.0%} ({points / statistics.median(ingest_s) / 1e3:,.0f} k points/s, {size / 1e6:.0f} MB)"
    return [
        Row("file to database, of orjson's parse-only rate", said, ">= 25 %", share >= 0.25),
        Row("disk of the index, bytes a point", f"{disk:.2f}", "<= 10", disk <= 10),
    ]


def query(folder: Path, steps: int, bar: float) -> list[Row]:
    """Read one metric of a finished run through ``run.metrics``, which looks at the run's files each time."""
    home, run_id = folder / "home", "20260101-000000-bench-0000"
    write_run(home / "runs" / run_id, 1)
    raw = folder / "raw.bin"
    np.random.default_rng(0).normal(size=(len(NAMES), steps)).tofile(raw)
    with Lab(home) as lab:
        run = lab.run(run_id)
        run.sync()
        fill(lab.store, run_id, steps)  # its own file would take a gigabyte

        def by_memmap() -> None:
            np.array(np.memmap(raw, dtype=np.float64, mode="r", shape=(len(NAMES), steps))[7])

        def by_lab() -> None:
            found, _ = run.metrics(NAMES[7])
            assert len(found) == steps

        by_lab()
        limit, again = interleaved([by_memmap, by_lab], 25)
        firsts: list[float] = []
        for name in NAMES[8:28]:
            start = time.perf_counter()
            found, _ = run.metrics(name)
            firsts.append(time.perf_counter() - start)
            assert len(found) == steps
    first = statistics.median(firsts)
    return [
        Row(
            f"one metric of {steps:,} steps, against memmap",
            f"{again / limit:.1f}x ({again * 1e3:.2f} ms, memmap {limit * 1e3:.2f} ms)",
            f"<= {bar:g}x",
            again <= bar * limit,
        ),
        Row("  the first time in a process", f"{first / limit:.1f}x ({first * 1e3:.2f} ms)"),
    ]


def freshness(folder: Path) -> list[Row]:
    file = write_run(folder / "run", 10)
    store, feed, reader = opened(folder)
    poll_s = 0.5
    heard = threading.Event()
    at: list[float] = []

    def listener(update: RunUpdate) -> None:
        if update.records:
            at.append(time.perf_counter())
            heard.set()

    (file.parent / "status.json").unlink()  # it runs
    reader.follow(FollowedRun("bench", LocalHost(), str(folder / "run")))
    reader.sync("bench")
    feed.subscribe(listener)
    delays: list[float] = []
    dice = np.random.default_rng(1)
    with file.open("ab", buffering=0) as log:
        for step in range(11, 211):
            time.sleep(float(dice.uniform(0.01, 0.05)))
            heard.clear()
            at.clear()
            start = time.perf_counter()
            log.write(encode_metrics(step, step, time.time(), dict.fromkeys(NAMES, float(step))))
            assert heard.wait(5)
            delays.append(at[0] - start)
    reader.close()
    store.close()
    middle, worst = statistics.median(delays), max(delays)
    bar = poll_s / 2 + 0.005
    said = f"median {middle * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms"
    return [Row("written to feed", said, f"<= {bar * 1e3:.0f} ms (poll/2 + 5)", middle <= bar)]


def run_list(folder: Path) -> list[Row]:
    store, _, reader = opened(folder)
    add_runs(store, 0, 1000)
    (whole,) = interleaved([lambda: all_of(store, None)], 25)
    add_runs(store, 1000, 10_000)
    (page,) = interleaved([lambda: all_of(store, 50)], 25)
    reader.close()
    store.close()
    return [
        Row("1,000 runs with last values", f"{whole * 1e3:.1f} ms", "<= 5 ms", whole <= 0.005),
        Row("a page of 50 of 10,000 runs", f"{page * 1e3:.1f} ms", "<= 5 ms", page <= 0.005),
    ]


def add_runs(store: Store, first: int, last: int) -> None:
    data = next(values(1))
    for n in range(first, last):
        store.runs.upsert(RunRow(id=f"run-{n}", name=f"run {n}", folder="/nowhere", created=float(n)))
        record = (0, MetricRecord(0, 1, 1.0, data))
        assert store.commit(Batch(f"run-{n}", 1, "metrics.jsonl", None, FilePosition(1, 0, b""), records=[record]))


def all_of(store: Store, limit: int | None) -> float:
    return sum(run.last.get(NAMES[0], 0.0) for run in store.runs.list(limit=limit))


if __name__ == "__main__":
    main()
