"""What one Python environment holds, as lines of JSON; run by the interpreter that is asked about.

It needs the standard library alone, and imports torch and verl only with ``--deep``. Each line is
one finding, written as soon as it is known: an import that takes the process down costs only the
lines after it.
"""

from __future__ import annotations

import importlib
import json
import os
import platform
import shutil
import sqlite3
import subprocess
import sys
from importlib import metadata

PLUGIN = "verl_lab.verl_plugin.entry"


def say(name: str, finding: object) -> None:
    """Write one finding."""
    sys.stdout.write(json.dumps({"name": name, "finding": finding}) + "\n")
    sys.stdout.flush()


def marker_variables() -> dict[str, str]:
    """Return the variables that a requirement's marker may name."""
    version = platform.python_version()
    return {
        "implementation_name": sys.implementation.name,
        "implementation_version": version,
        "os_name": os.name,
        "platform_machine": platform.machine(),
        "platform_python_implementation": platform.python_implementation(),
        "platform_release": platform.release(),
        "platform_system": platform.system(),
        "platform_version": platform.version(),
        "python_full_version": version,
        "python_version": ".".join(version.split(".")[:2]),
        "sys_platform": sys.platform,
        "extra": "",
    }


def distributions() -> list[tuple[str, str]]:
    """Return name and version of each installed distribution, in the order of the path."""
    named = ((str(found.metadata["Name"] or ""), found) for found in metadata.distributions())
    # What an interrupted installation leaves has no name.
    return [(name, found.version) for name, found in named if name]


def gpus() -> list[str]:
    """Return one line for each NVIDIA GPU: name, memory, driver."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=name,memory.total,driver_version", "--format=csv,noheader"]
    done = subprocess.run(query, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []


def torch() -> dict[str, object]:
    """Import torch and say what it was built for and what it sees."""
    module = importlib.import_module("torch")
    return {
        "version": str(module.__version__),
        "cuda": module.version.cuda,
        "devices": module.cuda.device_count() if module.cuda.is_available() else 0,
    }


def verl() -> dict[str, object]:
    """Import verl and see whether that loaded our plugin."""
    module = importlib.import_module("verl")
    return {"version": str(module.__version__), "plugin": PLUGIN in sys.modules}


def main() -> None:
    """Write all findings."""
    say("python", platform.python_version())
    say("markers", marker_variables())
    say("distributions", distributions())
    say("sqlite", sqlite3.sqlite_version)
    say("gpus", gpus())
    if "--deep" in sys.argv:
        for look in (torch, verl):
            try:
                say(look.__name__, look())
            except Exception as error:  # noqa: BLE001 - a broken library may raise anything when imported
                say(look.__name__, {"error": f"{type(error).__name__}: {error}".splitlines()[0]})


if __name__ == "__main__":
    main()
