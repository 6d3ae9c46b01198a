"""Starts, stops and resumes runs on a host, near or far."""

from __future__ import annotations

import hashlib
import json
import posixpath
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.run import RunState, Status, check_run_id
from verl_lab.domain.wire import FORMAT_VERSION, AttemptLayout, RunLayout
from verl_lab.errors import FormatError, InvalidInputError, LaunchError, NotFoundError, TransportError
from verl_lab.launch import supervisor
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from verl_lab.transport.base import Finished, Host

_PATIENCE_S = 60.0
_LOG_TAIL_BYTES = 2000
_PARTS = ("recipe", "launch", "versions")  # of a launch record, those that are objects where they are there


@dataclass(frozen=True)
class LaunchSpec:
    """What to start.

    Attributes
    ----------
    run_id
        Also the name of the run's folder.
    name
        What the user calls the run.
    argv
        The command that trains. ``@attempt@``, ``@run@`` and ``@scratch@`` stand for the attempt's
        folder, the run's folder, and a short private folder that is removed at the end.
    env
        Variables added to the host's own; values may hold the same tokens.
    cwd
        Working folder of training.
    config_yaml
        verl's resolved configuration.
    command
        The command as a person would copy it.
    record
        Further fields of ``run.json``: recipe, overrides, versions, parent.
    """

    run_id: str
    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str
    config_yaml: str
    command: str
    record: Mapping[str, object] = field(default_factory=dict[str, object])


class Launcher:
    """Runs on one host. Every method can be repeated: a run's attempt begins once.

    A ``run`` is given by its id below ``runs_root``, or by its folder's absolute path.

    Parameters
    ----------
    host
        Where to train.
    runs_root
        The folder of the runs' folders, on that host; or what gives it, asked when it is needed.
    python
        Interpreter for the supervisor, on that host; it needs nothing but the standard library.
    is_far
        Whether this machine's own files are not there, so that the supervisor has to be sent: it lies beside the runs'
        folder, in ``tools``.
    records
        A folder of this machine for copies of launch records, so that what a run is can be told while its host is away;
        None where the host is this machine.
    """

    def __init__(
        self,
        host: Host,
        runs_root: str | Callable[[], str],
        *,
        python: str = sys.executable,
        is_far: bool = False,
        records: Path | None = None,
    ) -> None:
        self._host = host
        self._runs_root_of = runs_root
        self._python = python
        self._is_far = is_far
        self._records = records
        self._program: str | None = None

    def create(self, spec: LaunchSpec) -> str:
        """Write the run's folder and return its path; a run that exists is left as it is.

        Raises
        ------
        InvalidInputError
            The run id, or a part of the command, is not acceptable.
        TransportError
            The folder cannot be written.
        """
        layout = self._layout(check_run_id(spec.run_id))
        if self._host.stat(str(layout.record)) is None:
            _check_command(spec)
            launch = {"argv": list(spec.argv), "env": dict(spec.env), "cwd": spec.cwd}
            record = {
                **spec.record,
                "version": FORMAT_VERSION,
                "run": spec.run_id,
                "name": spec.name,
                "created": time.time(),
                "launch": launch,
            }
            self._host.make_folder(str(layout.folder))
            self._host.write_new(str(layout.config), spec.config_yaml.encode())
            self._host.write_new(str(layout.command), f"{spec.command.rstrip()}\n".encode(errors="surrogateescape"))
            # Last: from here on the run exists. Of several at once, the first one's record stands.
            self._host.write_new(str(layout.record), json.dumps(record, indent=2).encode())
        return str(layout.folder)

    def withdraw(self, run: str) -> None:
        """Remove the folder of a run that was created and is not to be started.

        Raises
        ------
        LaunchError
            It has begun.
        """
        layout = self._layout(run)
        if self._host.list_folder(str(layout.attempts)):
            raise LaunchError(f"{layout.folder.name} has begun: its folder stays.")
        self._host.run(["rm", "-rf", "--", str(layout.folder)], timeout_s=_PATIENCE_S)

    def start(self, run: str) -> Status:
        """Begin the first attempt unless the run has begun, and return where it stands.

        Raises
        ------
        NotFoundError
            There is no such run.
        LaunchError
            Training could not be started; the message holds what the supervisor said.
        """
        return self._begin(self._existing(run), 1)

    def status(self, run: str) -> Status:
        """Return where the run stands, with a look at its processes: ``lost`` when they are gone.

        Raises
        ------
        NotFoundError
            There is no such run.
        """
        layout = self._existing(run)
        if self._host.name == "local":  # the same answer without a process for it
            try:
                return _parse(supervisor.current_status(Path(layout.folder)), layout)
            except ValueError as error:
                raise FormatError(f"The status of {layout.folder} cannot be read: {error}") from error
            except OSError as error:
                raise TransportError(f"The status of {layout.folder} cannot be read: {error.strerror}.") from error
        done = self._supervisor("status", str(layout.folder))
        if done.exit_code:
            raise LaunchError(f"The state of {layout.folder.name} cannot be told.", _text(done.stderr))
        return _decode(done.stdout, layout)

    def read_status(self, run: str) -> Status:
        """Return what the newest attempt's status file says, without a look at the processes."""
        return read_status(self._host, str(self._layout(run).folder))

    def stop(self, run: str, *, grace_s: float = 600, now: bool = False) -> Status:
        """Ask a run to end: it saves a checkpoint after its present step, then stops.

        Parameters
        ----------
        run
            Run id, or folder.
        grace_s
            How many seconds it may take before it is ended by signals.
        now
            End it by signals at once, without a checkpoint; so does a second ``stop``.

        Raises
        ------
        InvalidInputError
            No attempt of the run is live.
        """
        layout = self._existing(run)
        status = self.status(run)
        if status.state.is_over or status.state is RunState.CREATED:
            raise InvalidInputError(f"run: {status.run} cannot be stopped, it is {status.state}.")
        mode = "now" if now or status.state is RunState.STOPPING else "graceful"
        request = {"mode": mode, "time": time.time(), "grace_s": grace_s}
        attempt = layout.attempt(status.attempt)
        self._host.write_atomic(str(attempt.stop_request), json.dumps(request).encode())
        # A supervisor that was killed is replaced here, so that there is one to see it through.
        return self._begin(layout, status.attempt)

    def resume(self, run: str) -> Status:
        """Go on from the last checkpoint, as a new attempt.

        Raises
        ------
        InvalidInputError
            The run is live, or has completed.
        LaunchError
            Training could not be started.
        """
        layout = self._existing(run)
        status = self.status(run)
        if status.state is RunState.CREATED:
            raise InvalidInputError(f"run: {status.run} has not been started.", "Start it.")
        if status.state.is_live:
            raise InvalidInputError(f"run: {status.run} cannot be resumed, it is {status.state}.", "Stop it first.")
        if status.state is RunState.COMPLETED:
            raise InvalidInputError(f"run: {status.run} has completed: there is nothing left to do.")
        return self._begin(layout, status.attempt + 1)

    def read_record(self, run: str) -> dict[str, Any]:
        """Return the launch record, ``run.json``.

        Raises
        ------
        NotFoundError
            There is no such run.
        FormatError
            The file is no launch record of a version known here.
        """
        layout = self._layout(run)
        record = _object(self._record(layout), layout.record)
        if not isinstance(record.get("version"), int) or record["version"] > FORMAT_VERSION:
            raise FormatError(
                f"{layout.record}: version: {record.get('version')!r} is not known here.",
                f"This verl-lab reads up to {FORMAT_VERSION}.",
            )
        wrong = [part for part in _PARTS if not isinstance(record.get(part) or {}, dict)]
        if wrong:
            raise FormatError(f"{layout.record}: {wrong[0]}: it is no object, so this is no launch record.")
        return record

    def _record(self, layout: RunLayout[PurePosixPath]) -> bytes:
        """Return what ``run.json`` holds: it never changes, so that a copy says the same."""
        copy = None if self._records is None else self._records / f"{layout.folder.name}.json"
        if copy is not None and copy.exists():
            return copy.read_bytes()
        content = self._host.read(str(self._existing(str(layout.folder)).record))
        if copy is not None:
            copy.parent.mkdir(parents=True, exist_ok=True)
            LocalHost().write_atomic(str(copy), content)
        return content

    @property
    def _runs_root(self) -> str:
        return self._runs_root_of if isinstance(self._runs_root_of, str) else self._runs_root_of()

    @property
    def _tools(self) -> str:
        return str(PurePosixPath(self._runs_root).parent / "tools")

    def _layout(self, run: str) -> RunLayout[PurePosixPath]:
        if posixpath.isabs(run):
            folder = PurePosixPath(posixpath.normpath(run))
            check_run_id(folder.name)
            return RunLayout(folder)
        return RunLayout(PurePosixPath(self._runs_root) / check_run_id(run))

    def _existing(self, run: str) -> RunLayout[PurePosixPath]:
        layout = self._layout(run)
        if self._host.stat(str(layout.record)) is None:
            raise NotFoundError.of("run", layout.folder.name, self._host.list_folder(self._runs_root))
        return layout

    def _begin(self, layout: RunLayout[PurePosixPath], attempt: int) -> Status:
        done = self._supervisor("start", str(layout.folder), "--attempt", str(attempt))
        if done.exit_code:
            log = f"The supervisor's log is {layout.folder / 'supervisor.log'}."
            raise LaunchError(f"{layout.folder.name} could not be started: {_text(done.stderr)}", log)
        return _decode(done.stdout, layout)

    def _supervisor(self, *words: str) -> Finished:
        """Run the supervisor's program on the host; where it has to be sent there, it is named by its content."""
        if self._program is None:
            own = Path(supervisor.__file__).absolute()
            self._program = _sent(self._host, self._tools, own) if self._is_far else str(own)
        return self._host.run([self._python, "-I", "-S", self._program, *words], timeout_s=_PATIENCE_S)


def _sent(host: Host, tools: str, own: Path) -> str:
    content = own.read_bytes()
    folder = PurePosixPath(tools) / hashlib.sha256(content).hexdigest()[:16]
    if host.stat(str(folder / own.name)) is None:
        host.make_folder(str(folder))
        host.write_new(str(folder / own.name), content)
    return str(folder / own.name)


def read_status(host: Host, folder: str) -> Status:
    """Return what the newest attempt's status file in a run's folder says, whether or not it still holds.

    Raises
    ------
    FormatError
        The file is no status.
    """
    layout = RunLayout(PurePosixPath(folder))
    numbers = sorted((int(n) for n in host.list_folder(str(layout.attempts)) if n.isdecimal()), reverse=True)
    for number in numbers:
        path = AttemptLayout(layout.attempts / str(number)).status
        if host.stat(str(path)) is not None:
            return _parse(_object(host.read(str(path)), path), layout)
    return Status(layout.folder.name, attempt=0, state=RunState.CREATED)


def _parse(found: Mapping[str, Any], layout: RunLayout[PurePosixPath]) -> Status:
    try:
        return Status(
            run=layout.folder.name,
            attempt=int(found["attempt"]),
            state=RunState(found["state"]),
            **{name: found.get(name) for name in _OPTIONAL},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"The status of {layout.folder} lacks or garbles a field: {error}.") from error


_OPTIONAL = ("step", "total", "phase", "exit_code", "reason", "started", "updated", "ended")


def _decode(content: bytes, layout: RunLayout[PurePosixPath]) -> Status:
    return _parse(_object(content, layout.folder), layout)


def _object(content: bytes, origin: PurePosixPath) -> dict[str, Any]:
    try:
        found = json.loads(content)
    except ValueError as error:
        raise FormatError(f"{origin}: what was read is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{origin}: what was read is JSON, but no object.")
    return cast("dict[str, Any]", found)


def _text(content: bytes) -> str:
    return content[-_LOG_TAIL_BYTES:].decode(errors="replace").strip()


def _check_command(spec: LaunchSpec) -> None:
    """Refuse what an operating system cannot pass to a process."""
    if not spec.argv:
        raise InvalidInputError("argv: there is no command.", "Give at least a program.")
    for name in spec.env:
        if not name or "=" in name:
            raise InvalidInputError(f"env: {name!r} is no name of a variable.", "It must not be empty nor hold '='.")
    texts = [("cwd", spec.cwd), *(("argv", text) for text in spec.argv)]
    texts += [("env", text) for pair in spec.env.items() for text in pair]
    for where, text in texts:
        if "\0" in text:
            raise InvalidInputError(f"{where}: {text[:100]!r} holds a null character.", "No command can.")
