"""Opens a store beside other processes, and writes to it: ``crowd.py URL WORKER TRANSACTIONS START_AT``."""

from __future__ import annotations

import sys
import time

from verl_lab.domain.wire import MetricRecord
from verl_lab.store import Batch, FilePosition, RunRow, Store


def main(url: str, worker: str, transactions: str, start_at: str) -> None:
    time.sleep(max(0.0, float(start_at) - time.time()))
    store = Store.open(url)
    run_id = f"run-{worker}"
    store.runs.upsert(RunRow(id=run_id, name=run_id, folder="/"))
    at = None
    for n in range(int(transactions)):
        end = FilePosition(n + 1, 0, b"")
        data = {"shared": float(n), f"own-{worker}": float(n), f"kind-{n % 7}": float(n)}
        if not store.commit(Batch(run_id, 1, "m", at, end, records=[(n, MetricRecord(n, n, None, data))])):
            raise SystemExit(f"{run_id}: transaction {n} was refused")
        at = end
    store.close()


main(*sys.argv[1:])
