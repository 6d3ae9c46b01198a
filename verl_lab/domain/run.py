"""A run: its identity, its states, and what its status file says."""

from __future__ import annotations

import re
import secrets
from dataclasses import dataclass
from datetime import datetime, timezone
from enum import Enum

from verl_lab.inputs import Shape

_RUN_ID_LONGEST = 80
_RUN_ID = Shape(
    re.compile(r"[a-z0-9]+(-[a-z0-9]+)*"),
    _RUN_ID_LONGEST,
    f"A run id is made of a-z, 0-9 and single dashes, {_RUN_ID_LONGEST} characters at most.",
)


class RunState(str, Enum):
    """Where a run stands. ``attached`` is a log that something else writes: it records no state."""

    CREATED = "created"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    COMPLETED = "completed"
    FAILED = "failed"
    STOPPED = "stopped"
    LOST = "lost"
    ATTACHED = "attached"

    @property
    def is_over(self) -> bool:
        """Whether the newest attempt has ended."""
        return self in (RunState.COMPLETED, RunState.FAILED, RunState.STOPPED, RunState.LOST)

    @property
    def is_live(self) -> bool:
        """Whether a process works on the run, or is about to."""
        return self in (RunState.CREATED, RunState.STARTING, RunState.RUNNING, RunState.STOPPING)

    @property
    def can_resume(self) -> bool:
        """Whether there is a last step to go on to: it has ended, and not by completing."""
        return self.is_over and self is not RunState.COMPLETED

    def __str__(self) -> str:
        return self.value


@dataclass(frozen=True)
class ProcessIdentity:
    """A process that cannot be mistaken for a later one with the same pid.

    Attributes
    ----------
    pid
        Process id.
    process_start
        Start time in clock ticks since boot (``/proc/<pid>/stat``, field 22).
    boot_id
        ``/proc/sys/kernel/random/boot_id`` of the boot it belongs to.
    """

    pid: int
    process_start: int
    boot_id: str


@dataclass(frozen=True)
class Status:
    """What the newest attempt's status file says.

    Attributes
    ----------
    step, total
        Last finished step and the last one planned; None until known.
    phase
        What the trainer does now, in words for a person; None when it is over.
    exit_code
        Exit code of training, 128 + signal when a signal ended it; None while unknown.
    reason
        Why the state is what it is, in a sentence; None where the state speaks for itself.
    started, updated, ended
        Unix time in seconds.
    """

    run: str
    attempt: int
    state: RunState
    step: int | None = None
    total: int | None = None
    phase: str | None = None
    exit_code: int | None = None
    reason: str | None = None
    started: float | None = None
    updated: float | None = None
    ended: float | None = None


def slug(text: str, longest: int = 40) -> str:
    """Reduce ``text`` to lower-case letters, digits and single dashes."""
    words = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")
    return words[:longest].strip("-") or "run"


def new_run_id(name: str, now: datetime | None = None) -> str:
    """Make a run id that sorts by time and is safe as a path and in a shell."""
    moment = (now or datetime.now(timezone.utc)).astimezone(timezone.utc)
    return f"{moment:%Y%m%d-%H%M%S}-{slug(name)}-{secrets.token_hex(2)}"


def check_run_id(text: str) -> str:
    """Return ``text`` if it is a run id.

    Raises
    ------
    InvalidInputError
        If it holds anything but lower-case letters, digits and dashes, or is too long.
    """
    return _RUN_ID.check("run id", text)
