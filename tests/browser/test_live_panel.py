"""The live panel in a real Chromium under a real JupyterLab."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from driving import LIVE, chart, drawn_points, setup, wait_for
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

BUSY = "import time\nwhile len(source.asked) < 2: time.sleep(0.05)"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "busy"])
def test_logged_step_is_painted_and_buttons_work(open_notebook: Any, recordings: Path, *, busy: bool) -> None:
    log = "import threading; threading.Timer(1.0, lambda: source.record(21, {'critic/score/mean': 0.875})).start()"
    notebook = open_notebook(setup(recordings), "show(panel)", log, BUSY)
    for cell in range(3):
        notebook.run_cell(cell)
    if busy:
        notebook.start_cell(3)
        expect(notebook.page.locator(".jp-Cell").nth(3).locator(".jp-InputPrompt")).to_have_text("[*]:")
    expect(chart(notebook, "Reward").locator("em")).to_have_text("0.88")
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 20)
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
    wait_for(notebook, lambda: notebook.execute("print(source.asked)").strip() == "['stop', 'stop']")


def test_refused_action_is_told_in_the_panel_and_can_be_tried_again(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(
        setup(recordings, state="stopped", can_stop=False, can_resume=True) + "source.refuses = 'Host gpu01 is away.'",
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
    notebook = open_notebook(setup(recordings), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(chart(notebook, "Reward").locator(".tracevl0 .js-line")).to_be_visible()
    notebook.save()
    notebook.load()
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 19)
    notebook.execute("source.play(5)")
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 24)


def test_two_panels_on_a_page_share_one_library(open_notebook: Any, recordings: Path) -> None:
    second = "other = Panel(Replay(Path(str(source_path)), 30)); other"
    cell = setup(recordings) + f"source_path = {str(recordings / 'sft-60-steps.jsonl')!r}"
    notebook = open_notebook(cell, "panel", second, own_page=True)
    files: list[str] = []
    notebook.page.on("request", lambda request: files.append(request.url) if "/api/library" in request.url else None)
    notebook.page.evaluate("window.Plotly = 'another'")
    for cell in range(3):
        notebook.run_cell(cell)
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 19)
    points = int(notebook.execute("print(other._shown.source.series('train/loss')[0].size)"))
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Loss")) == points > 20)
    sent = int(notebook.execute("print(len(panel._shown._library_sent) + len(other._shown._library_sent))"))
    assert sent + len(files) == 1
    assert notebook.page.evaluate("window.Plotly") == "another"
    notebook.execute("other.close()")
    expect(notebook.page.locator(LIVE)).to_have_count(1)


def test_charts_are_picked_by_chip_and_by_search(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(setup(recordings), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    chip = page.get_by_role("button", name="Held-out score")
    chip.click()
    expect(chip).to_have_attribute("aria-pressed", "false")
    expect(chart(notebook, "Held-out score")).to_have_count(0)
    page.get_by_role("button", name="+ 97 more").press("Enter")
    search = page.get_by_role("searchbox", name="Find a metric")
    expect(search).to_be_focused()
    search.press_sequentially("pg clipfrac")
    page.get_by_role("button", name="actor/pg_clipfrac", exact=True).click()
    wait_for(notebook, lambda: drawn_points(chart(notebook, "actor/pg_clipfrac")) == 19)
    search.press("Escape")
    expect(search).to_be_hidden()
    assert notebook.page.locator(".jp-Cell").count() == 2


def test_panel_fits_and_takes_the_themes_colours(open_notebook: Any, recordings: Path, tmp_path: Path) -> None:
    notebook = open_notebook(setup(recordings, steps=30), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    line = chart(notebook, "Reward").locator(".tracevl0 .js-line")
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
    notebook = open_notebook(setup(recordings, steps=0, **starting), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    meta = notebook.page.locator(".verl-lab-meta")
    expect(meta).to_contain_text(re.compile(r"loading model, 2[2-9] s"))
    expect(meta).to_contain_text(re.compile(r"loading model, (2[4-9]|[3-5][0-9]) s"))
    figures = notebook.page.locator(f"{LIVE} figure")
    before = figures.first.bounding_box()
    notebook.execute("source.now(state='running', phase='training'); source.play(3)")
    expect(chart(notebook, "Reward").locator(".tracevl0 .js-line")).to_be_visible()
    notebook.page.wait_for_timeout(300)
    after = figures.first.bounding_box()
    assert before is not None
    assert after is not None
    assert (round(before["width"]), round(before["height"])) == (round(after["width"]), round(after["height"]))


def test_values_that_are_not_finite_are_marked(open_notebook: Any, recordings: Path) -> None:
    cell = setup(recordings, steps=20) + "inf = float('inf')\n"
    cell += "for step, value in enumerate([float('nan'), inf, 0.2, -inf, 0.1], 20): "
    cell += "source.record(step, {'actor/grad_norm': value})"
    notebook = open_notebook(cell, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    figure = chart(notebook, "Gradient norm")
    expect(figure.locator(".xy2 .point")).to_have_count(3)
    expect(figure.locator(".verl-lab-odd")).to_have_text("1 NaN, 2 infinite")
    expect(figure.locator("em")).to_have_text("0.10")


def test_saved_notebook_keeps_picture_and_text_and_no_library(open_notebook: Any, lab: Any, recordings: Path) -> None:
    notebook = open_notebook(setup(recordings), "show(panel)")
    notebook.run_cell(0)
    notebook.run_cell(1)
    expect(chart(notebook, "Reward").locator(".tracevl0 .js-line")).to_be_visible()
    expect(notebook.page.locator(".verl-lab-still")).to_be_hidden()
    notebook.execute("source.play(10); source.now(state='completed', can_stop=False)")
    wait_for(notebook, lambda: "completed" in notebook.outputs(1)[1]["data"]["text/plain"])
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
    again.show("untrusted.ipynb")
    expect(again.page.locator(".jp-Cell img")).to_be_visible()
