"""A report made of real runs: its notebook, its page in a browser without a network, its PDF, and two compared."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from playwright.sync_api import expect
from recorded import HOSTILE, Made, Offline

from verl_lab import Lab
from verl_lab.errors import FormatError, NotFoundError
from verl_lab.reports.keep import keep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from playwright.sync_api import Locator

WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"
SECTIONS = ("summary", "curves", "findings", "health", "comparison", "samples", "settings", "lineage", "system")


@pytest.fixture(scope="module")
def notebook(made: Made) -> Any:
    return nbformat.read(made.report.files["ipynb"], as_version=4)


@pytest.fixture(scope="module")
def page(made: Made, open_offline: Callable[..., Offline]) -> Offline:
    return open_offline(made.report.files["html"])


def outputs(notebook: Any) -> list[Any]:
    return [output for cell in notebook.cells for output in cell.get("outputs", [])]


def chart(page: Any, label: str) -> Locator:
    """Return the first chart of that heading."""
    return page.locator("figure", has=page.locator(f"b:text-is('{label}')")).first


def test_each_section_is_told_of_and_only_whole_files_are_left(made: Made) -> None:
    assert [name for name in SECTIONS if any(f"report.{name}()" in line for line in made.told)] == list(SECTIONS)
    folder = made.report.files["ipynb"].parent
    assert sorted(path.name for path in folder.iterdir()) == [f"{made.runs[0]}.html", f"{made.runs[0]}.ipynb"]
    assert str(made.report.files["html"]) in repr(made.report)


def test_notebook_can_be_read_without_a_kernel_and_run_again(notebook: Any, made: Made) -> None:
    found = outputs(notebook)
    assert {output.output_type for output in found} == {"display_data"}
    pictures = [output for output in found if "image/png" in output.data]
    assert len(pictures) == 3
    assert all("data:image/png;base64," in output.data["text/html"] for output in pictures)
    assert "widgets" not in notebook.metadata
    assert not any(WIDGET_VIEW in output.data for output in found)
    sources = [cell.source for cell in notebook.cells if cell.cell_type == "code"]
    assert f'runs = ["{made.runs[0]}"]' in sources[1]
    assert max(len(source.splitlines()) for source in sources[3:]) == 1
    assert made.report.files["ipynb"].stat().st_size < 1_500_000
    assert "papermill" not in made.report.files["ipynb"].read_text()


def test_page_draws_its_charts_without_a_network(page: Offline) -> None:
    shown = page.page
    expect(shown.locator(".verl-lab-report-alive")).to_have_count(3)
    for label in ("Reward", "KL to reference", "Health"):
        expect(chart(shown, label).locator(".js-line").first).to_be_attached()
    assert shown.locator(".verl-lab-report-still").first.is_hidden()
    kl = chart(shown, "KL to reference")
    expect(kl.locator(".verl-lab-unit")).to_have_text("nats")
    expect(kl.locator("[class*=tracevllimit] .js-line")).to_be_attached()
    expect(kl.locator("[class*=tracevlflag] .point").first).to_be_attached()
    expect(chart(shown, "Health").locator("[class*=tracevlflag] .point").first).to_be_attached()
    assert chart(shown, "Health").locator(".ytick text").all_text_contents() == ["0", "50", "100"]
    assert page.asked[0].startswith("file:")


def test_a_range_dragged_over_is_shown_in_all_charts_until_a_double_click(page: Offline) -> None:
    shown = page.page
    ticks = chart(shown, "Reward").locator(".xtick text")
    kl = chart(shown, "KL to reference")
    plot = kl.locator(".nsewdrag")
    expect(ticks.first).to_be_attached()
    before = ticks.all_text_contents()
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    assert box is not None
    middle = box["y"] + box["height"] / 2
    shown.mouse.move(box["x"] + 0.6 * box["width"], middle)
    shown.mouse.down()
    shown.mouse.move(box["x"] + 0.8 * box["width"], middle, steps=4)
    shown.mouse.up()
    expect(ticks.first).not_to_have_text(before[0])
    kl.locator(".nsewdrag").dblclick()
    expect(ticks.first).to_have_text(before[0])


def test_page_is_dark_where_the_system_is_and_fits_a_phone(made: Made, open_offline: Callable[..., Offline]) -> None:
    ground = "getComputedStyle(document.querySelector('main')).backgroundColor"
    light = open_offline(made.report.files["html"], width=400).page
    dark = open_offline(made.report.files["html"], scheme="dark").page
    assert light.evaluate(ground) == "rgb(255, 255, 255)"
    assert max(int(part) for part in dark.evaluate(ground)[4:-1].split(",")) < 60
    expect(chart(light, "Reward").locator(".js-line").first).to_be_attached()
    assert light.evaluate("document.documentElement.scrollWidth") == 400


def test_names_and_samples_stay_text(page: Offline) -> None:
    shown = page.page
    expect(shown.locator("h1")).to_have_text(f"Report: leap {HOSTILE}")
    expect(shown.locator(".verl-lab-report-alive")).to_have_count(3)
    assert shown.title().endswith(HOSTILE)
    assert shown.locator("td", has_text=f"answer 0 {HOSTILE}").count() == 1
    assert shown.locator("main img:not([src^='data:'])").count() == 0
    assert shown.evaluate("window.pwned") is None


def test_page_says_what_it_was_how_it_did_and_how_it_differs(page: Offline) -> None:
    shown = page.page
    verdict = shown.locator(".verl-lab-verdict")
    expect(verdict).to_contain_text("Completed all 30 steps; reward went from")
    expect(verdict).to_contain_text("drift from the reference")
    assert verdict.get_attribute("data-severity") == "critical"
    text = shown.locator("main").inner_text()
    assert "What it was: Adds small numbers." in text
    assert "Source: " in shown.locator(".verl-lab-finding").first.inner_text()
    rows = {tuple(row.split("\t")) for row in shown.locator("tr").all_inner_texts()}
    assert ("actor_rollout_ref.actor.optim.lr", "1e-06", "0.001") in rows
    assert ("data.seed", "7", "null", "at launch") in rows
    assert ("actor_rollout_ref.actor.optim.lr", "0.001", "1e-06", "recipe leap") in rows
    assert ("baseline", "train", "sums", "a" * 12) in rows
    assert ("train", "sums", "–", "b" * 12) in rows
    assert "in 1 of 3 all responses score the same" in text
    assert "The host was not measured." in text
    assert shown.locator(".verl-lab-line", has_text="calm").count() == 1


def test_page_runs_no_script_but_its_own(made: Made, tmp_path: Path, chromium: Any) -> None:
    page = made.report.files["html"].read_text("utf-8")
    forged = tmp_path / "forged.html"
    forged.write_text(page.replace("<main>", f"<main>{HOSTILE}<script>window.pwned = 2</script>", 1), "utf-8")
    context = chromium.new_context(offline=True)
    shown = context.new_page()
    shown.goto(forged.as_uri())
    expect(shown.locator(".verl-lab-report-alive")).to_have_count(3)
    assert shown.evaluate("window.pwned") is None
    context.close()


def test_report_is_printed_with_its_pictures(notebook: Any, page: Offline, tmp_path: Path) -> None:
    kept = keep(notebook, tmp_path, "printed", title="printed", formats=("pdf",))
    assert [path.name for path in tmp_path.iterdir()] == ["printed.pdf"]
    content = kept["pdf"].read_bytes()
    assert content.startswith(b"%PDF-")
    assert content.count(b"/Subtype /Image") >= 3
    expect(page.page.locator(".verl-lab-report-alive")).to_have_count(3)
    page.page.emulate_media(media="print")
    expect(page.page.locator(".verl-lab-report-still").first).to_be_visible()
    expect(page.page.locator("figure").first).to_be_hidden()
    page.page.emulate_media(media="screen")


def test_reports_are_compared_where_their_runs_are_not(made: Made, tmp_path: Path) -> None:
    with Lab(made.home) as lab:
        calm = lab.diff_reports("calm", made.report.files["ipynb"])
    assert calm.configuration is not None
    assert calm.configuration.telling == ["actor_rollout_ref.actor.optim.lr"]
    with Lab(tmp_path / "elsewhere") as lab:
        same = lab.diff_reports(made.report.files["ipynb"], made.report.files["html"])
        assert "No setting differs that matters." in repr(same)
        assert "Both have the same findings." in repr(same)
        with pytest.raises(NotFoundError, match=r"there is no file"):
            lab.diff_reports(tmp_path / "none.ipynb", made.report.files["ipynb"])
        for name, text in (("other.ipynb", '{"cells": []}'), ("prose.ipynb", "prose"), ("list.ipynb", "[1]")):
            (tmp_path / name).write_text(text)
            with pytest.raises(FormatError, match="is no report"):
                lab.diff_reports(tmp_path / name, made.report.files["ipynb"])
    (row,) = [one for one in calm.values().rows if one[0].startswith("KL to reference")]
    assert row[1] != row[3]
    assert [one[1:3] for one in calm.data().rows] == [("train", "sums"), ("train", "sums")]
    found = [one for one in calm.findings().rows if one[2] == "Drift from the reference"]
    assert [(one[0][:4], one[1]) for one in found] == [("calm", "warning"), ("leap", "critical")]
