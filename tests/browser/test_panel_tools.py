"""What can be done with the charts: choosing, ranges, smoothing, axes, overlays, saving."""

from __future__ import annotations

import csv
import io
from typing import TYPE_CHECKING, Any

import pytest
from driving import LIVE, chart, drawn_points, setup, wait_for
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Page


@pytest.fixture
def panel(open_notebook: Any, recordings: Path) -> Any:
    """Open a panel with 20 steps drawn and a second run beside it."""
    cell = setup(recordings)
    cell += "source.besides = {'b': Replay(recordings / 'grpo-30-steps.jsonl', 30, name='the other one')}"
    notebook = open_notebook(cell, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    wait_for(notebook, lambda: drawn_points(chart(notebook, "Reward")) == 19)
    return notebook


def _drag(page: Page, figure: Any, start: float, end: float) -> None:
    box = figure.locator(".nsewdrag").first.bounding_box()
    assert box
    y = box["y"] + box["height"] / 2
    page.mouse.move(box["x"] + start * box["width"], y)
    page.mouse.down()
    page.mouse.move(box["x"] + end * box["width"], y, steps=5)
    page.mouse.up()


def _ranges(notebook: Any) -> list[list[float]]:
    return notebook.page.evaluate(
        f"() => [...document.querySelectorAll('{LIVE} .verl-lab-plot')].map(p => p._fullLayout.xaxis.range)"
    )


def test_metrics_come_in_groups_and_several_are_switched_in_one_go(panel: Any) -> None:
    page = panel.page
    page.get_by_role("button", name="+ 97 more").click()
    group = page.get_by_role("group", name="perf", exact=True)
    names = group.get_by_role("button").all_inner_texts()
    assert names
    assert all(name.startswith("perf/") for name in names)
    page.get_by_role("button", name="perf/mfu/actor", exact=True).click()
    page.get_by_role("button", name="actor/lr", exact=True).click()
    expect(page.get_by_role("button", name="actor/lr", exact=True).first).to_have_attribute("aria-pressed", "true")
    expect(chart(panel, "perf/mfu/actor")).to_be_visible()
    expect(chart(panel, "Learning rate").or_(chart(panel, "actor/lr"))).to_be_visible()


def test_dragging_shows_a_range_that_stands_still_until_live_is_pressed(panel: Any) -> None:
    page = panel.page
    figure = chart(panel, "Reward")
    figure.scroll_into_view_if_needed()
    _drag(page, figure, 0.25, 0.75)
    chip = page.locator(".verl-lab-tools .verl-lab-chip").first
    expect(chip).to_contain_text("paused")
    wait_for(panel, lambda: len({tuple(one) for one in _ranges(panel)}) == 1)
    low, high = _ranges(panel)[0]
    assert 3 < low < 7
    assert 12 < high < 16
    panel.execute("source.play(5)")
    expect(page.locator(".verl-lab-meta")).to_contain_text("step 24 of 60")
    assert _ranges(panel)[0] == [low, high]
    page.get_by_role("button", name="Live", exact=True).click()
    expect(chip).to_have_text("Steps 0–24 · live")
    wait_for(panel, lambda: _ranges(panel)[0] == [0, 24])


def test_range_is_given_by_keyboard_and_a_double_click_goes_back(panel: Any) -> None:
    page = panel.page
    tools = page.locator(".verl-lab-tools")
    tools.locator(".verl-lab-chip").first.press("Enter")
    tools.get_by_role("spinbutton", name="From").fill("5")
    tools.get_by_role("spinbutton", name="To").fill("8")
    page.keyboard.press("Enter")
    wait_for(panel, lambda: _ranges(panel)[0] == [5, 8])
    expect(chart(panel, "Reward").locator("em")).to_have_text(
        panel.execute("print(f'{source.series(\"critic/score/mean\")[1][7]:#.2g}')").strip()
    )
    figure = chart(panel, "Entropy")
    figure.scroll_into_view_if_needed()
    figure.locator(".nsewdrag").first.dblclick()
    wait_for(panel, lambda: _ranges(panel)[0] == [0, 19])


def test_pointer_in_one_chart_shows_that_step_in_all(panel: Any) -> None:
    figure = chart(panel, "Entropy")
    figure.scroll_into_view_if_needed()
    figure.locator(".nsewdrag").first.hover()
    labels = panel.page.locator(f"{LIVE} .hovertext")
    # All but the held-out score, which has no value near that step.
    expect(labels).to_have_count(6)
    told = labels.evaluate_all("nodes => nodes.map(n => n.textContent.match(/^step (9|10)/)?.[1])")
    assert len(set(told)) == 1
    assert None not in told
    panel.page.mouse.move(0, 0)
    expect(labels).to_have_count(0)


def test_smoothing_draws_the_average_before_the_faint_values(panel: Any) -> None:
    page = panel.page
    page.get_by_role("button", name="Smooth 0").click()
    slider = page.get_by_role("slider", name="Smoothing")
    slider.fill("0.89")
    slider.press("ArrowRight")
    figure = chart(panel, "Gradient norm")
    expect(figure.locator(".tracevl0raw .js-line")).to_be_visible()
    raw, average = (figure.locator(f".{name} .js-line").bounding_box() for name in ("tracevl0raw", "tracevl0"))
    assert raw
    assert average
    assert average["height"] < raw["height"]
    expect(page.get_by_role("button", name="Smooth 0.9")).to_be_visible()


def test_time_axis_and_logarithmic_values(panel: Any) -> None:
    page = panel.page
    page.get_by_role("button", name="Axes").click()
    page.get_by_label("Time since the start").check()
    wait_for(panel, lambda: _ranges(panel)[0] == [0, 38])
    expect(chart(panel, "Reward").locator(".xtick").first).to_contain_text("s")
    page.get_by_label("Logarithmic values").check()
    figure = chart(panel, "KL to reference")
    wait_for(panel, lambda: figure.locator(".verl-lab-plot").evaluate("p => p._fullLayout.yaxis.type") == "log")
    expect(figure.locator(".verl-lab-odd")).to_have_text("1 not above 0")
    panel.execute("source.is_timed = False; source.now()")
    expect(page.get_by_text("The log does not say when its steps were.")).to_be_visible()


def test_another_run_is_laid_over_and_taken_away(panel: Any) -> None:
    page = panel.page
    page.get_by_role("button", name="Overlay").click()
    page.get_by_role("button", name="the other one").click()
    figure = chart(panel, "Reward")
    wait_for(panel, lambda: drawn_points(figure, ".tracevl1 .js-line") == 29)
    strokes = [figure.locator(f".tracevl{k} .js-line").evaluate("n => getComputedStyle(n).stroke") for k in (0, 1)]
    assert strokes[0] != strokes[1]
    expect(figure.locator(".tracevl1 .js-line")).to_have_css("stroke-dasharray", "8px, 3px")
    expect(page.locator(".verl-lab-legend")).to_contain_text("B")
    page.keyboard.press("Escape")
    page.get_by_role("button", name="Take away B").click()
    expect(page.locator(".verl-lab-legend")).to_be_hidden()
    expect(figure.locator(".tracevl1")).to_have_count(0)


def test_data_and_picture_are_saved(panel: Any, tmp_path: Path) -> None:
    page = panel.page
    saved: dict[str, bytes] = {}
    for name in ("Data (CSV)", "Picture (PNG)"):
        page.locator(".verl-lab-tools").get_by_role("button", name="Save").click()
        with page.expect_download() as download:
            page.get_by_role("button", name=name).click()
        path = tmp_path / download.value.suggested_filename
        download.value.save_as(path)
        saved[path.suffix] = path.read_bytes()
    assert saved[".png"].startswith(b"\x89PNG")
    rows = list(csv.DictReader(io.StringIO(saved[".csv"].decode())))
    assert [row["step"] for row in rows] == [str(step) for step in range(20)]
    wanted = panel.execute("print(repr(float(source.series('critic/score/mean')[1][-1])))").strip()
    assert rows[-1]["critic/score/mean"] == wanted
