"""Measures the training host beside a run: GPUs, processors, memory and disk, and the run's share of them.

::

    python -m verl_lab.launch.sampler ATTEMPT_DIR SUPERVISOR_PID

The supervisor starts it with the Python that trains, at the lowest priority, and ends it with the attempt.
It appends to ``system.jsonl``. What cannot be measured is left out, never a zero, and an event
``not_measured`` says once why. ``_gb`` means GiB, as in verl's own names.
"""

from __future__ import annotations

import importlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.wire import (
    SYSTEM,
    AttemptLayout,
    EventRecord,
    Header,
    encode_event,
    encode_header,
    encode_metrics,
)
from verl_lab.launch import supervisor
from verl_lab.launch.gpus import Gpus

if TYPE_CHECKING:
    from types import ModuleType

DEFAULT_S = 5.0
GIB = 2.0**30
# However slow it is to ask, the host is busy with that for a twentieth of the time at most.
_PAUSE_FACTOR = 19

Values = dict[str, float]
Note = Callable[[str, str], None]
"""Takes what is not measured, by name, and why."""


class Processors:
    """The host's processors and memory, and what the run's processes take of them.

    Parameters
    ----------
    psutil
        The package.
    """

    def __init__(self, psutil: ModuleType) -> None:
        self._psutil: Any = psutil
        self._busy_s: dict[tuple[int, int], float] = {}
        self._at = time.monotonic()
        psutil.cpu_percent()  # a share of the time since it was last asked: the first answer is none

    def read(self, run: list[supervisor.Process]) -> Values:
        """Return processor use since the last reading, and memory now, of the host and of the run.

        A run's memory is the sum over its processes: what several of them share counts in each.
        """
        memory = self._psutil.virtual_memory()
        found = {
            "cpu_percent": float(self._psutil.cpu_percent()),
            "memory_percent": float(memory.percent),
            "memory_gb": (memory.total - memory.available) / GIB,
        }
        before, self._busy_s = self._busy_s, {}
        resident = 0.0
        for process in run:
            try:
                times, size = self._look(process.pid)
            except self._psutil.Error:  # it ended meanwhile
                continue
            self._busy_s[process.pid, process.start] = times
            resident += size
        since, self._at = self._at, time.monotonic()
        if self._busy_s:
            # A process that was not there before began since.
            spent = sum(max(0.0, busy - before.get(key, 0.0)) for key, busy in self._busy_s.items())
            found["run/memory_gb"] = resident / GIB
            found["run/processes"] = len(self._busy_s)
            if before:
                found["run/cpu_percent"] = 100 * spent / max(self._at - since, 1e-3)
        return found

    def _look(self, pid: int) -> tuple[float, float]:
        process = self._psutil.Process(pid)
        with process.oneshot():
            times = process.cpu_times()
            return times.user + times.system, process.memory_info().rss


class Sampler:
    """One attempt's host, measured again and again.

    Parameters
    ----------
    attempt
        The attempt's folder.
    root
        Pid of its supervisor, below which the run's processes are.
    """

    def __init__(self, attempt: Path, root: int) -> None:
        self._layout = AttemptLayout(attempt)
        self._root = root
        me = supervisor.look_up(os.getpid())
        start = me.start if me else 0
        run = os.environ.get("VERL_LAB_RUN_ID", attempt.parents[1].name)
        self._header = encode_header(Header(run, int(attempt.name), os.getpid(), start, supervisor.boot_id()))
        own = [event for event in supervisor.read_events(attempt) if event.get("source") == "sampler"]
        self._events = len(own)
        # One before this one, whose supervisor was killed, has said it already.
        self._said = {name for event in own for name in cast("dict[str, Any]", event["data"])["reasons"]}
        self._new: dict[str, str] = {}
        written = self._layout.system.read_bytes() if self._layout.system.exists() else b""
        self._seq = max(0, written.count(b"\n") - 1)  # behind the header
        self._processors = self._begin(("cpu_percent", "memory_percent", "run"), "psutil", Processors)
        self._gpus = self._begin(("gpu",), "pynvml", Gpus)
        if self._processors is not None:
            self._processors.read(self._run())

    def sample(self) -> None:
        """Measure once, and write down what there is."""
        run = self._run()
        found: Values = {}
        if self._processors is not None:
            found |= self._processors.read(run)
        if self._gpus is not None:
            found |= self._gpus.read({process.pid for process in run}, self._note)
        try:
            disk = shutil.disk_usage(self._layout.folder)
            found |= {"disk_free_gb": disk.free / GIB, "disk_percent": 100 * (1 - disk.free / disk.total)}
        except (OSError, ZeroDivisionError) as error:
            self._note("disk_free_gb", str(error))
        data = {SYSTEM + name: float(f"{value:.6g}") for name, value in found.items()}  # more is noise, and bytes
        line = encode_metrics(self._seq, self._step(), time.time(), data)
        # A full disk costs this sample, and no more.
        if supervisor.append(self._layout.system, line, header=self._header):
            self._seq += 1
        self._tell()

    def _run(self) -> list[supervisor.Process]:
        return supervisor.members(self._layout.folder, self._root)

    def _begin(self, names: tuple[str, ...], package: str, make: Callable[[ModuleType], Any]) -> Any:
        """Return what measures with a package; None where that cannot be, and why is noted."""
        try:
            return make(importlib.import_module(package))
        except ModuleNotFoundError:
            why = f"{package} is not installed in {sys.executable}."
        except Exception as error:  # noqa: BLE001  whatever is wrong with a driver, the rest is measured
            why = f"{package}: {error}"
        for name in names:
            self._note(name, why)
        return None

    def _note(self, name: str, why: str) -> None:
        if SYSTEM + name not in self._said:
            self._new[SYSTEM + name] = why

    def _tell(self) -> None:
        if self._new:
            event = EventRecord(self._events, time.time(), "not_measured", None, "sampler", {"reasons": self._new})
            if supervisor.append(self._layout.events, encode_event(event)):
                self._events += 1
                self._said |= set(self._new)
                self._new = {}

    def _step(self) -> int:
        """Return the step in work, as ``progress.json`` has it; 0 while none is."""
        try:
            progress = json.loads(self._layout.progress.read_bytes())
            done, total, phase = (progress.get(name) for name in ("step", "total", "phase"))
        except (OSError, ValueError, AttributeError):
            return 0
        if type(done) is not int:
            return 0
        if phase == "finishing" or (type(total) is int and 0 < total <= done):
            return done
        return done + 1


def interval_s(text: str | None) -> float:
    """Return how many seconds lie between two samples.

    Raises
    ------
    SystemExit
        ``text`` is no such number.
    """
    try:
        found = float(text) if text else DEFAULT_S
    except ValueError:
        found = math.nan
    if not 0 < found < math.inf:
        name = supervisor.SAMPLE_VARIABLE
        raise SystemExit(f"{name}: {text!r} is no number of seconds; give one above 0, or 0 for none.")
    return found


def main() -> None:
    """Measure until the supervisor ends this process, or ends itself."""
    attempt, root = Path(sys.argv[1]), int(sys.argv[2])
    interval = interval_s(os.environ.get(supervisor.SAMPLE_VARIABLE))
    sampler = Sampler(attempt, root)
    pause = min(interval, 1.0)
    while True:
        time.sleep(pause)
        begun = time.monotonic()
        sampler.sample()
        spent = time.monotonic() - begun
        pause = max(interval - spent, _PAUSE_FACTOR * spent)


if __name__ == "__main__":
    main()
