"""What a page and the server behind it hold."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from jupyterlab_page import RunningLab
    from playwright.sync_api import Page


class Held(NamedTuple):
    """Of the page: its JavaScript's memory after garbage was collected, nodes, listeners. Of the server: the rest."""

    heap_mb: float
    nodes: float
    listeners: float
    rss_mb: float
    threads: float
    descriptors: float


def hold(page: Page, lab: RunningLab) -> Held:
    """Look at both."""
    asked = page.context.new_cdp_session(page)
    for _ in range(2):
        asked.send("HeapProfiler.collectGarbage")
    asked.send("Performance.enable")
    told = {one["name"]: float(one["value"]) for one in asked.send("Performance.getMetrics")["metrics"]}
    asked.detach()
    process = Path(f"/proc/{lab.pid}")
    status = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
    return Held(
        told["JSHeapUsedSize"] / 1e6,
        told["Nodes"],
        told["JSEventListeners"],
        int(status["VmRSS"].split()[0]) / 1e3,
        int(status["Threads"]),
        len(list((process / "fd").iterdir())),
    )
