"""Hosts: the list, one of them, what it has, what is installed there."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, SecretStr

from verl_lab.domain.host import LOCAL, NAME
from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError
from verl_lab.server.answers import ToldCheck
from verl_lab.server.faults import ConflictError
from verl_lab.server.routing import Asked, Nothing, Routes

if TYPE_CHECKING:
    from verl_lab.environments.report import Report
    from verl_lab.lab import Lab
    from verl_lab.lab.hosts.listing import ListedHost
    from verl_lab.lab.hosts.view import Gpu, HostReport
    from verl_lab.server import answers
    from verl_lab.server.answers import (
        Accepted,
        Begun,
        HostEnvironment,
        HostList,
        HostLook,
        HostRow,
        HostTest,
        Removed,
        Step,
    )
    from verl_lab.server.tasks import Tasks

ROUTES = Routes()

_MB = 2**20
Short = Annotated[str, Field(min_length=1, max_length=300)]
Path_ = Annotated[str, Field(min_length=1, max_length=1024)]
Port = Annotated[int, Field(ge=1, le=65535)]
Password = Annotated[SecretStr, Field(min_length=1, max_length=1024)]


class Reached(Asked):
    """How a machine is reached over SSH, and what is used there."""

    user: Short | None = None
    key: Path_ | None = None
    password: Password | None = None
    passphrase: Password | None = None
    runs_root: Path_ | None = None
    python: Path_ | None = None


class Add(Reached):
    """A machine to reach over SSH."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    address: Short
    port: Port = 22


class Edit(Reached):
    """What is to be another; what is left out stays, null is what holds where nothing is said."""

    address: Short | None = None
    port: Port | None = None


class Remove(Asked):
    """Whether to remove it although runs there are not over."""

    force: bool = False


class Accept(Asked):
    """The fingerprint of the key that the host showed."""

    fingerprint: Annotated[str, Field(max_length=100)]


class SetUp(Asked):
    """For what."""

    role: Literal["training", "cpu"] | None = None


@ROUTES.add("GET", "hosts")
def hosts(lab: Lab) -> HostList:
    """List the hosts as they are known: none is asked."""
    return {"rows": [_row(one, lab.hosts.seen.get(one.name)) for one in lab.hosts.list()]}


@ROUTES.add("POST", "hosts", body=Add, status=201, is_slow=True)
def add(lab: Lab, body: Add) -> HostRow:
    """Add a machine that is reached over SSH; it is not connected to yet."""
    NAME.check("name", body.name)
    if body.name in lab.hosts.names():
        raise ConflictError(f"name: there is a host {body.name!r} already.", "Choose another name, or change that one.")
    given = {name: _plain(value) for name, value in body if value is not None and name != "name"}
    lab.hosts.add(body.name, **given)
    return _one(lab, body.name)


@ROUTES.add("PATCH", "hosts/{host}", body=Edit, is_slow=True)
def edit(lab: Lab, host: str, body: Edit) -> HostRow:
    """Change how a host is reached."""
    if not body.model_fields_set:
        raise InvalidInputError("body: nothing is to be changed.", "Give the fields that are to be others.")
    lab.hosts.edit(host, **{name: _plain(getattr(body, name)) for name in body.model_fields_set})
    return _one(lab, host)


@ROUTES.add("DELETE", "hosts/{host}", query=Remove, is_slow=True)
def remove(lab: Lab, host: str, query: Remove) -> Removed:
    """Forget a host with its secrets; its runs stay listed."""
    lab.hosts.state(host)
    try:
        lab.hosts.remove(host, force=query.force)
    except InvalidInputError as error:
        raise ConflictError(error.message, error.hint) from error
    return {"removed": True}


@ROUTES.add("POST", "hosts/{host}/test", body=Nothing, is_slow=True)
def test(lab: Lab, host: str, body: Nothing) -> HostTest:
    """Try everything a launch needs of a host, with one attempt to log in."""
    del body
    found = lab.hosts.test(host)
    steps: list[Step] = [
        {"name": s.name, "ok": s.is_ok, "message": s.found, "hint": s.fix or None} for s in found.steps
    ]
    return {"ok": found.is_ok, "steps": steps, "fingerprint": found.fingerprint}


@ROUTES.add("POST", "hosts/{host}/accept", body=Accept, is_slow=True)
def accept(lab: Lab, host: str, body: Accept) -> Accepted:
    """Take the key that a host shows for its own, if it has this fingerprint."""
    _far(lab, host)
    lab.hosts.accept(host, body.fingerprint)
    return {"accepted": True}


@ROUTES.add("GET", "hosts/{host}/look", is_slow=True)
def look(lab: Lab, host: str) -> HostLook:
    """Ask a host what it has and does now."""
    found = lab.hosts.look(host)
    return {
        **_one(lab, host),
        "free_gpus": found.free_gpus,
        "has_room": found.has_room,
        "missing": found.missing,
        "runs": found.runs or (),
    }


@ROUTES.add("GET", "hosts/{host}/environment", is_slow=True)
def environment(lab: Lab, host: str) -> HostEnvironment:
    """Check what is installed on a host against what this release was tested with."""
    return told_report(lab.hosts.environment(host))


@ROUTES.add("POST", "hosts/{host}/setup", body=SetUp, status=202, wants=("tasks",))
def setup(lab: Lab, host: str, body: SetUp, tasks: Tasks) -> Begun:
    """Begin to make, complete or repair the environment of a host."""
    _far(lab, host)

    def work(say: object) -> str:
        report = lab.hosts.setup(host, body.role, progress=say)  # pyright: ignore[reportArgumentType]  it takes lines
        wrong = [check.name for check in report.checks if not check.ok]
        return f"{host} is ready." if report.ok else f"{host} is set up, but not right: {', '.join(wrong)}."

    return {"task": tasks.begin(work)}


@ROUTES.add("GET", "tasks/{task}", wants=("tasks",))
def task_(lab: Lab, task: str, tasks: Tasks) -> answers.Task:
    """Say where something that was begun stands."""
    del lab
    return tasks.told(task)


def told_report(report: Report) -> HostEnvironment:
    """Return what the check of an environment found."""
    checks = [
        ToldCheck(**vars(one), message="as wanted" if one.ok else f"{one.found} instead of {one.wanted}")
        for one in report.checks
    ]
    return {"role": report.role, "ok": report.ok, "checks": checks}


def _plain(value: Any) -> Any:
    return Secret(value.get_secret_value()) if isinstance(value, SecretStr) else value


def _far(lab: Lab, host: str) -> None:
    if host == LOCAL:
        raise ConflictError(f"host: {LOCAL!r} is this machine.", "This is for hosts that are reached over SSH.")
    lab.hosts.entry(host)


def _one(lab: Lab, host: str) -> HostRow:
    return next(_row(one, lab.hosts.seen.get(host)) for one in lab.hosts.list() if one.name == host)


def _row(host: ListedHost, seen: HostReport | None) -> HostRow:
    entry = host.entry
    memory, disk = (None, None) if seen is None else (seen.memory, seen.disk)
    return {
        "name": host.name,
        "address": "this machine" if entry is None else entry.hostname,
        "user": None if entry is None else entry.user,
        "port": None if entry is None else entry.port,
        "state": host.state.word,
        "message": host.state.reason,
        "gpus": None if seen is None or seen.gpus is None else [_gpu(gpu) for gpu in seen.gpus],
        "load": None if seen is None else {"load": seen.load, "cores": seen.cores},
        "memory": None
        if memory is None
        else {"total_mb": memory.total_bytes / _MB, "available_mb": memory.available_bytes / _MB},
        "disk": None if disk is None else {"total_mb": disk.total_bytes / _MB, "free_mb": disk.free_bytes / _MB},
        "live_runs": len(host.live_runs),
        "last_contact": host.last_contact,
        "host_key": host.host_key,
    }


def _gpu(gpu: Gpu) -> answers.Gpu:
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    return {
        "name": gpu.name,
        "used_mb": None if used is None else used / _MB,
        "total_mb": None if total is None else total / _MB,
        "load": gpu.use_percent,
        "temperature": gpu.temperature_c,
    }
