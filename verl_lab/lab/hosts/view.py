"""``lab.hosts.view``: what the hosts have and do now, and where there is room for a run."""

from __future__ import annotations

import html
import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib import resources
from typing import TYPE_CHECKING, Any

from verl_lab.errors import TransportError, VerlLabError
from verl_lab.lab.table import Table, plain

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.lab.hosts.hosts import Hosts
    from verl_lab.transport.base import Host

_ANSWER_S = 60.0
_MOST_AT_ONCE = 16
_SHOWN_RUNS = 3
# A GPU counts as free when whoever holds it does next to nothing: a driver and an idle context take less than this.
_FREE_MEMORY_SHARE = 0.05
_FREE_USE_PERCENT = 5.0
# A host without GPUs has room when half its processors are idle and the smallest recipe fits into its memory.
_ROOM_LOAD_SHARE = 0.5
_ROOM_MEMORY_BYTES = 4 * 2**30
_HEADINGS = ("host", "room", "GPU", "GPU memory", "GPU use", "temperature", "power", "load", "memory", "disk", "runs")
_NONE = "–"


@dataclass(frozen=True)
class Gpu:
    """One GPU, as nvidia-smi shows it; what it does not say is None, and ``missing`` holds why."""

    index: int
    name: str
    memory_used_bytes: float | None
    memory_total_bytes: float | None
    use_percent: float | None
    temperature_c: float | None
    power_w: float | None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])

    @property
    def is_free(self) -> bool | None:
        """Whether less than 5 % of its memory and of its time are used; None where that is not known."""
        used, total, use = self.memory_used_bytes, self.memory_total_bytes, self.use_percent
        if used is None or not total:
            return None
        # One that is divided up (MIG) tells no use as a whole.
        return used < _FREE_MEMORY_SHARE * total and (use is None or use < _FREE_USE_PERCENT)


@dataclass(frozen=True)
class LiveRun:
    """A run whose processes are alive on a host."""

    run: str
    state: str
    step: int | None = None
    total: int | None = None
    phase: str | None = None


@dataclass(frozen=True)
class Memory:
    """Memory of a machine; ``available_bytes`` is what a new process could have."""

    total_bytes: int
    available_bytes: int


@dataclass(frozen=True)
class Disk:
    """The file system that a folder is on; ``refusal`` says why nothing can be written, if that was tried."""

    free_bytes: int
    total_bytes: int
    refusal: str | None = None


@dataclass(frozen=True)
class HostReport:
    """What one host has and does. What could not be measured is None, and ``missing`` says why.

    Attributes
    ----------
    root
        The folder of verl-lab's there; None if the host was not reached.
    gpus
        Empty where there is no NVIDIA device.
    load
        Processes that ran or waited to, as a mean over the last minute.
    cores
        Processors that may be used.
    runs
        Those whose processes are alive.
    problem
        Why nothing is known, with what to do next.
    """

    name: str
    root: str | None = None
    gpus: tuple[Gpu, ...] | None = None
    memory: Memory | None = None
    load: float | None = None
    cores: int | None = None
    disk: Disk | None = None
    runs: tuple[LiveRun, ...] | None = None
    missing: Mapping[str, str] = field(default_factory=dict[str, str])
    problem: str | None = None

    @property
    def free_gpus(self) -> tuple[int, ...]:
        """The numbers of the GPUs that are free."""
        return tuple(gpu.index for gpu in self.gpus or () if gpu.is_free)

    @property
    def has_room(self) -> bool | None:
        """Whether a GPU is free; of a host without any, whether processors and memory are. None if not known."""
        if self.gpus is None:
            return None
        if self.gpus:
            unknown = all(gpu.is_free is None for gpu in self.gpus)
            return None if unknown else bool(self.free_gpus)
        if self.load is None or self.cores is None or self.memory is None:
            return None
        return self.load < _ROOM_LOAD_SHARE * self.cores and self.memory.available_bytes >= _ROOM_MEMORY_BYTES


@dataclass(frozen=True)
class HostView:
    """All hosts of a lab, as they were when they were asked."""

    hosts: tuple[HostReport, ...]

    @property
    def with_room(self) -> list[str]:
        """The names of the hosts where a run could start now."""
        return [host.name for host in self.hosts if host.has_room]

    def __repr__(self) -> str:
        return "\n".join([repr(self._table), *self._notes])

    def _repr_html_(self) -> str:
        return self._table.to_html() + "".join(f"<p>{html.escape(note)}</p>" for note in self._notes)

    @property
    def _table(self) -> Table:
        rows = tuple(tuple(map(plain, row)) for host in self.hosts for row in _rows(host))
        used = [k for k in range(len(_HEADINGS)) if any(row[k] not in ("", _NONE) for row in rows)]
        headings = tuple(_HEADINGS[k] for k in used)
        return Table(headings, tuple(tuple(row[k] for k in used) for row in rows), "")

    @property
    def _notes(self) -> list[str]:
        notes = [f"{host.name}: {host.problem}" for host in self.hosts if host.problem]
        for host in self.hosts:
            notes += [f"{host.name}: {name} not known: {why}" for name, why in host.missing.items()]
            for gpu in host.gpus or ():
                said = {f"{name.rpartition('_')[0].replace('_', ' ')}": why for name, why in gpu.missing.items()}
                notes += [f"{host.name}, GPU {gpu.index}: {name} not known: {why}" for name, why in said.items()]
        return [plain(note) for note in notes]


def view(hosts: Hosts) -> HostView:
    """Ask all hosts at once; one that is not reached is shown with the reason."""
    names = hosts.names()
    with ThreadPoolExecutor(min(len(names), _MOST_AT_ONCE), thread_name_prefix="verl-lab-view") as pool:
        asked = [pool.submit(_looked, hosts, name) for name in names]
        return HostView(tuple(one.result() for one in asked))


def look(host: Host, root: str, runs: str, python: str | None, *, tries_to_write: bool = False) -> HostReport:
    """Ask a host.

    Parameters
    ----------
    root, runs
        The folders of verl-lab's and of the runs there.
    python
        The Python to run there; None for this one, here.

    Raises
    ------
    TransportError
        It was not reached, has no such Python, or its answer is none.
    """
    program = (resources.files("verl_lab.lab.hosts") / "probe.py").read_text("utf-8")
    argv = [python or sys.executable, "-I", "-S", "-c", program, root, runs, *(["--write"] if tries_to_write else [])]
    done = host.run(argv, timeout_s=_ANSWER_S)
    try:
        if done.exit_code:
            raise ValueError(done.stderr.decode(errors="replace").strip().rpartition("\n")[2])  # noqa: TRY301  as below
        said: dict[str, Any] = json.loads(done.stdout)
        return _report(host.name, root, said)
    except (ValueError, KeyError, TypeError) as error:
        raise TransportError(
            f"{host.name} cannot say what it has: {error}", "It takes Python 3.8 or later there, on Linux."
        ) from error


def gigabytes(count: float) -> str:
    """Write bytes for a person."""
    return f"{count / 2**30:,.1f} GiB" if count < 100 * 2**30 else f"{count / 2**30:,.0f} GiB"


def _looked(hosts: Hosts, name: str) -> HostReport:
    try:
        return hosts.look(name)
    except VerlLabError as error:
        return HostReport(name, problem=" ".join(part for part in (error.message, error.hint) if part))


def _report(name: str, root: str, said: dict[str, Any]) -> HostReport:
    return HostReport(
        name,
        root,
        gpus=None if said["gpus"] is None else tuple(Gpu(**one) for one in said["gpus"]),
        memory=None if said["memory"] is None else Memory(**said["memory"]),
        load=said["load"],
        cores=said["cores"],
        disk=None if said["disk"] is None else Disk(**said["disk"]),
        runs=None if said["runs"] is None else tuple(LiveRun(**one) for one in said["runs"]),
        missing=said["missing"],
    )


def _rows(host: HostReport) -> list[tuple[str, ...]]:
    """Return a row for each GPU; what is about the whole host stands in the first."""
    if host.problem is not None:
        return [(host.name, "not reached", *([_NONE] * (len(_HEADINGS) - 2)))]
    memory, disk = host.memory, host.disk
    whole = (
        _NONE if host.load is None else f"{host.load:.1f}" + ("" if host.cores is None else f" of {host.cores}"),
        _NONE if memory is None else _of(memory.total_bytes - memory.available_bytes, memory.total_bytes),
        _NONE if disk is None else f"{gigabytes(disk.free_bytes)} free",
        _NONE if host.runs is None else _named(host.runs),
    )
    blank = ("",) * len(whole)
    gpus = [_gpu(gpu) for gpu in host.gpus or ()] or [("none" if host.gpus == () else _NONE, *([_NONE] * 4))]
    return [
        (host.name if k == 0 else "", _room(host) if k == 0 else "", *gpu, *(whole if k == 0 else blank))
        for k, gpu in enumerate(gpus)
    ]


def _room(host: HostReport) -> str:
    if not host.has_room:
        return "?" if host.has_room is None else "no"
    free = host.free_gpus
    return f"✓ GPU {', '.join(map(str, free))}" if free else "✓"


def _gpu(gpu: Gpu) -> tuple[str, ...]:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    return (
        f"{gpu.index} {gpu.name}",
        _NONE if used is None or total is None else _of(used, total),
        _NONE if gpu.use_percent is None else f"{gpu.use_percent:.0f} %",
        _NONE if gpu.temperature_c is None else f"{gpu.temperature_c:.0f} °C",
        _NONE if gpu.power_w is None else f"{gpu.power_w:.0f} W",
    )


def _of(used: float, total: float) -> str:
    return f"{used / 2**30:,.0f} of {total / 2**30:,.0f} GiB"


def _named(runs: tuple[LiveRun, ...]) -> str:
    left = len(runs) - _SHOWN_RUNS
    return ", ".join(run.run for run in runs[:_SHOWN_RUNS]) + (f" and {left} more" if left > 0 else "")
