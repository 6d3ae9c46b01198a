"""Runs that go on while something else is measured, among many that are over."""

from __future__ import annotations

import json
import threading
import time
from typing import TYPE_CHECKING

from parts.runs import NAMES, write_attempt, write_run

from verl_lab.domain.wire import EventRecord, Header, RunLayout, encode_event, encode_header, encode_metrics

if TYPE_CHECKING:
    from pathlib import Path

    from typing_extensions import Self

LIVE = 20
RECIPES = ("grpo-small", "grpo-large", "ppo-critic", "sft-chat", "dpo-pairs")
TOTAL = 100_000
KNOWN = ("critic/score/mean", "actor/pg_loss", "actor/grad_norm", "actor/entropy", "response_length/mean")


class Ticking:
    """A run that logs a step again and again, in a thread, while it is entered."""

    def __init__(self, home: Path, run: str, name: str, *, seconds_a_step: float, steps: int = 30) -> None:
        self.id, self.name, self.step = run, name, 0
        self._pause = seconds_a_step
        folder = home / "runs" / run
        self._metrics = write_attempt(folder, 1)
        layout = RunLayout(folder)
        begun = EventRecord(0, time.time(), "train_begin", 0, "trainer", {"total_steps": TOTAL, "resumed_from": 0})
        events = encode_header(Header(run, 1, 1, 1, "boot")) + encode_event(begun)
        layout.attempt(1).events.write_bytes(events)
        layout.config.write_text("{}\n")
        record = {"version": 1, "run": run, "name": name, "created": time.time(), "overrides": []}
        record |= {"recipe": {"name": RECIPES[hash_of(run) % len(RECIPES)], "algorithm": "grpo"}, "algorithm": "grpo"}
        layout.record.write_text(json.dumps({**record, "launch": {"argv": [], "env": {}, "cwd": "/"}}))
        self._status = layout.attempt(1).status
        self.say()
        for _ in range(steps):
            self.log()
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)

    def log(self) -> None:
        """Log one step."""
        self.step += 1
        phase = hash_of(self.id) % 7
        data = {name: 0.5 + ((self.step * 7 + place + phase) % 13) / 26 for place, name in enumerate(KNOWN)}
        data |= {name: float((self.step + place) % 11) for place, name in enumerate(NAMES[:15])}
        with self._metrics.open("ab") as file:
            file.write(encode_metrics(self.step, self.step, time.time(), {**data, "training/global_step": self.step}))

    def say(self) -> None:
        """Say that it runs; its supervisor beats for hours."""
        status = {"version": 1, "run": self.id, "attempt": 1, "state": "running", "step": self.step, "total": TOTAL}
        status |= {"phase": "training", "started": time.time() - 60, "updated": time.time() + 36_000}
        part = self._status.with_suffix(".part")
        part.write_text(json.dumps(status))
        part.replace(self._status)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _go_on(self) -> None:
        while not self._over.wait(self._pause):
            self.log()


class Crowd:
    """Many runs in a lab, 20 of which go on while this is entered."""

    def __init__(self, home: Path, count: int) -> None:
        self.ids = [f"20250101-{place:06d}-crowd-0000" for place in range(count - LIVE)]
        for place, run in enumerate(self.ids):
            write_run(home / "runs" / run, 5)
            recipe = {"name": RECIPES[place % len(RECIPES)], "algorithm": "grpo"}
            record = {"version": 1, "run": run, "name": f"{recipe['name']} {place}", "created": 1.7e9 + place}
            record |= {"recipe": recipe, "algorithm": "grpo", "overrides": []}
            RunLayout(home / "runs" / run).record.write_text(json.dumps(record))
        self.live = [
            Ticking(home, f"20260101-{place:06d}-live-0000", f"live {place}", seconds_a_step=1 + place / LIVE)
            for place in range(LIVE)
        ]
        self.ids += [run.id for run in self.live]

    def __enter__(self) -> Self:
        for run in self.live:
            run.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        for run in self.live:
            run.__exit__()


def hash_of(text: str) -> int:
    """Return a number that is the same in each process."""
    return sum(text.encode())
