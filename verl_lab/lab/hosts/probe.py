"""What a host has and does now, as one line of JSON: GPUs, memory, load, disk, and the live runs of a lab.

::

    python probe.py ROOT RUNS [--write]

It is run on the host, near or far, by whatever Python 3.8 or later is there, with the standard library alone.
What cannot be measured is null, and ``missing`` says why.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from typing import Any

    Found = dict[str, Any]

LIVE = ("created", "starting", "running", "stopping")
# Where it is although a login without a terminal does not look there.
SMI_PLACES = ("/usr/bin", "/usr/local/bin", "/usr/local/nvidia/bin", "/opt/bin", "/usr/lib/wsl/lib")
SMI_S = 15.0
# nvidia-smi's field, ours, and how many of ours one of its units is.
GPU_FIELDS = (
    ("memory.used", "memory_used_bytes", 2**20),
    ("memory.total", "memory_total_bytes", 2**20),
    ("utilization.gpu", "use_percent", 1),
    ("temperature.gpu", "temperature_c", 1),
    ("power.draw", "power_w", 1),
)


class UnmeasuredError(Exception):
    """Something cannot be measured here; the message says why."""


def gpus() -> list[Found]:
    """Return the NVIDIA GPUs in nvidia-smi's order; none where no such device is."""
    program = shutil.which("nvidia-smi") or shutil.which("nvidia-smi", path=os.pathsep.join(SMI_PLACES))
    if program is None:
        if not Path("/proc/driver/nvidia").exists() and not list(Path("/dev").glob("nvidia[0-9]*")):
            return []
        raise UnmeasuredError("there is an NVIDIA device, but no nvidia-smi")
    query = ",".join(["index", "name", *(field for field, _, _ in GPU_FIELDS)])
    argv = [program, "--query-gpu=" + query, "--format=csv,noheader,nounits"]
    try:
        done = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=SMI_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise UnmeasuredError(f"nvidia-smi did not answer within {SMI_S:g} s") from None
    said = done.stdout.decode(errors="replace")
    if done.returncode:
        words = " ".join(said.split())[:300]
        raise UnmeasuredError(f"nvidia-smi failed with exit code {done.returncode}: {words or 'it said nothing'}")
    return [gpu(line) for line in said.splitlines() if line.strip()]


def gpu(line: str) -> Found:
    """Return what a line of nvidia-smi says of one GPU."""
    parts = [part.strip() for part in line.split(",")]
    if len(parts) != 2 + len(GPU_FIELDS) or not parts[0].isdigit():
        raise UnmeasuredError(f"nvidia-smi answered {line[:200]!r}")
    found: Found = {"index": int(parts[0]), "name": parts[1], "missing": {}}
    for value, (_, ours, scale) in zip(parts[2:], GPU_FIELDS):  # noqa: B905  an older Python knows no strict
        try:
            found[ours] = float(value) * scale
        except ValueError:
            found[ours] = None
            found["missing"][ours] = f"nvidia-smi says {value or 'nothing'}"
    return found


def memory() -> Found:
    """Return the bytes of memory there are, and those a new process could have."""
    said: dict[str, int] = {}
    for line in Path("/proc/meminfo").read_text().splitlines():
        name, _, value = line.partition(":")
        if name in ("MemTotal", "MemAvailable"):
            said[name] = int(value.split()[0]) * 1024
    return {"total_bytes": said["MemTotal"], "available_bytes": said["MemAvailable"]}


def load() -> float:
    """Return how many processes ran or waited to, as a mean over the last minute."""
    return os.getloadavg()[0]


def cores() -> int:
    """Return how many processors this user's processes may use."""
    return len(os.sched_getaffinity(0))


def disk(root: Path, *, tries_to_write: bool) -> Found:
    """Return the bytes of the file system that ``root`` is on or would be made on, and why nothing can be written."""
    place = root
    while not place.exists():
        place = place.parent
    found = os.statvfs(str(place))
    refusal: str | None = None
    if tries_to_write:
        try:
            with tempfile.TemporaryFile(dir=str(place)) as file:
                file.write(b"x" * 4096)
        except OSError as error:
            refusal = f"{error.strerror} ({place})"
    free, total = found.f_bavail * found.f_frsize, found.f_blocks * found.f_frsize
    return {"free_bytes": free, "total_bytes": total, "refusal": refusal}


def live_runs(folder: Path) -> list[Found]:
    """Return the runs in a folder whose supervisor or training is alive, by their ids."""
    if not folder.exists():
        return []
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    found: list[Found] = []
    for run in sorted(folder.iterdir()):
        status = newest_status(run)
        if status.get("state") in LIVE and (lives(status, "", boot) or lives(status, "supervisor_", boot)):
            found.append({name: status.get(name) for name in ("run", "state", "step", "total", "phase")})
    return found


def newest_status(run: Path) -> Found:
    """Return the status of a run's newest attempt; nothing if it has none, or what is there is none."""
    try:
        attempts = [path for path in (run / "attempts").iterdir() if path.name.isdecimal()]
    except OSError:
        return {}
    for attempt in sorted(attempts, key=lambda path: int(path.name), reverse=True):
        try:
            status: Any = json.loads((attempt / "status.json").read_text())
        except (OSError, ValueError):
            continue
        return cast("Found", status) if isinstance(status, dict) else {}
    return {}


def lives(status: Found, whose: str, boot: str) -> bool:
    """Say whether the process that a status names is alive, and not a later one with its pid."""
    pid = status.get(whose + "pid")
    start = status.get("supervisor_start" if whose else "process_start")
    if not isinstance(pid, int) or status.get("boot_id") != boot:
        return False
    try:
        content = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    # The command's name may hold spaces and parentheses: the fields begin after the last one.
    fields = content[content.rindex(b")") + 2 :].split()
    return int(fields[19]) == start and fields[0] not in (b"Z", b"X")


def main() -> None:
    """Write everything."""
    root, runs = Path(sys.argv[1]), Path(sys.argv[2])
    looks = {
        "gpus": gpus,
        "memory": memory,
        "load": load,
        "cores": cores,
        "disk": lambda: disk(root, tries_to_write="--write" in sys.argv),
        "runs": lambda: live_runs(runs),
    }
    found: Found = {"missing": {}}
    for name, look in looks.items():
        try:
            found[name] = look()
        except (UnmeasuredError, OSError, ValueError, KeyError, AttributeError) as error:
            found[name] = None
            why = error.strerror if isinstance(error, OSError) else None
            found["missing"][name] = why or str(error) or type(error).__name__
    sys.stdout.write(json.dumps(found) + "\n")


if __name__ == "__main__":
    main()
