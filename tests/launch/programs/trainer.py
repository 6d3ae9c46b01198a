"""Stands for verl: writes what verl's side writes, and behaves as it is told.

``trainer.py [steps=N] [total=N] [step_s=S] [exit=CODE] [deaf] [crash] [hold] [quiet] [phase=TEXT] [stray=FILE]``
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from verl_lab.domain.wire import AttemptLayout, EventRecord, encode_event

OPTIONS = {word.partition("=")[0]: word.partition("=")[2] for word in sys.argv[1:]}
ATTEMPT = AttemptLayout(Path(os.environ["VERL_LAB_ATTEMPT_DIR"]))

# Leaves its parent, its session and its group, as Ray's daemons do, and can lose its mark as well.
STRAY = """
import os, signal, sys, time
if os.fork(): os._exit(0)
os.setsid()
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
time.sleep(600)
"""

seq = 0


def tell(kind: str, **data: object) -> None:
    global seq  # noqa: PLW0603  the program is one function's worth of state
    if "quiet" in OPTIONS:
        return
    with ATTEMPT.events.open("ab", buffering=0) as file:
        file.write(encode_event(EventRecord(seq, time.time(), kind, source="trainer", data=data)))
    seq += 1


def progress(phase: str, step: int, total: int) -> None:
    written = ATTEMPT.progress.with_suffix(".tmp")
    written.write_text(json.dumps({"phase": phase, "step": step, "total": total, "time": time.time()}))
    written.replace(ATTEMPT.progress)


def main() -> int:
    steps = int(OPTIONS.get("steps", 3))
    total = int(OPTIONS.get("total", steps))
    step_s = float(OPTIONS.get("step_s", 0.01))
    if "deaf" in OPTIONS:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if begun := OPTIONS.get("begun"):
        with Path(begun).open("a", encoding="utf-8") as file:
            file.write(f"{os.getpid()}\n")
    if stray := OPTIONS.get("stray"):
        subprocess.run([sys.executable, "-c", STRAY, stray], check=True)
        subprocess.run([sys.executable, "-c", STRAY, stray], env={}, check=True)
    tell("plugin_loaded")
    progress(OPTIONS.get("phase", "training"), 0, total)
    if "crash" in OPTIONS:
        tell("exception", error="OutOfMemoryError: no room for 7 tokens", traceback="…")
        raise ValueError("the reward is not a number")
    for step in range(1, steps + 1):
        time.sleep(step_s)
        print("step", step)
        progress(OPTIONS.get("phase", "training"), step, total)
        if "deaf" not in OPTIONS and ATTEMPT.stop_request.exists():
            tell("checkpoint_saved", path=f"global_step_{step}")
            tell("train_end", state="stopped", step=step)
            return 0
    if "early" not in OPTIONS and not OPTIONS.get("exit"):
        tell("train_end", state="completed", step=steps)
    return int(OPTIONS.get("exit", 0))


if __name__ == "__main__":
    sys.exit(main())
