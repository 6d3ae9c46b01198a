"""Installs one role on a host, on its own: it goes on when the connection is gone, and another can be come back to.

It lies in ``<root>/environments/.kits/<hash>/``, beside the setup scripts and locks (``environments/``) and
verl-lab's wheel. What is known about the set-ups of a role lies in ``<root>/environments/.setups/``:

``ROLE.lock``
    Held from the beginning to the end, also by what this program started.
``ROLE.current.json``
    The log of the set-up that holds the lock, and which kit it installs.
``ROLE.ready.json``
    What is installed: there only when all of it is. Launching reads this.
``ROLE-….log``, ``ROLE-….log.end``
    What a set-up said, and its exit code.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any

HERE = Path(__file__).resolve().parent
KEPT_LOGS = 5
# Another one that begins looks at the lock for a moment, which is no reason to say anything.
MOMENT_S = 1.0
KIT_AGE_S = 24 * 3600


def say(text: str) -> None:
    """Write to the log, at once."""
    sys.stdout.write(f"setup: {text}\n")
    sys.stdout.flush()


def write(path: Path, content: dict[str, Any]) -> None:
    """Write a file so that it is there as a whole or not at all."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    part.write_text(json.dumps(content))
    part.replace(path)


def take(lock: IO[str]) -> bool:
    """Wait until nobody else installs this role; True if somebody did."""
    until = time.monotonic() + MOMENT_S
    while time.monotonic() < until:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
        else:
            return False
    say("another set-up of this role is at work; waiting for it")
    fcntl.flock(lock, fcntl.LOCK_EX)
    return True


def environment(said: dict[str, Any], scratch: Path) -> dict[str, str]:
    """Return the environment of pip: the host's own, with packages from a folder where there is no index."""
    scratch.mkdir(parents=True, exist_ok=True)
    # /tmp is often too small for what is unpacked on the way.
    found = {**os.environ, "PYTHON": sys.executable, "TMPDIR": str(scratch), "PYTHONUNBUFFERED": "1"}
    if said["offline"]:
        # pip splits this variable at spaces, which the whole path may have: it is relative to the kit, where pip runs.
        found.update(PIP_NO_INDEX="1", PIP_FIND_LINKS=f"../../.wheels/{said['role']}", PIP_CONFIG_FILE=os.devnull)
    return found


def installed(ready: Path) -> str | None:
    """Return the kit that was installed last; None where none was, or not all of it."""
    try:
        return json.loads(ready.read_text())["kit"]
    except (OSError, ValueError):
        return None


def install(said: dict[str, Any], folder: Path, lock: IO[str]) -> int:
    """Run the installation that also runs on the user's own machine."""
    (package,) = HERE.glob("*.whl")
    venv, role = folder / said["role"], said["role"]
    if said["anew"] and (venv / ".verl-lab" / "made").exists():
        (venv / ".verl-lab" / "unfinished").write_text(f"{role}\n")
    scratch = folder / ".setups" / f"{role}.tmp"
    options = ["--venv", venv, "--package", package, "--log", said["log"]]
    try:
        done = subprocess.run(
            [sys.executable, HERE / "environments" / "install.py", role, *options],
            stdin=subprocess.DEVNULL,
            env=environment(said, scratch),
            pass_fds=(lock.fileno(),),  # what outlives this process must still be waited for
            check=False,
        )
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    return done.returncode


def tidy(said: dict[str, Any], notes: Path) -> None:
    """Remove the logs of long ago, and kits that nothing was installed from."""
    logs = sorted(notes.glob(f"{said['role']}-*.log"), key=lambda path: path.stat().st_mtime)
    for log in logs[:-KEPT_LOGS]:
        log.unlink()
        log.with_name(f"{log.name}.end").unlink(missing_ok=True)
    used = {HERE.name} | {json.loads(path.read_text())["kit"] for path in notes.glob("*.ready.json")}
    for kit in HERE.parent.iterdir():
        if kit.name not in used and time.time() - kit.stat().st_mtime > KIT_AGE_S:
            kit.unlink() if kit.is_file() else shutil.rmtree(kit, ignore_errors=True)


def main() -> int:
    """Install, and write down how it ended."""
    said = json.loads(sys.argv[1])
    folder = HERE.parents[1]
    notes = folder / ".setups"
    ready = notes / f"{said['role']}.ready.json"
    code = 1
    with (notes / f"{said['role']}.lock").open("a") as lock:
        has_waited = take(lock)
        write(notes / f"{said['role']}.current.json", {"log": said["log"], "kit": HERE.name, "pid": os.getpid()})
        try:
            if has_waited and installed(ready) == HERE.name:
                say("it has installed the same")
                code = 0
            else:
                # From the first change to the last, there is nothing to launch with.
                ready.unlink(missing_ok=True)
                code = install(said, folder, lock)
            if code == 0:
                write(ready, {**said["record"], "kit": HERE.name, "made_with": sys.executable})
                tidy(said, notes)
        except OSError as error:
            say(f"{error.filename or 'it'}: {error.strerror}")
            code = 1
        finally:
            write(Path(f"{said['log']}.end"), {"exit_code": code})
    return code


if __name__ == "__main__":
    sys.exit(main())
