"""One experiment tracker doing one task in a process of its own: ``subject.py NAME TASK FOLDER COUNT``.

The last line it prints is what it measured, as JSON. Everything else is the tracker's own talk.
"""

# pyright: reportMissingImports=none
# (not every tracker is installed)

from __future__ import annotations

import contextlib
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

sys.path.insert(0, str(Path(__file__).parents[1]))

if TYPE_CHECKING:
    from collections.abc import Callable

METRICS = 40
NAMES = [f"actor/metric_{i:02d}/mean" for i in range(METRICS)]
PROJECT = "bench"
IMPORTS = {
    "verl-lab": "verl_lab",
    "trackio": "trackio",
    "mlflow": "mlflow",
    "tensorboard": "torch.utils.tensorboard",
    "wandb": "wandb",
}


def step_data(step: int) -> dict[str, float]:
    return {name: (step * 37 + i) / 7.3 for i, name in enumerate(NAMES)}


class Tracker:
    """What every tracker here can do; what it cannot is not measured."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def begin(self) -> None: ...

    def log(self, step: int, data: dict[str, float]) -> None: ...

    def finish(self) -> None: ...

    def reader(self) -> Callable[[str], int] | None:
        """Return what reads one metric and counts its points."""
        return None

    def lister(self, count: int) -> Callable[[], int] | None:
        """Make so many runs and return what lists them with where they stand."""
        del count
        return None

    def last_step(self) -> int:
        """Return the newest step another process can see; -1 if none."""
        raise NotImplementedError

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())


class VerlLab(Tracker):
    run_id = "20260101-000000-bench-0000"

    def begin(self) -> None:
        from parts.runs import write_run

        from verl_lab.domain.wire import RunLayout
        from verl_lab.verl_plugin.attempt import Attempt
        from verl_lab.verl_plugin.writer import EventLog, MetricsWriter

        run = self.folder / "runs" / self.run_id
        write_run(run, 0).unlink()
        layout = RunLayout(run).attempt(1)
        layout.status.unlink()
        attempt = Attempt(layout, self.run_id, 1)
        self._writer = MetricsWriter(attempt, EventLog(attempt, "trainer"))
        self._open = self._lab()

    def log(self, step: int, data: dict[str, float]) -> None:
        self._writer.write(step, data)

    def finish(self) -> None:
        self._writer.close()
        self._open.run(self.run_id).sync()
        self._open.close()

    def reader(self) -> Callable[[str], int]:
        run = self._lab().run(self.run_id)
        return lambda name: len(run.metrics(name)[0])

    def lister(self, count: int) -> Callable[[], int]:
        from verl_lab.domain.wire import MetricRecord
        from verl_lab.store import Batch, FilePosition, RunRow

        store = self._lab().store
        for n in range(count):
            store.runs.upsert(RunRow(id=f"run-{n}", name=f"run {n}", folder="/nowhere", created=float(n)))
            batch = Batch(
                f"run-{n}", 1, "m", None, FilePosition(1, 0, b""), [(0, MetricRecord(0, 1, 1.0, step_data(n)))]
            )
            assert store.commit(batch)
        return lambda: sum(len(row.last) > 0 for row in store.runs.list())

    def last_step(self) -> int:
        raise NotImplementedError

    def size_bytes(self) -> int:
        return sum(path.stat().st_size for path in self.folder.glob("*.db*"))

    def _lab(self) -> Any:
        from verl_lab import Lab

        return Lab(self.folder)


class Trackio(Tracker):
    def begin(self) -> None:
        import trackio

        trackio.init(project=PROJECT, name="run", embed=False, auto_log_gpu=False, auto_log_cpu=False)
        self.log = lambda step, data: trackio.log(data, step=step)
        self.finish = trackio.finish

    def reader(self) -> Callable[[str], int]:
        from trackio.sqlite_storage import SQLiteStorage

        return lambda name: len(SQLiteStorage.get_metric_values(PROJECT, "run", name))

    def lister(self, count: int) -> Callable[[], int]:
        from trackio.sqlite_storage import SQLiteStorage

        for n in range(count):
            SQLiteStorage.bulk_log(project=PROJECT, run=f"run-{n}", metrics_list=[step_data(n)], steps=[1])
        return lambda: sum(
            SQLiteStorage.get_last_step(PROJECT, run) is not None for run in SQLiteStorage.get_runs(PROJECT)
        )

    def last_step(self) -> int:
        from trackio.sqlite_storage import SQLiteStorage

        found = SQLiteStorage.get_last_step(PROJECT, "run")
        return -1 if found is None else found


class Mlflow(Tracker):
    def begin(self) -> None:
        import mlflow

        self._connect()
        mlflow.start_run()
        self.log = lambda step, data: mlflow.log_metrics(data, step=step)
        self.finish = mlflow.end_run

    def reader(self) -> Callable[[str], int]:
        client = self._connect()
        (run,) = client.search_runs(["0"])
        return lambda name: len(client.get_metric_history(run.info.run_id, name))

    def lister(self, count: int) -> Callable[[], int]:
        from mlflow.entities import Metric

        client = self._connect()
        for n in range(count):
            run = client.create_run("0").info.run_id
            client.log_batch(run, [Metric(name, value, 0, 1) for name, value in step_data(n).items()])
        return lambda: sum(len(run.data.metrics) > 0 for run in client.search_runs(["0"], max_results=50_000))

    def _connect(self) -> Any:
        import mlflow

        mlflow.set_tracking_uri(f"sqlite:///{self.folder / 'mlflow.db'}")
        return mlflow.MlflowClient()


class TensorBoard(Tracker):
    def begin(self) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self._writer = SummaryWriter(str(self.folder))
        self.finish = self._writer.close

    def log(self, step: int, data: dict[str, float]) -> None:
        for name, value in data.items():
            self._writer.add_scalar(name, value, step)

    def reader(self) -> Callable[[str], int]:
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        def read(name: str) -> int:
            found = EventAccumulator(str(self.folder), size_guidance={"scalars": 0})
            found.Reload()
            return len(found.Scalars(name))

        return read


class Wandb(Tracker):
    def begin(self) -> None:
        import wandb

        run = wandb.init(mode="offline", dir=str(self.folder), project=PROJECT, settings=wandb.Settings(silent=True))
        self.log = lambda step, data: run.log(data, step=step)
        self.finish = run.finish


TRACKERS = {"verl-lab": VerlLab, "trackio": Trackio, "mlflow": Mlflow, "tensorboard": TensorBoard, "wandb": Wandb}


def log(tracker: Tracker, count: int) -> dict[str, float]:
    """Log steps as fast as it goes, then wait until they are stored for good."""
    tracker.begin()
    before = tracker.size_bytes()
    taken: list[int] = []
    began = time.perf_counter()
    for step in range(1, count + 1):
        data = step_data(step)
        start = time.perf_counter_ns()
        tracker.log(step, data)
        taken.append(time.perf_counter_ns() - start)
    logged = time.perf_counter()
    tracker.finish()
    total_s = time.perf_counter() - began
    # Here training writes a file and something else reads it; the others store while training logs.
    stored_s = time.perf_counter() - logged if isinstance(tracker, VerlLab) else total_s
    taken.sort()
    points = count * METRICS
    return {
        "call_us": statistics.median(taken) / 1e3,
        "call_p99_us": taken[int(len(taken) * 0.99)] / 1e3,
        "k_points_s": points / total_s / 1e3,
        "stored_k_points_s": points / stored_s / 1e3,
        "bytes_a_point": (tracker.size_bytes() - before) / points,
    }


def read(tracker: Tracker, count: int) -> dict[str, float | None]:
    """Read one metric of a run that ``log`` has left, and again."""
    reader = tracker.reader()
    if reader is None:
        return {"first_ms": None, "again_ms": None}
    taken: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        assert reader("actor/metric_07/mean") == count
        taken.append(1e3 * (time.perf_counter() - start))
    return {"first_ms": taken[0], "again_ms": statistics.median(taken[1:])}


def list_runs(tracker: Tracker, count: int) -> dict[str, float | None]:
    """List runs with where they stand."""
    lister = tracker.lister(count)
    if lister is None:
        return {"list_ms": None}
    taken: list[float] = []
    for _ in range(6):
        start = time.perf_counter()
        assert lister() >= count
        taken.append(1e3 * (time.perf_counter() - start))
    return {"list_ms": statistics.median(taken[1:])}


def write_slowly(tracker: Tracker, count: int) -> dict[str, float]:
    """Log a step now and then, telling when: what ``watch`` in another process looks out for."""
    tracker.begin()
    for step in range(1, count + 1):
        time.sleep(0.06)
        tracker.log(step, step_data(step))
        print(f"logged {step} {time.time()}", flush=True)
    time.sleep(2)
    tracker.finish()
    return {}


def watch(tracker: Tracker, count: int) -> dict[str, float]:
    """Tell when each step can first be seen from here."""
    if isinstance(tracker, VerlLab):
        import threading

        lab, done = tracker._lab(), threading.Event()

        def heard(update: Any) -> None:
            now = time.time()
            for record in update.records:
                print(f"seen {record.step} {now}", flush=True)
                if record.step == count:
                    done.set()

        lab.feed.subscribe(heard)
        while not lab.runs():
            time.sleep(0.01)
        lab.run(tracker.run_id)
        done.wait(120)
        lab.close()
        return {}
    newest, deadline = 0, time.monotonic() + 120
    while newest < count and time.monotonic() < deadline:
        found = -1
        with contextlib.suppress(Exception):  # the database is not there yet
            found = tracker.last_step()
        now = time.time()
        for step in range(newest + 1, found + 1):
            print(f"seen {step} {now}", flush=True)
        newest = max(newest, found)
        time.sleep(0.002)
    return {}


def import_(name: str) -> dict[str, float]:
    """Import a tracker."""
    import importlib

    start = time.process_time()
    importlib.import_module(IMPORTS[name])
    return {"import_s": time.process_time() - start}


def main(name: str, task: str, folder: str, count: str) -> None:
    place = Path(folder)
    place.mkdir(parents=True, exist_ok=True)
    os.environ["TRACKIO_DIR"] = str(place)  # it looks there when it is imported
    if task == "import":
        found: dict[str, Any] = import_(name)
    else:
        tasks = {"log": log, "read": read, "list": list_runs, "write": write_slowly, "watch": watch}
        found = tasks[task](TRACKERS[name](place), int(count))
    print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
