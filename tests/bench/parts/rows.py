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


def paired(ours: Callable[[], object], theirs: Callable[[], object], rounds: int) -> tuple[float, float, float]:
    """Return the median time of each, and the median of how many times as fast ours was beside theirs.

    Either goes first in turns: what a machine does besides then counts for both.
    """
    times: list[tuple[float, float]] = []
    for number in range(rounds):
        taken: dict[bool, float] = {}
        for is_ours in (number % 2 == 0, number % 2 == 1):
            start = time.perf_counter()
            (ours if is_ours else theirs)()
            taken[is_ours] = time.perf_counter() - start
        times.append((taken[True], taken[False]))
    share = statistics.median(theirs_s / ours_s for ours_s, theirs_s in times)
    return statistics.median(pair[0] for pair in times), statistics.median(pair[1] for pair in times), share
