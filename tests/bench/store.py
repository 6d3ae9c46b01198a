"""What reading, storing and querying cost, as ratios to the limits measured in the same run.

    python tests/bench/store.py [--json] [--steps 100000]

Machines are shared and noisy: each ratio is the median of interleaved rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import orjson

from verl_lab.domain.wire import Header, RunLayout, encode_header, encode_metrics
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.stream import RunUpdate

NAMES = [f"actor/metric_{i:02d}/mean" for i in range(40)]


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--steps", type=int, default=20_000, help="steps to ingest")
    chosen = arguments.parse_args()
    rows: list[dict[str, object]] = []
    with tempfile.TemporaryDirectory() as folder:
        rows += ingest(Path(folder) / "ingest", chosen.steps)
        for steps, bar in ((100_000, 4.0), (1_000_000, 10.0)):
            rows += query(Path(folder) / f"query-{steps}", steps, bar)
        rows += freshness(Path(folder) / "fresh")
        rows += run_list(Path(folder) / "list")
    if chosen.json:
        print(json.dumps(rows, indent=1))
        return
    for row in rows:
        verdict = "ok" if row["ok"] else "MISSED"
        print(f"{row['what']:<46} {row['measured']:>34}   bar {row['bar']:<26} {verdict}")


def write_run(folder: Path, steps: int, first: int = 1) -> Path:
    """Write a run folder with ``steps`` steps of 40 scalars, from noise with float32 precision and full doubles."""
    attempt = RunLayout(folder).attempt(1)
    attempt.folder.mkdir(parents=True)
    dice = np.random.default_rng(0)
    with attempt.metrics.open("wb") as file:
        file.write(encode_header(Header("bench", 1, os.getpid(), 1, "boot")))
        for start in range(0, steps, 1000):
            values = dice.normal(size=(min(1000, steps - start), len(NAMES))).tolist()
            for i, row in enumerate(values):
                step = first + start + i
                file.write(encode_metrics(step, step, 1.7e9 + step, dict(zip(NAMES, row, strict=True))))
    return attempt.metrics


def opened(folder: Path) -> tuple[Store, Feed, Reader]:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store.open(f"sqlite:///{folder / 'bench.db'}")
    store.runs.upsert(RunRow(id="bench", name="bench", folder=str(folder)))
    feed = Feed()
    return store, feed, Reader(store, feed)


def ingest(folder: Path, steps: int) -> list[dict[str, object]]:
    file = write_run(folder / "run", steps)
    size = file.stat().st_size
    parse_s: list[float] = []
    ingest_s: list[float] = []
    for n in range(5):
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
    rate = points / statistics.median(ingest_s) / 1e3
    return [
        row(
            "file to database, of orjson's rate",
            f"{share:.0%} ({rate:,.0f} k points/s, {size / 1e6:.0f} MB)",
            ">= 25 %",
            share >= 0.25,
        ),
        row("disk, bytes a point", f"{disk:.2f}", "<= 10", disk <= 10),
    ]


def query(folder: Path, steps: int, bar: float) -> list[dict[str, object]]:
    store, _, reader = opened(folder)
    fill(store, steps)
    values = np.random.default_rng(0).normal(size=(len(NAMES), steps))
    raw = folder / "raw.bin"
    values.tofile(raw)
    del values

    def by_memmap() -> None:
        np.array(np.memmap(raw, dtype=np.float64, mode="r", shape=(len(NAMES), steps))[7])

    def by_store() -> None:
        found, _ = store.metrics.read("bench", NAMES[7])
        assert len(found) == steps

    limit, ours = interleaved([by_memmap, by_store], 15)
    reader.close()
    store.close()
    said = f"{ours / limit:.1f}x ({ours * 1e3:.2f} ms, memmap {limit * 1e3:.2f} ms)"
    return [row(f"one metric of {steps:,} steps, against memmap", said, f"<= {bar:g}x", ours <= bar * limit)]


def fill(store: Store, steps: int) -> None:
    from verl_lab.domain.wire import MetricRecord
    from verl_lab.store import Batch, FilePosition

    dice = np.random.default_rng(0)
    at: FilePosition | None = None
    for start in range(0, steps, 10_000):
        rows = dice.normal(size=(min(10_000, steps - start), len(NAMES))).tolist()
        records = [
            (start + i, MetricRecord(start + i, start + i, 1.7e9 + i, dict(zip(NAMES, values, strict=True))))
            for i, values in enumerate(rows)
        ]
        end = FilePosition(start + len(rows), 0, b"")
        assert store.commit(Batch("bench", 1, "metrics.jsonl", at, end, records=records))
        at = end


def freshness(folder: Path) -> list[dict[str, object]]:
    file = write_run(folder / "run", 10)
    store, feed, reader = opened(folder)
    poll_s = 0.5
    heard = threading.Event()
    at: list[float] = []

    def listener(update: RunUpdate) -> None:
        if update.records:
            at.append(time.perf_counter())
            heard.set()

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
    return [row("written to feed", said, f"<= {bar * 1e3:.0f} ms (poll/2 + 5)", middle <= bar)]


def run_list(folder: Path) -> list[dict[str, object]]:
    from verl_lab.domain.wire import MetricRecord
    from verl_lab.store import Batch, FilePosition

    store, _, reader = opened(folder)
    data = dict.fromkeys(NAMES, 1.5)
    for n in range(1000):
        store.runs.upsert(RunRow(id=f"run-{n}", name=f"run {n}", folder="/nowhere", created=float(n)))
        store.commit(
            Batch(
                f"run-{n}",
                1,
                "metrics.jsonl",
                None,
                FilePosition(1, 0, b""),
                records=[(0, MetricRecord(0, 1, 1.0, data))],
            )
        )
    whole, page = interleaved([lambda: all_of(store, None), lambda: all_of(store, 50)], 15)
    reader.close()
    store.close()
    return [
        row("1,000 runs with last values", f"{whole * 1e3:.1f} ms", "<= 5 ms", whole <= 0.005),
        row("a page of 50 runs", f"{page * 1e3:.1f} ms", "<= 5 ms", page <= 0.005),
    ]


def all_of(store: Store, limit: int | None) -> float:
    return sum(run.last.get(NAMES[0], 0.0) for run in store.runs.list(limit=limit))


def interleaved(tasks: list[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median time of each task in seconds, run in turns."""
    taken: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, times in zip(tasks, taken, strict=True):
            start = time.perf_counter()
            task()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]


def row(what: str, measured: str, bar: str, ok: object) -> dict[str, object]:
    return {"what": what, "measured": measured, "bar": bar, "ok": bool(ok)}


if __name__ == "__main__":
    sys.exit(main())
