"""What a benchmark prints, and how it measures several things in turns."""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Row(NamedTuple):
    """One line of the table; ``ok`` is None where there is no bar."""

    what: str
    measured: str
    bar: str = ""
    ok: bool | None = None


def show(rows: Sequence[Row], *, as_json: bool) -> None:
    """Print the rows as a table, or as JSON with the day and the machine."""
    if as_json:
        about = {"date": time.strftime("%Y-%m-%d"), "cores": os.cpu_count(), "python": platform.python_version()}
        print(json.dumps({**about, "rows": [row._asdict() for row in rows]}, indent=1))
        return
    for row in rows:
        verdict = {True: "ok", False: "MISSED", None: ""}[row.ok]
        print(f"{row.what:<52} {row.measured:>40}   {row.bar:<34} {verdict}")


def interleaved(tasks: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median time of each task in seconds, run in turns: machines are shared and noisy."""
    taken: list[list[float]] = [[] for _ in tasks]
    for _ in range(rounds):
        for task, times in zip(tasks, taken, strict=True):
            start = time.perf_counter()
            task()
            times.append(time.perf_counter() - start)
    return [statistics.median(times) for times in taken]
