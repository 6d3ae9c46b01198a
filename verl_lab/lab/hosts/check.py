"""``lab.hosts.test``: what a launch needs of a host, tried step by step, with what to do where one fails."""

from __future__ import annotations

import html
import platform
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import LOCAL
from verl_lab.errors import StoreError, TransportError
from verl_lab.lab.hosts.listing import address
from verl_lab.lab.hosts.view import gigabytes
from verl_lab.lab.table import Table, plain

if TYPE_CHECKING:
    from verl_lab.errors import VerlLabError
    from verl_lab.lab.hosts.hosts import Hosts

STEPS = ("network", "host key", "login", "commands", "Python", "space")
_MACHINES = ("x86_64", "aarch64")  # what torch's builds for Linux are for
_LEAST_FREE_BYTES = 2**30  # less than one checkpoint of the smallest model
_MARKS = {True: "✓", False: "✗", None: "–"}


@dataclass(frozen=True)
class HostStep:
    """One thing that a launch needs.

    Attributes
    ----------
    name
        One of ``STEPS``.
    is_ok
        None if it was not tried, since an earlier one failed.
    found
        What was found, or what is wrong.
    fix
        What to do next, where something is wrong.
    """

    name: str
    is_ok: bool | None
    found: str
    fix: str = ""


@dataclass(frozen=True)
class HostCheck:
    """What ``lab.hosts.test`` found; true where nothing is wrong.

    Attributes
    ----------
    fingerprint
        That of the key which a host shows that is not known, so that it can be compared and accepted; else None.
    """

    host: str
    steps: tuple[HostStep, ...]
    fingerprint: str | None = None

    @property
    def is_ok(self) -> bool:
        """Whether runs can be launched there, as far as this tells."""
        return all(step.is_ok for step in self.steps)

    def __bool__(self) -> bool:
        return self.is_ok

    def __repr__(self) -> str:
        return f"{self._title}\n{self._table!r}" + "".join(f"\nNext: {fix}" for fix in self._fixes)

    def _repr_html_(self) -> str:
        fixes = "".join(f"<p>Next: {html.escape(fix)}</p>" for fix in self._fixes)
        return f"<p><b>{html.escape(self._title)}</b></p>{self._table.to_html()}{fixes}"

    @property
    def _title(self) -> str:
        return f"{self.host} can be used." if self.is_ok else f"{self.host} cannot be used yet."

    @property
    def _table(self) -> Table:
        rows = tuple((_MARKS[step.is_ok], step.name, plain(step.found)) for step in self.steps)
        return Table(("", "step", ""), rows, "")

    @property
    def _fixes(self) -> list[str]:
        return [plain(step.fix) for step in self.steps if step.fix]


def check_host(hosts: Hosts, name: str) -> HostCheck:
    """Try the steps in their order. One that fails ends it; one attempt is made to log in."""
    if name == LOCAL:
        about = {"python": platform.python_version(), "machine": platform.machine(), "system": platform.system()}
        here = ["this machine"] * 3 + ["it runs commands"]
        return _on_it(hosts, name, about, here)
    entry = hosts.entry(name)
    said = [f"{address(entry)} answers", "it is the one that is known", f"as {entry.user or 'the user here'}"]
    from verl_lab.transport.ssh import HostKeyError, NoPythonError, UnreachableError

    try:
        about = hosts.connect(name, anew=True)
    except (TransportError, StoreError) as error:  # StoreError: its password cannot be read
        passed = 0 if isinstance(error, UnreachableError) else 1 if isinstance(error, HostKeyError) else 2
        key = error.fingerprint if isinstance(error, HostKeyError) and error.can_accept else None
        return replace(_stopped(name, said[:passed], error), fingerprint=key)
    if about:
        return _on_it(hosts, name, about, [*said, "it runs commands"])
    try:
        hosts.get(name).run(["true"], timeout_s=10)
    except TransportError as error:
        why = error.__cause__
        if isinstance(why, NoPythonError):
            fix = f"Install Python 3 there, or name one: %verl_hosts edit {name} --python /path/to/python3"
            return _stopped(name, [*said, "it runs commands"], NoPythonError(why.message, fix))
        return _stopped(name, said, why if isinstance(why, TransportError) else error)
    return check_host(hosts, name)  # it does now


def _on_it(hosts: Hosts, name: str, about: dict[str, Any], passed: list[str]) -> HostCheck:
    system, machine = about["system"], about["machine"]
    if system != "Linux" or machine not in _MACHINES:
        kinds = " or ".join(_MACHINES)
        wrong = TransportError(
            f"It runs {system} on {machine}.", f"verl trains on Linux on {kinds}: take another host."
        )
        return _stopped(name, passed, wrong)
    try:
        found = hosts.look(name, tries_to_write=True)
    except TransportError as error:
        return _stopped(name, passed, error)
    passed = [*passed, f"{about['python']} on {machine}"]
    edit = f"name another folder: %verl_hosts edit {name} --runs-root /data/verl-lab"
    edit = "set VERL_LAB_HOME to another folder" if name == LOCAL else edit
    disk = found.disk
    if disk is None:
        return _stopped(name, passed, TransportError(f"{found.root}: {found.missing['disk']}.", f"Or {edit}"))
    if disk.refusal is not None:
        wrong = TransportError(f"Nothing can be written to {found.root}: {disk.refusal}.", f"Mend that, or {edit}")
        return _stopped(name, passed, wrong)
    if disk.free_bytes < _LEAST_FREE_BYTES:
        left = f"{gigabytes(disk.free_bytes)} of {gigabytes(disk.total_bytes)} are free at {found.root}"
        return _stopped(name, passed, TransportError(f"Only {left}.", f"Free some, or {edit}"))
    passed.append(f"{gigabytes(disk.free_bytes)} of {gigabytes(disk.total_bytes)} are free at {found.root}")
    return HostCheck(
        name, tuple(HostStep(step, is_ok=True, found=said) for step, said in zip(STEPS, passed, strict=True))
    )


def _stopped(name: str, passed: list[str], error: VerlLabError) -> HostCheck:
    at = len(passed)
    steps = [HostStep(step, is_ok=True, found=said) for step, said in zip(STEPS[:at], passed, strict=True)]
    steps.append(HostStep(STEPS[at], is_ok=False, found=error.message, fix=error.hint or ""))
    steps += [HostStep(step, is_ok=None, found="not tried") for step in STEPS[at + 1 :]]
    return HostCheck(name, tuple(steps))
