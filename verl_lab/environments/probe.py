"""What one Python environment holds, as lines of JSON; run by the interpreter that is asked about.

It needs the standard library alone, and imports torch and verl only with ``--deep``. With
``--interpreter`` it tells of the interpreter alone. Each line is one finding, written as soon as it
is known: an import that takes the process down costs only the lines after it.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
import threading
from importlib import metadata
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

PLUGIN = "verl_lab.verl_plugin.entry"
# A GPU, or two that do not reach each other, can leave a call waiting for ever.
GPU_TIMEOUT_S = 60.0
GPU_ROWS = 1024


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


def base() -> dict[str, object]:
    """Return what decides which environments this interpreter can make, and which wheels fit it."""
    return {
        "executable": sys.executable,
        "makes_environments": all(importlib.util.find_spec(name) for name in ("venv", "ensurepip")),
        "libc": list(platform.libc_ver()),
        "macos": platform.mac_ver()[0],
        "pointer_bytes": ctypes.sizeof(ctypes.c_void_p),
    }


def sqlite() -> str | None:
    """Return the version of the SQLite that this interpreter was built with."""
    try:
        import sqlite3
    except ImportError:
        return None
    return sqlite3.sqlite_version


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


def driver() -> str | None:
    """Return the newest CUDA that the installed driver runs; None without a driver."""
    try:
        library = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return None
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        return None
    return f"{version.value // 1000}.{version.value % 1000 // 10}"


def devices() -> list[dict[str, object]]:
    """Return each GPU's memory in bytes, and why it does not compute if it does not."""
    module = importlib.import_module("torch")
    return [device(module, index) for index in range(module.cuda.device_count())]


def device(torch_: Any, index: int) -> dict[str, object]:
    """Multiply two matrices of ones on one GPU."""
    found: dict[str, object] = {"error": None}
    try:
        found["free_bytes"], found["total_bytes"] = torch_.cuda.mem_get_info(index)
        ones = torch_.ones(GPU_ROWS, GPU_ROWS, device=f"cuda:{index}", dtype=torch_.bfloat16)
        if (ones @ ones)[0, 0].item() != GPU_ROWS:
            found["error"] = "it computes wrongly"
    except RuntimeError as error:
        found["error"] = str(error).splitlines()[0]
    return found


def nccl() -> dict[str, object]:
    """Sum over all GPUs of this machine by NCCL."""
    module = importlib.import_module("torch")
    count = module.cuda.device_count()
    numbers = [module.ones(GPU_ROWS, device=f"cuda:{index}") for index in range(count)]
    module.cuda.nccl.all_reduce(numbers)
    sums = [number[0].item() for number in numbers]
    version = ".".join(map(str, module.cuda.nccl.version()))
    return {"version": version, "gpus": count, "error": None if sums == [count] * count else f"the sums are {sums}"}


def tell(look: Callable[[], object]) -> bool:
    """Write what a look found, or why it found nothing; False for the latter."""
    try:
        say(look.__name__, look())
    except Exception as error:  # noqa: BLE001 - a broken library may raise anything when imported
        say(look.__name__, {"error": f"{type(error).__name__}: {error}".splitlines()[0]})
        return False
    return True


def main() -> None:
    """Write all findings."""
    say("python", platform.python_version())
    say("markers", marker_variables())
    say("base", base())
    if "--interpreter" in sys.argv:
        return
    say("distributions", distributions())
    say("sqlite", sqlite())
    say("driver", driver())
    say("gpus", gpus())
    if "--deep" not in sys.argv:
        return
    has_torch = tell(torch)
    tell(verl)
    if not has_torch or not importlib.import_module("torch").cuda.is_available():
        return
    for look in (devices, nccl):
        trying = threading.Thread(target=tell, args=(look,), daemon=True)
        trying.start()
        trying.join(GPU_TIMEOUT_S)
        if trying.is_alive():
            say(look.__name__, {"error": f"no answer in {GPU_TIMEOUT_S:.0f} s"})
            os._exit(1)  # no way leads out of a call that waits for a GPU


if __name__ == "__main__":
    main()
