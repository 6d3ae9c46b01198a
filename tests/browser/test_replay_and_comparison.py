"""``%verl_watch --replay`` and ``%verl_compare`` in a real Chromium."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from driving import LIVE, chart, drawn_points, wait_for
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path


def test_replay_is_moved_and_shows_findings_and_score_as_they_were(open_notebook: Any, recordings: Path) -> None:
    line = f"run = %verl_watch {recordings / 'grpo-kl-loss-30-steps.jsonl'} --replay --speed 2"
    notebook = open_notebook("%load_ext verl_lab", line)
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    expect(page.locator(".verl-lab-state")).to_have_text("replay")
    where = page.locator(".verl-lab-player .verl-lab-where")
    expect(where).to_have_text(re.compile(r"step ([3-9]|[12]\d) of 30"))
    page.get_by_role("button", name="Pause").click()
    slider = page.get_by_role("slider", name="Step")
    slider.fill("11")
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 11)
    expect(page.get_by_role("tab", name="Findings 2")).to_be_visible()
    score = page.locator(".verl-lab-score b")
    expect(score).to_have_text(notebook.execute("print(run.health(11).score)").strip())
    page.get_by_role("button", name="One step on").click()
    expect(page.get_by_role("tab", name="Findings 3")).to_be_visible()
    expect(chart(notebook, "KL to reference").locator(".tracevlflaginfo .point")).to_have_count(1)
    slider.press("ArrowLeft")
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 11)
    page.get_by_label("Speed").select_option("100")
    page.get_by_role("button", name="Play").click()
    expect(where).to_have_text("step 30 of 30")
    expect(score).to_have_text(notebook.execute("print(run.health().score)").strip())
    expect(page.get_by_role("button", name="Play")).to_be_visible()


def test_compared_runs_share_charts_values_and_differences(
    open_notebook: Any, recordings: Path, tmp_path: Path
) -> None:
    paths = " ".join(
        str(recordings / f"{name}-30-steps.jsonl") for name in ("grpo-kl-loss", "grpo", "grpo-sort-digits")
    )
    notebook = open_notebook("%load_ext verl_lab", f"%verl_compare {paths}")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    figure = chart(notebook, "Reward")
    for k, points in enumerate((30, 29, 30)):
        wait_for(notebook, lambda k=k, points=points: drawn_points(figure, f".tracevl{k} .js-line") >= points)
    expect(page.locator(".verl-lab-runs .verl-lab-line")).to_have_count(3)
    colours = page.locator(".verl-lab-runs .verl-lab-line b").evaluate_all(
        "nodes => nodes.map(n => getComputedStyle(n).color)"
    )
    lines = [figure.locator(f".tracevl{k} .js-line").evaluate("n => getComputedStyle(n).stroke") for k in range(3)]
    assert colours == lines
    assert len(set(lines)) == 3
    page.get_by_role("tab", name="Values").click()
    row = page.locator("tr", has=page.get_by_role("rowheader", name="Reward"))
    expect(row.locator("b")).to_have_text(re.compile("best of all: 0.91 at step 18"))
    page.get_by_role("tab", name="Configuration").click()
    expect(page.get_by_text("The configuration of A, B, C is not known.")).to_be_visible()
    for theme, width in (("Light", 1300), ("Dark", 480)):
        notebook.set_theme(f"JupyterLab {theme}")
        page.set_viewport_size({"width": width, "height": 1100})
        page.get_by_role("tab", name="Charts").click()
        page.wait_for_timeout(400)
        page.screenshot(path=tmp_path / f"comparison-{theme.lower()}-{width}.png")
        assert page.locator(LIVE).evaluate("node => node.scrollWidth <= node.clientWidth + 1")
    text = notebook.outputs(1)[1]["data"]["text/plain"]
    assert "Comparison of 3 runs" in "".join(text)
