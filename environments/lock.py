"""Resolve ``environments/*.in`` into the pinned, hash-checked ``*.txt`` files (``make lock``).

Pins that are still possible are kept; ``--upgrade`` takes the newest of everything. Each smaller
role is resolved with the pins of the larger one, so that installing the one after the other
changes nothing.

What lies apart from a role, in ``apart/``, is pinned alone: what it needs is in the role.

torch of the roles without a GPU has an install step of its own, because its CPU and CUDA builds
are different files with different hashes. It takes part in the resolution, so that everything
fits it, and is then left out, together with what only its CUDA build needs.
"""

from __future__ import annotations

import argparse
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
POSIX = "python_full_version < '3.13' and (sys_platform == 'linux' or sys_platform == 'darwin')"
GPU_HOST = "python_full_version < '3.13' and sys_platform == 'linux' and platform_machine == 'x86_64'"
# Largest first: (name, where the lock must hold, whose pins to start from, without torch).
LOCKS = (
    ("test", POSIX, "test", True),
    ("cpu", POSIX, "test", True),
    ("manager", POSIX, "test", False),
    ("base", POSIX, "test", False),
    ("build", POSIX, "test", False),
    ("training", GPU_HOST, "training", False),
)
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?==(?P<version>[^ ;\\]+)( ; (?P<marker>[^\\]+?))?( \\)?$")
PARENT = re.compile(r"^ +#( via)? +(?!via$)(?P<name>[A-Za-z0-9._-]+)(\[[^]]*\])?$")


def cuda_only(annotated: str) -> set[str]:
    """Name torch and what only its CUDA build needs.

    Parameters
    ----------
    annotated
        A universal lock by uv with torch in it and its ``# via`` annotations.

    Returns
    -------
    set of str
        torch; what it asks for on Linux alone, which is how its wheel names the CUDA packages; and
        what is needed by nothing but those.
    """
    parents: dict[str, set[str]] = {}
    on_linux_alone: set[str] = set()
    name = ""
    for line in annotated.splitlines():
        if pin := PIN.match(line):
            name = pin["name"]
            parents.setdefault(name, set())
            if "'linux'" in (pin["marker"] or "") and "'darwin'" not in pin["marker"]:
                on_linux_alone.add(name)
        elif parent := PARENT.match(line):
            parents[name].add(parent["name"])
        elif line.startswith(" ") and "-r " in line:
            parents[name].add("-r")
    if "torch" not in parents:
        return set()
    roots = {name for name in on_linux_alone if parents[name] == {"torch"}}
    cuda = set(roots)
    while more := {name for name, needed_by in parents.items() if needed_by & cuda} - cuda:
        cuda |= more
    while shared := {name for name in cuda - roots if parents[name] - cuda}:
        cuda -= shared
    return {"torch", *cuda}


def compile_lock(folder: Path, role: str, where: str, options: list[str]) -> str:
    """Resolve one role, or what lies apart from it, in a scratch copy of this folder and return the lock's text."""
    (folder / "pyproject.toml").write_text(f'[tool.uv]\nenvironments = ["{where}"]\n')
    command = ["uv", "pip", "compile", "--quiet", "--universal", "--python-version", "3.10", *options]
    command += ["--custom-compile-command", "make lock", "--output-file", f"{role}.txt", f"{role}.in"]
    subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return (folder / f"{role}.txt").read_text()


def main() -> None:
    """Write every lock anew."""
    parser = argparse.ArgumentParser(description="Resolve environments/*.in into pinned, hash-checked files.")
    parser.add_argument("--upgrade", action="store_true", help="take the newest versions instead of keeping pins")
    upgrade: bool = parser.parse_args().upgrade
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        for path in HERE.glob("*.in"):
            shutil.copy(path, folder)
        shutil.copytree(HERE / "apart", folder / "apart")
        pins: dict[str, str] = {}
        for role, where, start, without_torch in LOCKS:
            lock = HERE / f"{role}.txt"
            old = HERE / f"{start}.txt"
            seed = pins.get(start) or (old.read_text() if old.exists() and not upgrade else "")
            (folder / lock.name).write_text(seed)
            full = compile_lock(folder, role, where, [])
            pins.setdefault(start, full)
            left_out = sorted(cuda_only(full)) if without_torch else []
            options = ["--generate-hashes", *(f"--no-emit-package={name}" for name in left_out)]
            lock.write_text(compile_lock(folder, role, where, options))
            print(f"{lock.name}" + (f", without {' '.join(left_out)}" if left_out else ""))
        for path in sorted((HERE / "apart").glob("*.in")):
            if upgrade:
                (folder / "apart" / f"{path.stem}.txt").unlink(missing_ok=True)
            options = ["--generate-hashes", "--no-deps"]
            path.with_suffix(".txt").write_text(compile_lock(folder, f"apart/{path.stem}", POSIX, options))
            print(f"apart/{path.stem}.txt")


if __name__ == "__main__":
    main()
