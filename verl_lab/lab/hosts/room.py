"""Whether the machine that a run is to train on has room for it now, and which other one has."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from verl_lab.domain.host import LOCAL
from verl_lab.domain.recipe import Problem
from verl_lab.environments.gpu import FREE_SHARE
from verl_lab.errors import TransportError, UnreachableError
from verl_lab.lab.hosts.view import HostReport, gigabytes
from verl_lab.recipes.device import Machine
from verl_lab.recipes.layers import MODEL_KEY
from verl_lab.recipes.validate import GPUS_KEY

if TYPE_CHECKING:
    from verl_lab.lab.found import FoundRun
    from verl_lab.lab.hosts.hosts import Hosts
    from verl_lab.lab.hosts.view import Gpu
    from verl_lab.recipes.validate import Checked

# verl saves what it trains in fp32 by default, with AdamW's two moments beside the weights.
_SAVED_BYTES_A_PARAMETER = 12
_SAVE_KEY = "trainer.save_freq"
HOST_KEY = "host"
"""What is told of the machine as it is now goes under this key, as the argument of a launch is called."""


def asked(hosts: Hosts, name: str) -> HostReport:
    """Ask a host what it has and does now; one that cannot say is reported with the reason.

    Raises
    ------
    NotFoundError
        There is no such host.
    UnreachableError
        It was not reached.
    """
    try:
        return hosts.look(name)
    except UnreachableError:
        raise
    except TransportError as error:
        return HostReport(name, problem=error.message)


def machine_of(report: HostReport) -> Machine:
    """Return what a recipe is checked against."""
    gpus = report.gpus
    memories = None if gpus is None else [gpu.memory_total_bytes for gpu in gpus]
    known = None if memories is None else [int(one) for one in memories if one is not None]
    name = "this machine" if report.name == LOCAL else report.name
    is_known = known is not None and memories is not None and len(known) == len(memories)
    return Machine(name, tuple(known or ()) if is_known else None, report.memory and report.memory.total_bytes)


def with_room(hosts: Hosts, report: HostReport, checked: Checked, *, for_launch: bool = True) -> Checked:
    """Add what stands against training on a machine as it is at this moment, and name the hosts that have room.

    The other hosts are asked only where there is something to say.

    Parameters
    ----------
    for_launch
        Whether it is to begin at once: else what is in use now refuses nothing.
    """
    if checked.settings is None:
        return checked
    room = _Room(hosts, report, checked)
    kept = [room.pointed(one) if _is_about_size(one, checked) else one for one in checked.problems]
    found = [room.pointed(one if for_launch else replace(one, severity="warning")) for one in room.problems()]
    return replace(checked, problems=(*kept, *found))


def room_notes(run: FoundRun) -> list[str]:
    """Return what was told of the machine when a run was launched on it, as lines to be shown."""
    told: list[str] = run.launcher.read_record(run.folder).get("warnings") or []
    return [line for line in told if line.startswith(f"{HOST_KEY}: ")]


class _Room:
    """One recipe on one machine."""

    def __init__(self, hosts: Hosts, report: HostReport, checked: Checked) -> None:
        self._hosts = hosts
        self._report = report
        self._checked = checked
        self._name = machine_of(report).name
        self._wanted = checked.plan.recipe.resources.gpus
        memory = checked.memory
        self._least = max(memory.least, sum(memory.rollout.values())) if memory else None

    def problems(self) -> list[Problem]:
        """Return what stands against it; what refuses the launch comes with what it needs."""
        if self._report.problem is not None:
            why = f"what {self._name} has is not known: {self._report.problem}"
            return [self._told(why)]
        found = self._gpu_problems() if self._checked.plan.device == "gpu" else self._memory_problems()
        return found + self._disk_problems()

    def pointed(self, problem: Problem) -> Problem:
        """Say where there is room."""
        if not self._others:
            return problem
        where = f"There is room on {', '.join(self._others)}."
        return replace(problem, suggestion=f"{problem.suggestion} {where}" if problem.suggestion else where)

    def _gpu_problems(self) -> list[Problem]:
        gpus = self._report.gpus
        if gpus is None:
            why = f"the GPUs of {self._name} are not known: {self._report.missing.get('gpus', 'it does not say')}."
            return [self._told(why)]
        if len(gpus) < self._wanted:
            return []  # told where the recipe was checked
        fitting = [gpu for gpu in gpus if self._fits(gpu)]
        # verl takes them in their order, whichever are free.
        taken = [gpu for gpu in gpus[: self._wanted] if gpu.is_free is False]
        if not taken:
            return []
        used = ", ".join(f"GPU {gpu.index} ({_used(gpu)})" for gpu in taken)
        runs = ", ".join(run.run for run in self._report.runs or ())
        why = f"in use on {self._name}: {used}" + (f"; it trains {runs}." if runs else ".")
        if len(fitting) < self._wanted:
            need = f" {gigabytes(self._least)} is the least that it needs on each." if self._least is not None else ""
            return [self._told(why + need, "Wait until they are free.", severity="error")]
        free = ", ".join(map(str, self._report.free_gpus)) or "none"
        fix = f"Free there: {free}. CUDA_VISIBLE_DEVICES in the environment there chooses others."
        return [self._told(why, fix)]

    def _memory_problems(self) -> list[Problem]:
        memory, needed = self._report.memory, self._checked.memory
        if memory is None or needed is None or needed.peak <= memory.available_bytes:
            return []
        left = gigabytes(memory.available_bytes)
        why = f"the run needs {gigabytes(needed.peak)} (an estimate), and {left} of memory are left on {self._name}."
        return [self._told(why, severity="error" if needed.least > memory.available_bytes else "warning")]

    def _disk_problems(self) -> list[Problem]:
        disk, needed, settings = self._report.disk, self._checked.memory, self._checked.settings
        if disk is None or needed is None or settings is None or settings.number(_SAVE_KEY, -1) <= 0:
            return []
        size = needed.parameters * _SAVED_BYTES_A_PARAMETER
        if size <= disk.free_bytes:
            return []
        why = f"a checkpoint takes about {gigabytes(size)}, and {gigabytes(disk.free_bytes)} are free on {self._name}."
        fix = f"Make room at {self._report.root}."
        return [self._told(why, fix)]

    def _told(self, why: str, fix: str | None = None, *, severity: Literal["error", "warning"] = "warning") -> Problem:
        return Problem(HOST_KEY, self._report.name, why, fix, severity)

    def _fits(self, gpu: Gpu) -> bool:
        used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
        if used is None or total is None:
            return True
        return total - used >= (FREE_SHARE * total if self._least is None else self._least)

    @cached_property
    def _others(self) -> list[str]:
        """The other hosts that have room for it."""
        found: list[str] = []
        for one in self._hosts.view().hosts:
            if one.name == self._report.name or not one.has_room:
                continue
            free = [gpu for gpu in one.gpus or () if gpu.is_free and self._fits(gpu)]
            if self._checked.plan.device == "cpu" or len(free) >= self._wanted:
                found.append(one.name)
        return found


def _is_about_size(problem: Problem, checked: Checked) -> bool:
    """Whether another machine may have what this one lacks."""
    if problem.severity != "error":
        return False
    fits_nowhere_here = problem.key == MODEL_KEY[checked.plan.recipe.trainer] and "(an estimate)" in problem.message
    return problem.key == GPUS_KEY or fits_nowhere_here


def _used(gpu: Gpu) -> str:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    return "busy" if used is None or total is None else f"{used / 2**30:,.0f} of {total / 2**30:,.0f} GiB"
