"""Commands on the host: argument lists, never a shell."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from typing import Any

_running: set[subprocess.Popen[bytes]] = set()
_starting = threading.Lock()
_is_over = False


def run(argv: list[str], env: dict[str, str] | None, timeout_s: float) -> tuple[dict[str, Any], bytes]:
    """Run a command to its end; what it wrote comes as one body, standard output first."""
    with _starting:
        if _is_over:
            raise OSError("the connection has ended")
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env={**os.environ, **env} if env else None,
            start_new_session=True,
        )
        _running.add(process)
    try:
        stdout, stderr = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        _kill(process)
        process.communicate()
        return {"timed_out": True}, b""
    finally:
        _running.discard(process)
    return {"exit_code": process.returncode, "stdout_bytes": len(stdout)}, stdout + stderr


def start_detached(argv: list[str], cwd: str, log: str) -> int:
    """Start a command that outlives this program; return its pid."""
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        process = subprocess.Popen(
            argv, stdin=subprocess.DEVNULL, stdout=descriptor, stderr=descriptor, cwd=cwd, start_new_session=True
        )
    finally:
        os.close(descriptor)
    # As long as this program lives, it is the parent: an ended child must not stay as a zombie.
    threading.Thread(target=process.wait, daemon=True).start()
    return process.pid


def kill_running() -> None:
    """End the commands whose end nobody waits for any more."""
    global _is_over  # noqa: PLW0603  one program, one end
    with _starting:
        _is_over = True
        for process in list(_running):
            _kill(process)


def _kill(process: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(process.pid, signal.SIGKILL)  # its leader has not been waited for, so the number is still its own
    except OSError:
        process.kill()
