"""The live panel in a real Chromium under a real JupyterLab."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator

HERE = Path(__file__).parent
PAYLOADS = (HERE / "payloads.txt").read_text("utf-8").splitlines()
LIVE = ".verl-lab-panel.verl-lab-live"
BUSY = "import time\nwhile len(source.asked) < 2: time.sleep(0.05)"


def _setup(recordings: Path, recording: str = "grpo-kl-loss-30-steps.jsonl", steps: int = 20, **header: object) -> str:
    header = {"elapsed_s": 64.0, "remaining_s": 62.0, "recipe": "grpo-arithmetic v3", "total": 60, **header}
    return f"""
import sys; sys.path.append({str(HERE.parent / "widgets")!r})
from pathlib import Path
from replay import Replay
from verl_lab.widgets.panel import Panel, show
source = Replay(Path({str(recordings / recording)!r}), {steps}, **{header!r})
panel = Panel(source)
"""


def _drawn_points(chart: Locator) -> int:
    """Return how many vertices the line on the screen has."""
    path = chart.locator(".js-line")
    return len(re.findall(r"[MLHV]", path.get_attribute("d") or "")) if path.count() else 0


def _chart(notebook: Any, name: str) -> Locator:
    return notebook.page.locator(f"{LIVE} figure", has=notebook.page.locator(f"b:text-is('{name}')"))


def _wait_for(notebook: Any, holds: Callable[[], bool]) -> None:
    for _ in range(400):
        if holds():
            return
        notebook.page.wait_for_timeout(25)
    pytest.fail("What was awaited did not show within 10 s.")


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_logged_step_is_painted_and_buttons_work(open_notebook: Any, recordings: Path, *, busy: bool) -> None:
    log = "import threading; threading.Timer(1.0, lambda: source.log(21, {'critic/score/mean': 0.875})).start()"
    notebook = open_notebook(_setup(recordings), "show(panel)", log, BUSY)
    for cell in range(3):
        notebook.run_cell(cell)
    if busy:
        notebook.start_cell(3)
        expect(notebook.page.locator(".jp-Cell").nth(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    expect(_chart(notebook, "Reward").locator("em")).to_have_text("0.88")
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "Reward")) == 20)
    expect(notebook.page.locator(".verl-lab-meta")).to_contain_text("step 21 of 60")

    press = notebook.page.locator(LIVE).get_by_role("button", name="Stop", exact=True)
    press.click()
    notebook.page.get_by_role("button", name="Keep running").click()
    press.click()
    notebook.page.get_by_role("button", name="Stop the run").click()
    expect(notebook.page.locator(".verl-lab-state")).to_have_text("stopping")
    notebook.page.get_by_role("button", name="Stop now").click()
    if busy:
        # The cell waits for both clicks: it ends only if they are handled while it runs.
        notebook.page.evaluate("async () => { await window.running; }")
    _wait_for(notebook, lambda: notebook.execute("print(source.asked)").strip() == "['stop', 'stop']")


def test_refused_action_is_told_in_the_panel_and_can_be_tried_again(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(
        _setup(recordings, state="stopped", can_stop=False, can_resume=True) + "source.refuses = 'Host gpu01 is away.'",
        "panel",
    )
    notebook.run_cell(0)
    notebook.run_cell(1)
    resume = notebook.page.get_by_role("button", name="Resume")
    resume.click()
    alarm = notebook.page.get_by_role("alert").filter(has_text="Host gpu01 is away.")
    expect(alarm).to_contain_text("Try again later.")
    notebook.execute("source.refuses = None")
    resume.click()
    expect(notebook.page.locator(".verl-lab-state")).to_have_text("running")
    expect(alarm).to_be_hidden()


def test_reload_brings_the_panel_back_and_it_stays_live(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(_setup(recordings), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(_chart(notebook, "Reward").locator(".js-line")).to_be_visible()
    notebook.save()
    notebook.load()
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "Reward")) == 19)
    notebook.execute("source.play(5)")
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "Reward")) == 24)


def test_two_panels_on_a_page_share_one_library(open_notebook: Any, recordings: Path) -> None:
    second = "other = Panel(Replay(Path(str(source_path)), 30)); other"
    setup = _setup(recordings) + f"source_path = {str(recordings / 'sft-60-steps.jsonl')!r}"
    notebook = open_notebook(setup, "panel", second)
    notebook.page.evaluate("window.Plotly = 'another'")
    for cell in range(3):
        notebook.run_cell(cell)
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "Reward")) == 19)
    points = int(notebook.execute("print(other._source.series('train/loss')[0].size)"))
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "Loss")) == points > 20)
    assert notebook.execute("print(len(panel._library_sent) + len(other._library_sent))").strip() == "1"
    assert notebook.page.evaluate("window.Plotly") == "another"
    notebook.execute("other.close()")
    expect(notebook.page.locator(LIVE)).to_have_count(1)


def test_charts_are_picked_by_chip_and_by_search(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(_setup(recordings), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    chip = page.get_by_role("button", name="Held-out score")
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "false")
    expect(_chart(notebook, "Held-out score")).to_have_count(0)
    page.get_by_role("button", name="+ 97 more").press("Enter")
    search = page.get_by_role("searchbox", name="Find a metric")
    expect(search).to_be_focused()
    search.press_sequentially("pg clipfrac")
    page.get_by_role("button", name="actor/pg_clipfrac", exact=True).click()
    _wait_for(notebook, lambda: _drawn_points(_chart(notebook, "actor/pg_clipfrac")) == 19)
    search.press("Escape")
    expect(search).to_be_hidden()
    assert notebook.page.locator(".jp-Cell").count() == 2


def test_panel_fits_and_takes_the_themes_colours(open_notebook: Any, recordings: Path, tmp_path: Path) -> None:
    notebook = open_notebook(_setup(recordings, steps=30), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    line = _chart(notebook, "Reward").locator(".js-line")
    expect(line).to_be_visible()
    root = notebook.page.locator(LIVE)
    brand_of = """node => { const probe = document.createElement("i"); probe.style.color = "var(--jp-brand-color1)";
                            node.append(probe); const found = getComputedStyle(probe).color; probe.remove();
                            return found; }"""
    brands: set[str] = set()
    for theme in ("Light", "Dark"):
        notebook.set_theme(f"JupyterLab {theme}")
        for width, columns in ((1300, 2), (480, 1)):
            notebook.page.set_viewport_size({"width": width, "height": 1100})
            notebook.page.mouse.move(0, 0)
            notebook.page.wait_for_timeout(400)
            notebook.page.screenshot(path=tmp_path / f"panel-{theme.lower()}-{width}.png")
            boxes = [figure.bounding_box() for figure in root.locator("figure").all()]
            assert len({round(box["x"]) for box in boxes if box}) == columns
            assert root.evaluate("node => node.scrollWidth <= node.clientWidth + 1")
        brand = root.evaluate(brand_of)
        assert line.evaluate("node => getComputedStyle(node).stroke") == brand
        brands.add(brand)
    assert len(brands) == 2


def test_starting_run_has_empty_charts_of_the_same_size_and_a_ticking_clock(
    open_notebook: Any, recordings: Path
) -> None:
    starting: dict[str, Any] = {"state": "starting", "phase": "loading model", "elapsed_s": 22.0, "remaining_s": None}
    notebook = open_notebook(_setup(recordings, steps=0, **starting), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    meta = notebook.page.locator(".verl-lab-meta")
    expect(meta).to_contain_text(re.compile(r"loading model, 2[2-9] s"))
    expect(meta).to_contain_text(re.compile(r"loading model, 2[4-9] s"))
    figures = notebook.page.locator(f"{LIVE} figure")
    before = figures.first.bounding_box()
    notebook.execute("source.now(state='running', phase='training'); source.play(3)")
    expect(_chart(notebook, "Reward").locator(".js-line")).to_be_visible()
    notebook.page.wait_for_timeout(300)
    after = figures.first.bounding_box()
    assert before is not None
    assert after is not None
    assert (round(before["width"]), round(before["height"])) == (round(after["width"]), round(after["height"]))


def test_values_that_are_not_finite_are_marked(open_notebook: Any, recordings: Path) -> None:
    setup = _setup(recordings, steps=20) + "inf = float('inf')\n"
    setup += "for step, value in enumerate([float('nan'), inf, 0.2, -inf, 0.1], 20): "
    setup += "source.log(step, {'actor/grad_norm': value})"
    notebook = open_notebook(setup, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    chart = _chart(notebook, "Gradient norm")
    expect(chart.locator(".xy2 .point")).to_have_count(3)
    expect(chart.locator(".verl-lab-odd")).to_have_text("1 NaN, 2 infinite")
    expect(chart.locator("em")).to_have_text("0.10")


def test_no_name_is_taken_for_markup_or_script(open_notebook: Any, recordings: Path) -> None:
    hostile = f"""
import numpy as np
PAYLOADS = {PAYLOADS!r}
sources = [Replay(name=p, host=p, recipe=p, notice=p, reason=p, state="failed", can_stop=False) for p in PAYLOADS]
for name in PAYLOADS: sources[0].fill(name, np.array([1.0, np.nan, 2.0]))
panel = Panel(sources[0])
"""
    show_all = "for name in PAYLOADS[:24]: panel._handle_custom_msg(dict(type='show', metric=name, shown=True), [])"
    # JupyterLab shows 50 outputs of a cell at most, and a panel is two.
    others = [f"for s in sources[{first}:{first + 20}]: show(Panel(s))" for first in (1, 21, 41)]
    notebook = open_notebook(_setup(recordings) + hostile, f"show(panel)\n{show_all}", *others)
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    expect(page.locator(f"{LIVE} figure .js-line").nth(20)).to_be_attached()
    page.locator(".verl-lab-chip", has_text="more").click()
    expect(page.locator(".verl-lab-name").first).to_be_visible()
    page.keyboard.press("Escape")
    for figure in page.locator(f"{LIVE} figure").all():
        figure.locator(".verl-lab-plot").hover()
    for cell in range(2, 2 + len(others)):
        notebook.run_cell(cell)
        page.locator(".jp-Cell").nth(cell).scroll_into_view_if_needed()
    expect(page.locator(LIVE)).to_have_count(len(PAYLOADS), timeout=20_000)
    page.wait_for_timeout(1000)
    assert page.evaluate("window.pwned") is None
    allowed = {"SECTION", "HEADER", "DIV", "B", "SPAN", "I", "BUTTON", "INPUT", "FIGURE", "FIGCAPTION", "EM"}
    tags = "nodes => [...new Set(nodes.filter(n => !(n instanceof SVGElement)).map(n => n.tagName))]"
    assert set(page.locator(f"{LIVE} *").evaluate_all(tags)) <= allowed
    titles = page.locator(".verl-lab-title b").evaluate_all("nodes => nodes.map(n => n.textContent)")
    assert sorted(titles) == sorted(PAYLOADS)


def test_saved_notebook_keeps_picture_and_text_and_no_library(open_notebook: Any, lab: Any, recordings: Path) -> None:
    notebook = open_notebook(_setup(recordings), "show(panel)")
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(_chart(notebook, "Reward").locator(".js-line")).to_be_visible()
    expect(notebook.page.locator(".verl-lab-still")).to_be_hidden()
    notebook.execute("source.play(10); source.now(state='completed', can_stop=False)")
    _wait_for(notebook, lambda: "completed" in notebook.outputs(1)[1]["data"]["text/plain"])
    saved = notebook.save()
    view, still = saved.cells[1].outputs
    assert "Reward" in view.data["text/plain"]
    assert {"image/png", "text/html", "text/plain"} <= set(still.data)
    text = nbformat.writes(saved)
    assert "plotly" not in text.lower()
    assert len(text) < 400_000

    notebook.shut_down_kernel()
    again = open_notebook(path=notebook.path)
    picture = again.page.locator(".verl-lab-still img")
    expect(picture).to_be_visible()
    again.page.wait_for_timeout(1500)
    assert picture.evaluate("img => img.naturalWidth") > 500
    expect(again.page.get_by_text(re.compile("Error displaying widget|Loading widget"))).to_be_hidden()

    saved.cells[1].outputs[1].data["text/plain"] += "\nchanged by someone else"
    nbformat.write(saved, lab.root / "untrusted.ipynb")
    foreign = open_notebook(path="untrusted.ipynb")
    expect(foreign.page.locator(".jp-Cell img")).to_be_visible()
