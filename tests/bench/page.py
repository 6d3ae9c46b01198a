"""A page that is loaded again beside a busy kernel, and the side panel with a thousand runs: real JupyterLab, Chromium.

    python tests/bench/page.py [--json] [--rounds 10] [--minutes 1] [--runs 1005] [--only reload|list]

A notebook with a live panel is loaded again while its kernel works, and it is noted how long the panel takes until it
draws a step that was logged since. Then a lab of many runs, 20 of which log a step every one to two seconds, is used
as a person would, beside one run that is open: what an interaction takes until the next paint is what the browser
itself notes, and what the page and the server hold is noted each minute, after garbage was collected.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from parts.crowd import Crowd, Ticking
from parts.held import Held, hold
from parts.rows import Row, show
from parts.use import Person

sys.path.append(str(Path(__file__).parents[1] / "browser"))
from jupyterlab_page import NotebookPage, open_page, running_chromium, running_lab

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jupyterlab_page import RunningLab
    from playwright.sync_api import Browser

WARM_UP_S = 60.0
BUSY = "import time\nwhile True: time.sleep(0.1)"
MARKS = ("cells", "asked", "told", "drawn", "live")
# Notes, from the beginning of the navigation on, when each first holds.
NOTE_MARKS = """() => {
    const noted = window.noted = {};
    const plots = () => [...document.querySelectorAll(".verl-lab-live .js-plotly-plot")];
    const last = () => Math.max(-1, ...plots().flatMap((plot) => (plot.data ?? []).map((one) => one.x?.at(-1) ?? -1)));
    const holds = {
        cells: () => document.querySelector(".jp-NotebookPanel .jp-Cell"),
        asked: () => document.querySelector(".jp-Cell .verl-lab-panel"),
        told: () => document.querySelector(".jp-Cell .verl-lab-live"),
        drawn: () => document.querySelector(".verl-lab-live .js-plotly-plot .js-line"),
        live: () => last() > Number(sessionStorage.getItem("bench step")),
    };
    const look = () => {
        for (const [name, does] of Object.entries(holds))
            if (!(name in noted) && does()) noted[name] = performance.now();
        if (!("live" in noted)) requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
}"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--rounds", type=int, default=10, help="how often the page is loaded again")
    arguments.add_argument("--minutes", type=float, default=1.0, help="how long the list is used")
    arguments.add_argument("--runs", type=int, default=1005, help="how many there are in the list")
    arguments.add_argument("--only", choices=("reload", "list"), help="measure this alone")
    chosen = arguments.parse_args()
    rows: list[Row] = []
    with running_chromium() as browser:
        if chosen.only != "list":
            with tempfile.TemporaryDirectory() as folder, running_lab(Path(folder)) as lab:
                rows += reload(lab, browser, chosen.rounds)
        if chosen.only != "reload":
            with tempfile.TemporaryDirectory() as folder:
                crowd = Crowd(Path(folder) / "verl_lab_home", chosen.runs)
                with running_lab(Path(folder)) as lab:
                    rows += crowded(lab, browser, crowd, chosen.minutes)
    show(rows, as_json=chosen.json)


def reload(lab: RunningLab, browser: Browser, rounds: int) -> list[Row]:
    """Load a page again, beside a busy cell, and note when its panel is live."""
    run = Ticking(lab.root.parent / "verl_lab_home", "20260101-000000-again-0000", "again", seconds_a_step=0.2)
    context = browser.new_context(viewport={"width": 1300, "height": 1100})
    notebook = open_page(lab, context, f"%load_ext verl_lab\n%verl_watch {run.id}", BUSY)
    page = notebook.page
    page.unroute_all()  # routes keep the browser from using what it has of the page
    with run:
        notebook.run_cell(0)
        notebook.start_cell(1)
        page.wait_for_selector(".verl-lab-live .js-line")
        notebook.save()
        page.add_init_script(f"({NOTE_MARKS})()")
        found: list[dict[str, float]] = []
        for _ in range(rounds):
            page.evaluate("(step) => sessionStorage.setItem('bench step', step)", run.step)
            page.reload()
            page.wait_for_function("'live' in (window.noted ?? {})", timeout=60_000)
            found.append(page.evaluate("noted"))
            page.wait_for_timeout(1500)
    notebook.shut_down_kernel()
    context.close()
    rows: list[Row] = []
    for mark in MARKS[1:]:
        taken = [max(0.0, one[mark] - one["cells"]) / 1e3 for one in found]
        if mark == "live":
            rows.append(
                Row("page loaded again, from its cells until live", said(taken), "<= 3 s, each", max(taken) <= 3)
            )
        else:
            rows.append(Row(f"  until {mark}", said(taken)))
    rows.append(Row("  from the beginning of the loading until live", said([one["live"] / 1e3 for one in found])))
    return rows


def said(seconds: Sequence[float]) -> str:
    """Say what is usual and what was worst."""
    return f"median {statistics.median(seconds):.2f} s, worst {max(seconds):.2f} s of {len(seconds)}"


def crowded(lab: RunningLab, browser: Browser, crowd: Crowd, minutes: float) -> list[Row]:
    """Use a long list while runs in it go on; return what that took, and what was held."""
    context = browser.new_context(viewport={"width": 1500, "height": 1000})
    notebook: NotebookPage = open_page(lab, context, "")
    notebook.page.unroute_all()
    person = Person(notebook.page)
    person.show_runs(len(crowd.ids))
    with crowd:
        person.open(crowd.live[0].id)
        held: list[Held] = []
        person.use(crowd, WARM_UP_S)  # what is made once is made
        person.forget()
        for _ in range(max(1, round(minutes))):
            held.append(hold(notebook.page, lab))
            person.use(crowd, 60.0 * min(1.0, minutes))
        held.append(hold(notebook.page, lab))
    kinds = list(person.kinds())
    context.close()
    taken = [ms for _, found in kinds for ms in found]
    p95 = float(np.quantile(taken, 0.95))
    worst = f"median {statistics.median(taken):.0f} ms, p95 {p95:.0f} ms, worst {max(taken):.0f} ms of {len(taken)}"
    rows = [
        Row(f"{len(crowd.ids):,} runs, 20 live: interaction to paint", worst, "p95 <= 200 ms", p95 <= 200),
        *(Row(f"  {kind}", f"p95 {np.quantile(ms, 0.95):.0f} ms of {len(ms)}") for kind, ms in kinds),
    ]
    first, last = held[0], held[-1]
    grown = last.heap_mb - first.heap_mb
    flat = grown <= max(5.0, 0.1 * first.heap_mb)
    rows.append(Row("  JS heap", f"{first.heap_mb:.1f} -> {last.heap_mb:.1f} MB", "<= +10 %", flat))
    for name, unit in (("nodes", ""), ("listeners", ""), ("rss_mb", " MB"), ("threads", ""), ("descriptors", "")):
        course = " ".join(f"{getattr(one, name):.0f}" for one in held)
        rows.append(Row(f"  {'server: ' if name not in ('nodes', 'listeners') else ''}{name}", course + unit))
    rows.append(Row("  JS heap each minute, MB", " ".join(f"{one.heap_mb:.1f}" for one in held)))
    return rows


if __name__ == "__main__":
    main()
