"""Which run and attempt this process trains for, from its environment."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from verl_lab.domain.wire import AttemptLayout, Header

FOLDER_VARIABLE = "VERL_LAB_ATTEMPT_DIR"
RUN_VARIABLE = "VERL_LAB_RUN_ID"
NUMBER_VARIABLE = "VERL_LAB_ATTEMPT"
CALLBACKS_VARIABLE = "VERL_LAB_CALLBACKS"


@dataclass(frozen=True)
class Attempt:
    """The attempt whose folder this process writes to."""

    layout: AttemptLayout[Path]
    run: str
    number: int

    @classmethod
    def from_environment(cls) -> Attempt | None:
        """Return the attempt named by the environment; None in a process that is no verl-lab run."""
        folder = os.environ.get(FOLDER_VARIABLE)
        if not folder:
            return None
        path = Path(folder)
        number = os.environ.get(NUMBER_VARIABLE, path.name)
        return cls(
            layout=AttemptLayout(path),
            run=os.environ.get(RUN_VARIABLE, ""),
            number=int(number) if number.isdigit() else 1,
        )

    def header(self) -> Header:
        """Return the first line of a file that this process begins."""
        return Header(
            run=self.run,
            attempt=self.number,
            pid=os.getpid(),
            process_start=_process_start(),
            boot_id=Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip(),
        )


def _process_start() -> int:
    """Return when this process began, in clock ticks since boot (``/proc/self/stat``, field 22)."""
    stat = Path("/proc/self/stat").read_bytes()
    # The command's name, field 2, may hold spaces and parentheses: count from its closing one.
    return int(stat[stat.rindex(b")") + 2 :].split()[19])
