"""What a host has to make an environment with: a Python, a folder, room, GPUs."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

OLDEST, NEWEST = (3, 10), (3, 12)
NAMES = ("python3.12", "python3.11", "python3.10", "python3", "python")
# What a login without a terminal often has not on its PATH.
FURTHER_PATH = ("/usr/local/bin", "/usr/bin", "~/.local/bin")
FURTHER_PYTHONS = (
    ("~", ".pyenv/versions/3.1[0-2]*/bin/python"),
    ("~", ".local/share/uv/python/cpython-3.1[0-2]*/bin/python3"),
    ("~", "*conda*/bin/python"),
    ("~", "*forge*/bin/python"),
    ("/opt", "*conda*/bin/python"),
    ("/opt", "*forge*/bin/python"),
    ("/opt", "python*/bin/python3"),
)
PATIENCE_S = 20


def pythons(given: str | None) -> list[str]:
    """Return the interpreters there may be, those that are named for their version first."""
    if given:
        return [str(Path(given).expanduser())]
    further = [str(Path(folder).expanduser()) for folder in FURTHER_PATH]
    path = os.pathsep.join([os.environ.get("PATH", ""), *further])
    found = [shutil.which(name, path=path) for name in NAMES]
    for folder, pattern in FURTHER_PYTHONS:
        found.extend(sorted(map(str, Path(folder).expanduser().glob(pattern)), reverse=True))
    return list(dict.fromkeys(one for one in found if one))


def asked(python: str, probe: str) -> dict[str, Any]:
    """Return what an interpreter says of itself; ``error`` if it says nothing."""
    try:
        done = subprocess.run(
            [python, "-I", "-c", probe, "--interpreter"],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=PATIENCE_S,
            check=False,
        )
        lines = [line for line in done.stdout.decode(errors="replace").splitlines() if line.startswith('{"name": ')]
        found = {one["name"]: one["finding"] for one in map(json.loads, lines)}
    except (OSError, ValueError, subprocess.TimeoutExpired) as error:
        return {"path": python, "error": getattr(error, "strerror", None) or type(error).__name__}
    if "base" not in found:
        return {
            "path": python,
            "error": (done.stderr.decode(errors="replace").strip().splitlines() or ["it fails"])[-1],
        }
    return {"path": python, "error": None, **found}


def is_right(found: dict[str, Any]) -> bool:
    """Whether an environment can be made with this interpreter."""
    if found["error"] is not None:
        return False
    version = tuple(int(part) for part in found["python"].split(".")[:2])
    return OLDEST <= version <= NEWEST and found["base"]["makes_environments"]


def candidates(given: str | None, probe: str) -> list[dict[str, Any]]:
    """Ask one interpreter after the other until one will do; that one is the last."""
    found: list[dict[str, Any]] = []
    for python in pythons(given):
        found.append(asked(python, probe))
        if is_right(found[-1]):
            break
    return found


def place(root: Path) -> dict[str, Any]:
    """Make the folder, write to it, and say how much room there is."""
    error = None
    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=root) as file:
            file.write(b"x" * 4096)
            file.flush()
    except OSError as caught:
        error = caught.strerror
    above = next(one for one in (root, *root.parents) if one.is_dir())
    return {"error": error, "free_bytes": shutil.disk_usage(str(above)).free}


def gpus() -> list[str]:
    """Return one line for each NVIDIA GPU."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(query, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=PATIENCE_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return []
    return done.stdout.decode(errors="replace").splitlines() if done.returncode == 0 else []


def main() -> None:
    """Answer."""
    said = json.loads(sys.argv[1])
    found = {
        "candidates": candidates(said["python"], said["probe"]),
        "place": place(Path(said["root"])),
        "gpus": gpus(),
        "system": platform.system(),
        "machine": platform.machine(),
    }
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
