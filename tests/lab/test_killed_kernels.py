"""Notebook kernels that are killed while they read a run lose nothing and double nothing."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import threading
import time
from contextlib import closing
from typing import TYPE_CHECKING

from jupyter_client.manager import KernelManager

from verl_lab import Lab
from verl_lab.domain.wire import Header, encode_header, encode_metrics

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

READ = """
%load_ext verl_lab
run = %verl_watch "{folder}"
while True:
    run.sync()
"""


def test_killed_kernels_lose_and_double_no_step(
    tmp_path: Path, rounds: Callable[[int], int], dice: random.Random
) -> None:
    home = tmp_path / "home"
    folder = home / "runs" / "20260101-000000-watched-0000"
    attempt = folder / "attempts" / "1"
    attempt.mkdir(parents=True)
    record = {"version": 1, "run": folder.name, "name": "watched", "created": 1.0}
    (folder / "run.json").write_text(json.dumps(record))
    log = attempt / "metrics.jsonl"
    log.write_bytes(encode_header(Header(folder.name, 1, 1, 1, "boot")))
    ended = threading.Event()
    written = 0

    def train() -> None:
        nonlocal written
        while not ended.is_set():
            with log.open("ab", buffering=0) as file:
                file.write(encode_metrics(written, written + 1, time.time(), {"loss": 1 / (written + 1)}))
            written += 1
            time.sleep(0.002)

    trainer = threading.Thread(target=train)
    trainer.start()
    try:
        total = rounds(100)
        following = _started(tmp_path, home)
        for number in range(total):
            manager = following
            client = manager.blocking_client()
            client.start_channels()
            client.wait_for_ready(timeout=60)
            client.execute(READ.format(folder=folder))
            until = time.monotonic() + dice.uniform(0.3, 2.5)
            if number + 1 < total:
                following = _started(tmp_path, home)
            time.sleep(max(0.0, until - time.monotonic()))
            os.kill(manager.provisioner.pid, signal.SIGKILL)  # type: ignore[union-attr]
            client.stop_channels()
            manager.shutdown_kernel(now=True)
    finally:
        ended.set()
        trainer.join()
    with Lab(home) as lab:
        steps, loss = lab.run("watched").metrics("loss")
        assert steps.tolist() == list(range(1, written + 1))
        assert loss.tolist() == [1 / n for n in range(1, written + 1)]
    assert _records(home) == written


def _started(folder: Path, home: Path) -> KernelManager:
    """Start a kernel, which takes as long as the one before it is given to read."""
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(cwd=str(folder), env={**os.environ, "VERL_LAB_HOME": str(home)})
    return manager


def _records(home: Path) -> int:
    """Count the records in the database itself, where a doubled one would show."""
    with closing(sqlite3.connect(home / "verl-lab.db")) as connection:
        (waiting,) = connection.execute("SELECT count(*) FROM tail").fetchone()
        (folded,) = connection.execute("SELECT coalesce(sum(rows), 0) FROM blocks").fetchone()
        return waiting + folded
