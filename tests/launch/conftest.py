"""A launcher over real processes, and what a test asks of them."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.domain.run import RunState, Status
from verl_lab.domain.wire import AttemptLayout, EventRecord, RunLayout, decode_event
from verl_lab.launch import supervisor
from verl_lab.launch.launcher import Launcher, LaunchSpec
from verl_lab.transport.local import LocalHost

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

TRAINER = Path(__file__).parent / "programs" / "trainer.py"
PATIENCE_S = 60.0


@dataclass
class Bench:
    """A folder of runs, the launcher of its host, and looks at what both do."""

    root: Path
    launcher: Launcher

    def create(self, run: str, *words: str, argv: tuple[str, ...] | None = None, **env: str) -> Path:
        argv = argv or (sys.executable, str(TRAINER), *words)
        env = {"VERL_LAB_SAMPLE_S": "0", **env}  # what measures the host is tested by itself
        spec = LaunchSpec(run, "a run", argv, env, str(self.root), "a: 1\n", "train", {"recipe": {"name": "toy"}})
        return Path(self.launcher.create(spec))

    def start(self, run: str, *words: str, argv: tuple[str, ...] | None = None, **env: str) -> Path:
        folder = self.create(run, *words, argv=argv, **env)
        self.launcher.start(run)
        return folder

    def finish(self, run: str) -> Status:
        return self.until(run, lambda status: status.state.is_over)

    def at_step(self, run: str, step: int = 1) -> Status:
        return self.until(run, lambda status: status.state is RunState.RUNNING and (status.step or 0) >= step)

    def until(self, run: str, holds: Callable[[Status], bool]) -> Status:
        return self.eventually(lambda: status if holds(status := self.launcher.status(run)) else None)

    def eventually(self, look: Callable[[], Any], patience_s: float = PATIENCE_S) -> Any:
        """Return what ``look`` returns once that is true."""
        until = time.monotonic() + patience_s
        while not (found := look()):
            assert time.monotonic() < until, "what was waited for did not come"
            time.sleep(0.02)
        return found

    def attempt(self, run: str, number: int = 1) -> AttemptLayout[Path]:
        return RunLayout(self.root / run).attempt(number)

    def events(self, run: str, number: int = 1) -> list[EventRecord]:
        return [decode_event(line) for line in self.attempt(run, number).events.read_bytes().splitlines()[1:]]

    def kinds(self, run: str, number: int = 1) -> list[str]:
        return [event.kind for event in self.events(run, number)]

    def status_file(self, run: str, number: int = 1) -> dict[str, Any]:
        return json.loads(self.attempt(run, number).status.read_bytes())

    def is_running(self, pid: int) -> bool:
        process = supervisor.look_up(pid)
        return process is not None and not process.is_zombie

    def kill(self, pid: int) -> None:
        os.kill(pid, signal.SIGKILL)
        self.eventually(lambda: not self.is_running(pid))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    root = tmp_path / "runs"
    root.mkdir()
    yield Bench(root, Launcher(LocalHost(), str(root)))
    # A test that failed half-way must not leave processes to the next.
    for folder in root.glob("*/attempts/*"):
        with contextlib.suppress(OSError, ValueError, AttributeError):  # a test may have garbled it
            found = json.loads((folder / "status.json").read_bytes())
            guard = supervisor.look_up(found.get("supervisor_pid", 0))
            if guard is not None and guard.start == found["supervisor_start"]:
                supervisor.send(guard, signal.SIGKILL)
        for process in supervisor.members(folder, root=-1):  # only those that bear its mark
            supervisor.send(process, signal.SIGKILL)
