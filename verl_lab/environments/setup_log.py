"""A set-up that runs on a host on its own: beginning it, following what it says, and coming back to it."""

from __future__ import annotations

import json
import secrets
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from verl_lab.errors import EnvironmentMismatchError, NoSpaceError, UnreachableError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.transport.base import Host

T = TypeVar("T")

POLL_S = 0.3
# A connection that is gone for longer is the user's to mend; the set-up goes on meanwhile.
PATIENCE_S = 120.0
_PAUSE_S = 0.5
_SILENCE_S = 3.0  # after so long without a line, whether it still runs is asked
_TAIL_LINES = 20
_FULL = ("No space left on device", "Disk quota exceeded")
_CUT_OFF = ("Temporary failure in name resolution", "NewConnectionError", "ConnectTimeout", "Network is unreachable")


@dataclass(frozen=True)
class Outcome:
    """How a set-up ended: its exit code, None if something ended it before it could say; and its last lines."""

    exit_code: int | None
    lines: tuple[str, ...] = ()


class SetupLog:
    """The set-ups of one host, seen from here.

    Parameters
    ----------
    folder
        The host's ``<root>/environments``.
    running
        Tells of a role what holds its lock: its log and kit; None if nothing does.
    progress
        Called with each line.
    """

    def __init__(
        self,
        host: Host,
        folder: str,
        running: Callable[[str], Mapping[str, Any] | None],
        progress: Callable[[str], None],
    ) -> None:
        self._host = host
        self._folder = folder
        self._running = running
        self.say = progress

    def patiently(self, do: Callable[[], T]) -> T:
        """Do something that may be done twice, again while the host is unreachable, but not for ever."""
        until: float | None = None
        while True:
            try:
                return do()
            except UnreachableError:
                if until is None:
                    until = time.monotonic() + PATIENCE_S
                    self.say(f"{self._host.name} is unreachable; trying again")
                if time.monotonic() > until:
                    raise
                time.sleep(_PAUSE_S)

    def start(self, python: str, kit: str, said: Mapping[str, Any]) -> str:
        """Start a set-up that needs nobody here, and return its log's path."""
        role = said["role"]
        notes = f"{self._folder}/.setups"
        log = f"{notes}/{role}-{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(2)}.log"
        program = [python, "-I", "-X", "utf8", f"{self._folder}/.kits/{kit}/runner.py"]
        self.say(f"the log on {self._host.name}: {log}")

        def begin() -> None:
            self._host.make_folder(notes)
            # Asked before and not only after: whether an earlier try was heard is not known when the connection broke.
            # Two that begin do no harm either, since the second waits for the lock.
            if (self._running(role) or {}).get("log") != log and self._host.stat(f"{log}.end") is None:
                self._host.start_detached([*program, json.dumps({**said, "log": log})], cwd=self._folder, log=log)

        self.patiently(begin)
        return log

    def follow(self, role: str, log: str | None) -> Outcome:
        """Tell each line that a set-up writes until it has ended.

        Raises
        ------
        UnreachableError
            The host has not answered for minutes; the set-up goes on there.
        """
        if log is None:  # it has only just begun
            time.sleep(POLL_S)
            return Outcome(None)
        try:
            return self._follow(role, log)
        except UnreachableError as error:
            raise UnreachableError(error.message, "The set-up goes on there; setting up again follows it.") from error

    def _follow(self, role: str, log: str) -> Outcome:
        offset, rest = 0, b""
        lines: list[str] = []
        heard = time.monotonic()
        while True:
            # Looked at before the log is read: what is read then is all that was written.
            ended = self.patiently(lambda: self._host.stat(f"{log}.end")) is not None
            is_silent = time.monotonic() - heard > _SILENCE_S
            is_over = ended or (is_silent and self.patiently(lambda: self._running(role)) is None)
            content = self.patiently(lambda at=offset: self._host.read(log, at))
            offset += len(content)
            *whole, rest = (rest + content).split(b"\n")
            for line in (*whole, rest) if is_over and rest else whole:
                lines.append(line.decode(errors="replace").rstrip())
                self.say(lines[-1])
            if is_over:
                return Outcome(self._exit_code(log), tuple(lines[-_TAIL_LINES:]))
            if content or is_silent:
                heard = time.monotonic()
            time.sleep(POLL_S)

    def _exit_code(self, log: str) -> int | None:
        def read() -> int | None:
            path = f"{log}.end"
            return json.loads(self._host.read(path))["exit_code"] if self._host.stat(path) is not None else None

        return self.patiently(read)

    def require(self, outcome: Outcome, role: str, root: str, log: str) -> None:
        """Refuse a set-up that did not end well.

        Raises
        ------
        EnvironmentMismatchError, NoSpaceError
            With what it said last, and what to do.
        """
        if outcome.exit_code == 0:
            return
        host = self._host.name
        if any(sign in line for line in outcome.lines for sign in _FULL):
            raise NoSpaceError(
                f"The disk of {root} on {host} is full: role {role} was not set up.",
                "Make room there, or give the host a runs_root on a larger disk; then set it up again.",
            )
        if outcome.exit_code is None:
            raise EnvironmentMismatchError(
                f"The set-up of role {role} on {host} was ended there before it was done.",
                "Was the machine restarted? Set it up again: what is half done is made anew.",
            )
        hint = f"The whole log: {log} on {host}. Setting up again goes on where it can."
        if any(sign in line for line in outcome.lines for sign in _CUT_OFF):
            hint = f"It lost its package index: set it up offline, from packages that are sent from here. {hint}"
        raise EnvironmentMismatchError(f"Role {role} could not be set up on {host}:\n{_reason(outcome.lines)}", hint)


def _reason(lines: Sequence[str]) -> str:
    """Return what was said last, from the last step on."""
    begin = max((number for number, line in enumerate(lines) if line.startswith("setup: ")), default=0)
    return "\n".join(lines[begin:]).removeprefix("setup: ")
