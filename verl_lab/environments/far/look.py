"""Which environments a host has: whole, half made, or being made."""

from __future__ import annotations

import fcntl
import json
import os
import sys
from pathlib import Path
from typing import Any


def read(path: Path) -> Any:
    """Return what a file holds; None if there is none, or no JSON in it."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None


def is_held(path: Path) -> bool:
    """Whether a process holds the lock."""
    try:
        with path.open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def looked(folder: Path, role: str) -> dict[str, Any]:
    """Describe the environment of one role."""
    python = folder / role / "bin" / "python"
    notes = folder / ".setups"
    is_running = is_held(notes / f"{role}.lock")
    return {
        "record": read(notes / f"{role}.ready.json"),
        "is_half_made": (folder / role / ".verl-lab" / "unfinished").exists(),
        "python": str(python) if os.access(str(python), os.X_OK) else None,
        "running": (read(notes / f"{role}.current.json") or {}) if is_running else None,
    }


def main() -> None:
    """Answer for each role that was asked about."""
    folder, roles = Path(sys.argv[1]), sys.argv[2:]
    sys.stdout.write(json.dumps({role: looked(folder, role) for role in roles}) + "\n")


if __name__ == "__main__":
    main()
