"""What a connection to a host costs: how fresh, how fast, beside OpenSSH's own programs in the same run.

python tests/bench/transport.py [--json] [--megabytes 256] [--rounds 5]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from parts.rows import Row, interleaved, paired, show

sys.path.append(str(Path(__file__).parents[1] / "transport"))

from cuttable_proxy import Proxy
from ssh_server import Server

from verl_lab.domain.wire import Header, RunLayout, encode_header, encode_metrics
from verl_lab.store import RunRow, Store
from verl_lab.stream import Feed, FollowedRun, Reader
from verl_lab.transport.ssh import Timings

if TYPE_CHECKING:
    from verl_lab.stream import RunUpdate
    from verl_lab.transport.ssh import SshHost

NAMES = tuple(f"metric/{number}" for number in range(40))
USUAL = Timings()
BULK_BAR = 0.8
SMALL_FILES = 500
SMALL_BYTES = 20_000


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--megabytes", type=int, default=256, help="size of the large file that is moved")
    arguments.add_argument("--rounds", type=int, default=5, help="how often each is moved")
    chosen = arguments.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder:
        server = Server(Path(folder) / "sshd")
        try:
            for delay_ms, runs in ((0, 50), (25, 50), (100, 10)):
                rows += freshness(server, Path(folder) / f"fresh-{delay_ms}", delay_ms, runs)
            rows += bulk(server, Path(folder), chosen.megabytes, chosen.rounds)
            rows += calls(server)
        finally:
            server.stop()
    show(rows, as_json=chosen.json)


def freshness(server: Server, folder: Path, delay_ms: int, runs: int) -> list[Row]:
    """Return how long a record takes to the feed, with ``runs`` followed runs, all on one channel."""
    proxy = Proxy(server.port)
    proxy.delay_s = delay_ms / 1000
    host = server.host(proxy.port, USUAL)
    folder.mkdir()
    store = Store.open(f"sqlite:///{folder / 'bench.db'}")
    feed = Feed()
    reader = Reader(store, feed)
    logs = [_begun(folder, store, reader, host, f"run-{number}") for number in range(runs)]
    heard = threading.Event()
    at: list[float] = []
    seen: set[str] = set()

    def listener(update: RunUpdate) -> None:
        if update.records:
            seen.add(update.run_id)
            at.append(time.perf_counter())
            heard.set()

    feed.subscribe(listener)
    begun = time.perf_counter()
    for log in logs:
        with log.open("ab", buffering=0) as file:
            file.write(encode_metrics(0, 0, time.time(), dict.fromkeys(NAMES, 0.0)))
    while len(seen) < runs:
        assert time.perf_counter() < begun + 120
        time.sleep(0.01)
    all_s = time.perf_counter() - begun
    time.sleep(1 + delay_ms / 50)
    dice = np.random.default_rng(1)
    delays: list[float] = []
    for step in range(1, 101):
        time.sleep(float(dice.uniform(0.02, 0.08)))
        heard.clear()
        at.clear()
        with logs[int(dice.integers(runs))].open("ab", buffering=0) as log:
            start = time.perf_counter()
            log.write(encode_metrics(step, step, time.time(), dict.fromkeys(NAMES, float(step))))
        assert heard.wait(30)
        delays.append(at[0] - start)
    reader.close()
    store.close()
    host.close()
    proxy.close()
    middle, worst = statistics.median(delays), max(delays)
    bar = delay_ms / 1000 + 0.02
    said = f"median {middle * 1e3:.1f} ms, worst {worst * 1e3:.1f} ms"
    what = f"written to feed, {runs} runs, RTT {2 * delay_ms} ms"
    return [
        Row(what, said, f"<= {bar * 1e3:.0f} ms (RTT/2 + 20)", middle <= bar),
        Row("  until all of them were read for the first time", f"{all_s:.1f} s"),
    ]


def _begun(folder: Path, store: Store, reader: Reader, host: SshHost, run_id: str) -> Path:
    attempt = RunLayout(folder / run_id).attempt(1)
    attempt.folder.mkdir(parents=True)
    for path in (attempt.events, attempt.metrics):
        path.write_bytes(encode_header(Header(run_id, 1, 1, 1, "boot")))
    store.runs.upsert(RunRow(id=run_id, name=run_id, folder=str(folder / run_id)))
    reader.follow(FollowedRun(run_id, host, str(folder / run_id)))
    return attempt.metrics


def bulk(server: Server, folder: Path, megabytes: int, rounds: int) -> list[Row]:
    """Return how fast a large file and many small ones move, as a share of what scp does in turns with it."""
    dice = np.random.default_rng(1)
    source, target = folder / "source", folder / "target"
    with source.open("wb") as file:
        for _ in range(megabytes):
            file.write(dice.bytes(10**6))
    small, there = folder / "small", folder / "there"
    small.mkdir()
    for number in range(SMALL_FILES):
        (small / f"{number}.bin").write_bytes(dice.bytes(SMALL_BYTES))
    host = server.host(timings=USUAL)
    host.connect()
    options = ["-q", "-r", "-P", str(server.port), "-i", str(server.user_key), "-o", "UserKnownHostsFile=/dev/null"]
    options += ["-o", "StrictHostKeyChecking=no", "-o", "LogLevel=ERROR"]

    def scp(*paths: str) -> None:
        subprocess.run(["scp", *options, *paths], check=True)

    def sftp() -> None:
        with host._link.session().sftp(60) as client:
            client.get(str(source), str(target))

    there.mkdir()
    threads = ThreadPoolExecutor(8)  # each file waits for its disk: that of several is one wait

    def put_all() -> None:
        list(threads.map(lambda path: host.put(path, str(there / path.name)), small.iterdir()))

    def get_all() -> None:
        list(threads.map(lambda name: host.get(str(small / name), there / name), host.list_folder(str(small))))

    scp_put, scp_get = (str(source), f"127.0.0.1:{target}"), (f"127.0.0.1:{source}", str(target))
    rows = [
        _bulk_row(
            "sent, checked", megabytes, paired(lambda: host.put(source, str(target)), lambda: scp(*scp_put), rounds)
        ),
        _bulk_row(
            "fetched, checked", megabytes, paired(lambda: host.get(str(source), target), lambda: scp(*scp_get), rounds)
        ),
        _small_row("sent", paired(put_all, lambda: scp(str(small), f"127.0.0.1:{there}"), rounds)),
        _small_row("fetched", paired(get_all, lambda: scp(f"127.0.0.1:{small}", str(there)), rounds)),
        Row("fetched by paramiko's SFTP", f"{megabytes / interleaved([sftp], 1)[0]:.0f} MB/s"),
    ]
    threads.shutdown()
    host.close()
    return rows


def _bulk_row(what: str, megabytes: int, found: tuple[float, float, float]) -> Row:
    ours_s, scp_s, share = found
    said = f"{share:.0%} ({megabytes / ours_s:.0f} of {megabytes / scp_s:.0f} MB/s)"
    return Row(f"{megabytes} MB {what}, of scp's rate", said, ">= 80 %", share >= BULK_BAR)


def _small_row(what: str, found: tuple[float, float, float]) -> Row:
    ours_s, scp_s, share = found
    said = f"{share:.0%} ({SMALL_FILES / ours_s:.0f} of {SMALL_FILES / scp_s:.0f} a second)"
    return Row(
        f"{SMALL_FILES} files of {SMALL_BYTES // 1000} kB {what}, of scp's rate", said, ">= 80 %", share >= BULK_BAR
    )


def calls(server: Server) -> list[Row]:
    """Return what one call costs on this machine."""
    host = server.host(timings=USUAL)
    host.connect()
    stat_s, read_s, run_s = interleaved(
        [
            lambda: host.stat("/etc/passwd"),
            lambda: host.read("/etc/passwd"),
            lambda: host.run(["true"], timeout_s=9),
        ],
        50,
    )
    host.close()
    said = f"stat {stat_s * 1e3:.1f}, read {read_s * 1e3:.1f}, run {run_s * 1e3:.1f} ms"
    return [Row("one call without delay", said)]


if __name__ == "__main__":
    main()
