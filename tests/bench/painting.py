"""From a step written by training to its point on the screen, in a real JupyterLab and Chromium.

    python tests/bench/painting.py [--json] [--steps 40]

Six panels of 100 thousand and of a million points a curve get five steps a second. plotly's own FigureWidget, the
usual way to a live chart in a notebook, is given the same points by a thread of the same kernel. What is measured
begins when the run has been judged once from its beginning, and a few steps later.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from parts.rows import Row, show
from parts.runs import NAMES, fill, write_attempt, write_run

from verl_lab import Lab
from verl_lab.domain.wire import RunLayout, encode_metrics
from verl_lab.launch.supervisor import boot_id, look_up

sys.path.append(str(Path(__file__).parents[1] / "browser"))
from jupyterlab_page import NotebookPage, open_page, running_chromium, running_lab

if TYPE_CHECKING:
    from jupyterlab_page import RunningLab
    from playwright.sync_api import Browser

RUN, CHARTS, HERTZ, WARM_UP = "20260101-000000-bench-0000", 6, 5, 5
WATCH = """
from verl_lab import Lab
Lab({home!r}).run({run!r}).watch({names!r})
"""
WIDGETS = """
import numpy as np, plotly.graph_objects as go, threading, time
from IPython.display import display
x, y = np.arange({steps}), np.random.default_rng(0).normal(size={steps})
figures = [go.FigureWidget(go.Scatter(x=x, y=y)) for _ in range({charts})]
for figure in figures: display(figure)
told = []
def feed():
    global x, y
    for k in range({updates}):
        at = time.time()
        x, y = np.append(x, x[-1] + 1), np.append(y, 0.0)
        told.append((int(x[-1]), at))
        for figure in figures:
            with figure.batch_update():
                figure.data[0].x, figure.data[0].y = x, y
        time.sleep(max(0, {pause} - (time.time() - at)))
"""
# Notes when the last of the charts shows each step: after Plotly has drawn, in the frame that paints it.
NOTE_PAINTS = """(count) => {
    window.painted = [];
    const plots = [...document.querySelectorAll(".js-plotly-plot")].slice(0, count);
    const last = (plot) => Math.max(...plot.data.map((trace) => trace.x?.length ? trace.x[trace.x.length - 1] : -1));
    let before = -1;
    const note = () => {
        const step = Math.min(...plots.map(last));
        if (step <= before) return;
        before = step;
        requestAnimationFrame(() => window.painted.push([step, Date.now() / 1000]));
    };
    for (const plot of plots) plot.on("plotly_afterplot", note);
    return plots.length;
}"""


def main() -> None:
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--json", action="store_true", help="print JSON instead of a table")
    arguments.add_argument("--steps", type=int, default=40, help="steps to write while it is watched")
    chosen = arguments.parse_args()
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as folder, running_lab(Path(folder)) as lab, running_chromium() as browser:
        ours: list[float] = []
        for points in (100_000, 1_000_000):
            delays, frame_kb = panel(Path(folder) / f"home-{points}", lab, browser, points, chosen.steps)
            p95 = float(np.quantile(delays, 0.95))
            said = f"median {statistics.median(delays) * 1e3:.0f} ms, p95 {p95 * 1e3:.0f} ms"
            rows.append(Row(f"written to painted, {points:,} points a curve", said, "p95 <= 250 ms", p95 <= 0.25))
            rows.append(Row("  sent for a redraw", f"{frame_kb:.0f} kB", "<= 100 kB", frame_kb <= 100))
            ours.append(statistics.median(delays))
        theirs = statistics.median(widgets(lab, browser, 100_000))
        ratio = theirs / ours[0]
        said = f"{ratio:.1f}x slower ({theirs * 1e3:,.0f} ms)"
        rows.append(Row("FigureWidget, 100,000 points a curve, from kernel on", said, ">= 5x", ratio >= 5))
    show(rows, as_json=chosen.json)


def panel(home: Path, lab: RunningLab, browser: Browser, points: int, steps: int) -> tuple[list[float], float]:
    """Return how long each step took to the screen, in seconds, and the kB a redraw was sent with."""
    write_run(home / "runs" / RUN, 1)
    with Lab(home) as filled:
        filled.run(RUN).sync()
        fill(filled.store, RUN, points)
    # What is logged live is a resumed run's second attempt.
    metrics = write_attempt(home / "runs" / RUN, 2)
    write_status(home / "runs" / RUN, points)
    page = opened(lab, browser, WATCH.format(home=str(home), run=RUN, names=NAMES[:CHARTS]))
    page.page.evaluate("""() => { window.received = [];
        jupyterapp.shell.currentWidget.sessionContext.session.kernel.anyMessage.connect((_, { msg, direction }) => {
            if (direction === "recv" && msg.channel === "iopub" && msg.header.msg_type === "comm_msg")
                window.received.push(JSON.stringify(msg.content).length
                    + msg.buffers.reduce((n, b) => n + b.byteLength, 0)); }); }""")
    judged, first = points + WARM_UP + 1, points + 2 * WARM_UP + 1
    written: list[tuple[int, float]] = []
    with metrics.open("ab", buffering=0) as log:
        for step in range(points + 1, first + steps):
            if step == judged:
                wait(page, step - 1)
                page.page.wait_for_timeout(10_000)
            if step >= first:
                written.append((step, time.time()))
            log.write(encode_metrics(step, step, time.time(), dict.fromkeys(NAMES, float(step % 7))))
            page.page.wait_for_timeout(1000 / HERTZ)
    wait(page, written[-1][0])
    received, painted = page.page.evaluate("[window.received, window.painted]")
    closed(page)
    return delays(written, painted), sum(received) / len(painted) / 1e3


def write_status(run: Path, step: int) -> None:
    """Say that this process trains the second attempt."""
    me = look_up(os.getpid())
    assert me is not None
    status = {"version": 1, "run": run.name, "attempt": 2, "state": "running", "step": step}
    status |= {"pid": me.pid, "process_start": me.start, "boot_id": boot_id(), "updated": time.time()}
    RunLayout(run).attempt(2).status.write_text(json.dumps(status))


def widgets(lab: RunningLab, browser: Browser, points: int) -> list[float]:
    """Return how long each step took from the kernel to the screen with plotly's FigureWidget, in seconds."""
    updates = 10
    page = opened(lab, browser, WIDGETS.format(steps=points, charts=CHARTS, updates=updates, pause=1 / HERTZ))
    page.execute("feeding = threading.Thread(target=feed); feeding.start()")
    wait(page, points - 1 + updates)
    told: list[Any] = json.loads(page.execute("import json; print(json.dumps(told))"))
    painted = page.page.evaluate("window.painted")
    closed(page)
    return delays([(int(step), float(at)) for step, at in told], painted)


def opened(lab: RunningLab, browser: Browser, cell: str) -> NotebookPage:
    """Run a cell that shows the charts, and note from then on when they are painted."""
    page = open_page(lab, browser.new_context(viewport={"width": 1300, "height": 1600}), cell)
    page.run_cell(0)
    page.page.wait_for_function(
        f"document.querySelectorAll('.js-plotly-plot .js-line').length >= {CHARTS}", timeout=120_000
    )
    page.page.wait_for_timeout(3000)
    assert page.page.evaluate(NOTE_PAINTS, CHARTS) == CHARTS
    return page


def closed(page: NotebookPage) -> None:
    """End a page and its kernel: neither is to slow down what is measured next."""
    page.shut_down_kernel()
    page.page.context.close()


def wait(page: NotebookPage, step: int) -> None:
    """Wait until a step is painted."""
    page.page.wait_for_function(f"window.painted.some(([step]) => step >= {step})", timeout=300_000)


def delays(written: list[tuple[int, float]], painted: list[tuple[int, float]]) -> list[float]:
    """Return for each step the time until it, or a later one, was painted."""
    return [min(at for shown, at in painted if shown >= step) - begun for step, begun in written]


if __name__ == "__main__":
    main()
