"""Install one role into a virtual environment; run by ``setup_local_env.sh``, and on hosts by verl-lab itself.

What is known about the environment lies in its folder ``.verl-lab``:

``made``
    This script made the environment, so that it may also remove it.
``unfinished``
    An install has begun and not ended: what is there may be half of a package.
``stamp.json``
    What was installed last, written when everything else was done.
``lock``
    Held while an install is at work, also by a pip whose parent was killed.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import FrameType

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent
PYTHONS = ("3.10", "3.11", "3.12")
# Each role with those it contains, so that a smaller one asked for later changes nothing.
ROLES = {
    "base": ("base",),
    "manager": ("base", "manager"),
    "cpu": ("base", "manager", "cpu"),
    "test": ("base", "manager", "cpu", "test"),
    "training": ("base", "manager", "training"),
}

# What a role has in a folder of its own under ``apart/``, out of sight of everything that does not ask for it.
APART = {"test": ("trl",)}


class SetupError(Exception):
    """The environment could not be made; the message says why and what to do."""


def inputs(role: str, package: Path | None = None) -> str:
    """Hash all that decides what an install of ``role`` gives."""
    digest = hashlib.sha256()
    names = ("build.txt", f"{role}.txt", "version.json", "install_torch.py", package or "../pyproject.toml")
    for name in (*names, *(f"apart/{name}.txt" for name in APART.get(role, ()))):
        digest.update((HERE / name).read_bytes() + b"\0")
    return digest.hexdigest()


@dataclass
class Environment:
    """One virtual environment and what is known about it; verl-lab itself is ``package``, else this repository."""

    venv: Path
    package: Path | None = None

    @property
    def notes(self) -> Path:
        """The folder of what is known."""
        return self.venv / ".verl-lab"

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.venv / "bin" / "python"

    def contents(self) -> set[str]:
        """Name what is in the folder beside the notes; nothing if there is no folder yet."""
        return {path.name for path in self.venv.iterdir()} - {self.notes.name} if self.venv.exists() else set()

    def version(self) -> str | None:
        """Ask the interpreter for its version; None if it does not run."""
        code = "import sys, pip; print('.'.join(map(str, sys.version_info[:3])))"
        try:
            done = subprocess.run([self.python, "-c", code], capture_output=True, text=True, check=False)
        except OSError:
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    def stamp(self, role: str) -> dict[str, Any]:
        """Describe a finished install of ``role`` here and now."""
        where = {"venv": str(self.venv), "repository": str(self.package or ROOT)}
        return {"role": role, "python": self.version(), "inputs": inputs(role, self.package), **where}

    def finished(self) -> dict[str, Any]:
        """Return the stamp of the last install, empty if it did not end."""
        if (self.notes / "unfinished").exists():
            return {}
        try:
            return json.loads((self.notes / "stamp.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}

    def has(self, role: str) -> bool:
        """Whether ``role``, or one that contains it, is installed and nothing has changed since."""
        last = self.finished()
        return role in ROLES.get(last.get("role", ""), ()) and last == self.stamp(last["role"])

    def begin(self, role: str, *, other_python: bool) -> bool:
        """Leave an environment that can be installed into; True if it is a new one.

        Raises
        ------
        SetupError
            It cannot be used as it is, and is not ours to remove.
        """
        last, version, ours = self.finished(), self.version(), (self.notes / "made").exists()
        others = self.contents()
        problem = None
        if version is None:
            problem = "it has no working Python with pip"
        elif not version.startswith(tuple(f"{known}." for known in PYTHONS)):
            problem = f"its Python is {version}"
        elif other_python:
            problem = f"its Python is {version}, not the one PYTHON names"
        elif (self.notes / "unfinished").exists() or (ours and not last):
            problem = "an install into it was interrupted"
        elif last and last["venv"] != str(self.venv):
            problem = f"it was moved here from {last['venv']}"
        if others and problem and not ours:
            raise SetupError(
                f"{self.venv} cannot be used: {problem}. It was not made by this script, which therefore does not "
                "remove it. Move it away, or name another folder with --venv."
            )
        new = not others or problem is not None
        if new and others:
            say(f"{self.venv}: {problem}; making it anew")
        if new:
            # The notes stay while the rest goes: whose it is must be known at every moment.
            (self.notes / "made").touch()
            for name in others:
                path = self.venv / name
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        (self.notes / "unfinished").write_text(f"{role}\n")
        return new

    def end(self, role: str) -> None:
        """Write down that all of ``role`` is installed."""
        part = self.notes / "stamp.json.part"
        part.write_text(json.dumps(self.stamp(role), indent=2) + "\n")
        part.replace(self.notes / "stamp.json")
        (self.notes / "unfinished").unlink()


def say(text: str) -> None:
    """Tell the user, at once."""
    print(f"setup: {text}", flush=True)


def step(title: str, command: list[str | Path], log: IO[str], lock: int, *, show: str = "") -> None:
    """Run one command with its output in the log; lines that begin with ``show`` also go to the screen."""
    say(title)
    log.write(f"\n$ {' '.join(map(str, command))}\n")
    log.flush()
    began = Path(log.name).stat().st_size
    clean = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "PYTHONHOME", "PIP_TARGET", "PIP_USER")}
    # The lock goes along: a pip that outlives this process must still be waited for.
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, cwd=ROOT, env=clean, pass_fds=(lock,), check=False
    )
    output = Path(log.name).read_bytes()[began:].decode(errors="replace").strip().splitlines()
    if done.returncode:
        tail = "\n".join(f"    {line}" for line in output[-15:])
        raise SetupError(f"that failed (exit code {done.returncode}):\n{tail}")
    for line in output:
        if show and line.startswith(show):
            say(line)


def install(env: Environment, role: str, log: IO[str], lock: int, *, new: bool) -> None:
    """Do all steps of one install."""
    if new:
        title = f"making {env.venv} with Python {sys.version.split()[0]}"
        step(title, [sys.executable, "-m", "venv", env.venv], log, lock)
    # Compiled is what is imported, when it is: a fifth of it all, which would take as long as the rest of the install.
    # Where that may not be kept (PYTHONDONTWRITEBYTECODE), each process would do it again.
    later = [] if sys.dont_write_bytecode else ["--no-compile"]
    pip = [env.python, "-m", "pip", "install", *later, "--disable-pip-version-check", "--no-input"]
    locked = [*pip, "--no-deps", "--no-build-isolation", "--require-hashes", "-r"]
    step("installing pip and the build tools", [*locked, HERE / "build.txt"], log, lock)
    torch = json.loads((HERE / "version.json").read_text())["torch"]
    if role in torch and role != "training":
        text = f"installing torch {torch[role]}, the CPU build"
        step(text, [env.python, HERE / "install_torch.py", torch[role]], log, lock, show="torch: ")
    count = sum(1 for line in (HERE / f"{role}.txt").read_text().splitlines() if "==" in line)
    text = f"installing the packages of role {role} (about {count}, a few minutes)"
    step(text, [*locked, HERE / f"{role}.txt"], log, lock)
    for name in APART.get(role, ()):
        beside = ["--upgrade", "--target", env.venv / "apart" / name, "-r", HERE / "apart" / f"{name}.txt"]
        step(f"installing {name} apart", [*pip, "--no-deps", "--require-hashes", *beside], log, lock)
    if env.package is None:
        editable = [*pip, "--no-deps", "--no-build-isolation", "--editable", ROOT]
        step("installing verl-lab itself, editable", editable, log, lock)
    else:
        step("installing verl-lab itself", [*pip, "--no-deps", "--force-reinstall", env.package], log, lock)
    step("checking that the packages fit each other", [env.python, "-m", "pip", "check"], log, lock)


def verify(env: Environment, role: str, log: IO[str]) -> None:
    """Ask verify_env whether the environment does what it should."""
    say("checking that it works")
    command = [env.python, HERE / "verify_env.py", "--role", role, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    log.write(f"\n{done.stdout}{done.stderr}")
    try:
        wrong = [check for check in json.loads(done.stdout)["checks"] if not check["ok"]]
    except ValueError:
        raise SetupError(f"verify_env.py gave no answer: {done.stderr.strip()[-500:]}") from None
    lines = [f"{check['name']}: found {check['found']}, wanted {check['wanted']}" for check in wrong]
    # A cluster's login node has no GPU and is still where the environment is made.
    if [check for check in wrong if not check["name"].startswith("gpu")]:
        raise SetupError("the environment is not as it should be:\n" + "\n".join(f"    {line}" for line in lines))
    for line in lines:
        say(f"note: {line}")


def set_up(role: str, venv: Path, package: Path | None = None, log_file: Path | None = None) -> None:
    """Bring ``venv`` to hold ``role``."""
    env = Environment(venv, package)
    if venv.exists() and not (venv.is_dir() and (env.notes.exists() or not env.contents() or env.python.exists())):
        raise SetupError(f"{venv} is something else than an environment. Name another folder with --venv.")
    env.notes.mkdir(parents=True, exist_ok=True)
    with (env.notes / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"another install is at work in {venv}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        here, there = ".".join(map(str, sys.version_info[:3])), env.version()
        other_python = bool(os.environ.get("PYTHON")) and there is not None and there != here
        if not other_python and env.has(role):
            say(f"{venv} holds role {env.finished()['role']} already")
            return
        began = time.monotonic()
        path = log_file or ROOT / "build" / f"setup-{role}.log"
        path.parent.mkdir(exist_ok=True)
        if log_file is None:
            path.unlink(missing_ok=True)
        with path.open("a") as log:  # appending, as several processes write to it in turn
            try:
                new = env.begin(role, other_python=other_python)
                install(env, role, log, lock.fileno(), new=new)
                verify(env, role, log)
            except SetupError as error:
                raise SetupError(f"{error}\nThe whole log: {path}") from None
        env.end(role)
        say(f"{venv} holds role {role} now, after {time.monotonic() - began:.0f} s")


def end_on_signal(number: int, _frame: FrameType | None) -> None:
    """End as an exception does, so that a running pip is ended too."""
    sys.exit(128 + number)


def main() -> int:
    """Read the command line and install."""
    parser = argparse.ArgumentParser(prog="setup_local_env.sh", description="Make, complete or repair an environment.")
    parser.add_argument("role", choices=ROLES, help="what it is for")
    parser.add_argument("--venv", type=Path, default=ROOT / ".venv", help="its folder (default: %(default)s)")
    parser.add_argument("--package", type=Path, help="a wheel of verl-lab (default: this repository, editable)")
    parser.add_argument("--log", type=Path, help="a file to add to (default: build/setup-ROLE.log, written anew)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, end_on_signal)
    try:
        package = args.package.absolute() if args.package else None
        set_up(args.role, args.venv.absolute(), package, args.log.absolute() if args.log else None)
    except SetupError as error:
        print(f"setup: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\nsetup: interrupted; the next run repairs what is half done", file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
