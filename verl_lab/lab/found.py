"""``FoundRun``: where one run lies, and where it stands."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import yaml

from verl_lab.domain.host import LOCAL
from verl_lab.domain.run import RunState, Status
from verl_lab.domain.wire import AttemptLayout, RunLayout
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError, UnreachableError
from verl_lab.lab import files

if TYPE_CHECKING:
    from typing_extensions import Self

    from verl_lab.lab.lab import Lab
    from verl_lab.launch.launcher import Launcher
    from verl_lab.store import RunRow
    from verl_lab.transport.base import Host

_SILENT_S = 15.0
_FIRST_LOOK_S = 5.0
_STALE_S = 5.0  # the supervisor beats every second: after this long, ask whether it still lives


class FoundRun:
    """Where a run lies and where it stands; ``Run`` adds what it wrote, and what can be done with it.

    Attributes
    ----------
    id
        Sorts by time; safe as a path and in a shell.
    folder
        Where the run's files lie on its host (for an attached log, the log itself).
    host_name
        Which machine that is; ``local`` is this one.
    """

    def __init__(self, lab: Lab, run_id: str, folder: str, host_name: str = LOCAL) -> None:
        self._lab = lab
        self.id = run_id
        self.folder = folder
        self.host_name = host_name

    def __repr__(self) -> str:
        status = self.status()
        of = f" of {status.total}" if status.total else ""
        at = f", step {status.step}{of}" if status.step is not None else ""
        return f"Run({self.id!r}: {status.state}{at})"

    @property
    def host(self) -> Host:
        """The machine the run's files lie on."""
        return self._lab.hosts.get(self.host_name)

    @property
    def launcher(self) -> Launcher:
        """What starts and stops runs on that machine."""
        return self._lab.launcher_on(self.host_name)

    @property
    def row(self) -> RunRow:
        """What the index holds about the run."""
        row = self._lab.store.runs.get(self.id)
        if row is None:
            raise NotFoundError(f"The index has no run {self.id!r} any more.", "lab.runs() takes run folders in again.")
        return row

    @property
    def name(self) -> str:
        """What the user called it."""
        return self.row.name

    @property
    def is_attached(self) -> bool:
        """Whether this is a log that something else writes: it cannot be stopped from here."""
        return self.row.kind == "attached"

    @property
    def state(self) -> RunState:
        """Where the run stands now. See ``status()`` for the reason."""
        return self.status().state

    def status(self) -> Status:
        """Return state, step, total, phase, exit code and reason of the newest attempt."""
        if self.is_attached:
            row = self.row
            return Status(self.id, attempt=1, state=RunState.ATTACHED, step=row.step, total=row.total)
        if self.host_name != LOCAL:
            return self._status_there()
        status = self.launcher.read_status(self.folder)
        silent = status.updated is None or time.time() - status.updated > _STALE_S
        if status.state.is_live and silent:
            try:
                return self.launcher.status(self.folder)
            except NotFoundError:  # what was read of it is in the index
                known = self._status_known()
                state = known.state if known.state.is_over else RunState.LOST
                return replace(known, state=state, reason="its folder is gone")
        return status

    def _status_there(self) -> Status:
        """Return what was told last: a host that is away says nothing about its runs, and is not waited for."""
        if not self._lab.reader.is_following(self.id):
            self.follow()
        known = self._lab.reader.status(self.id, patience_s=_FIRST_LOOK_S)
        # The other machine's clock is another one: how long it was silent is counted here.
        if known is not None and (known[0].state.is_over or known[1] < _SILENT_S):
            return known[0]
        hosts = self._lab.hosts
        if self.host_name in hosts.names() and hosts.state(self.host_name).word != "unreachable":
            try:
                return self.launcher.status(self.folder)
            except UnreachableError:
                pass
        return known[0] if known is not None else self._status_known()

    def _status_known(self) -> Status:
        """Return what the index holds of the status."""
        row = self.row
        fields = {name: getattr(row, name) for name in ("step", "total", "reason", "started", "updated", "ended")}
        return Status(self.id, attempt=row.attempt, state=RunState(row.state), **fields)

    @property
    def config(self) -> dict[str, Any]:
        """verl's resolved configuration, as nested dictionaries; empty for an attached log."""
        if self.is_attached:
            return {}
        found: object = None
        with contextlib.suppress(yaml.YAMLError):
            found = yaml.safe_load(self.host.read(str(self.layout.config)))
        if not isinstance(found, dict):
            raise FormatError(f"{self.id}: its config.yaml is not the configuration that was launched.")
        return cast("dict[str, Any]", found)

    @property
    def command(self) -> str:
        """The exact command of the newest attempt, to copy into a terminal."""
        self._refuse_attached("command")
        attempt = self._attempt().folder / "command.txt"
        path = str(attempt) if self.host.stat(str(attempt)) else str(self.layout.command)
        return self.host.read(path).decode(errors="replace")

    @property
    def layout(self) -> RunLayout[Path]:
        """Where the run's files lie."""
        return RunLayout(Path(self.folder))

    def follow(self) -> None:
        """Let the background reader keep this run up to date."""
        self._lab.follow(self.row)

    def sync(self) -> Self:
        """Read everything the run has written up to now into the index."""
        if not self._lab.reader.is_following(self.id):
            self.follow()
        self._lab.reader.sync(self.id)
        return self

    def catch_up(self) -> str | None:
        """Read what there is, as ``sync``; return why that could not be done where the run's host is away.

        What was read before serves meanwhile, and training goes on.
        """
        if self.host_name != LOCAL and self.host_name not in self._lab.hosts.names():
            return f"{self.host_name} is not among the hosts any more."
        try:
            self.sync()
        except UnreachableError as error:
            return error.message
        return None

    def _attempts(self) -> list[AttemptLayout[Path]]:
        return files.attempts(self.host, self.layout)

    def _attempt(self) -> AttemptLayout[Path]:
        return (self._attempts() or [self.layout.attempt(1)])[-1]

    def _refuse_attached(self, what: str) -> None:
        if self.is_attached:
            raise InvalidInputError(
                f"{what}: {self.id} is a log that something else writes.", "Only a run started here has one."
            )
