"""Outputs that the server keeps live: in a real JupyterLab with verl-lab's labextension and server extension."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from driving import LIVE, Connection, drawn_points, wait_for
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyterlab_page import RunningLab
    from playwright.sync_api import Locator


class GrowingLog:
    """A recorded log that is written line by line."""

    def __init__(self, path: Path, recording: Path) -> None:
        self.path = path
        self._lines = recording.read_bytes().splitlines(keepends=True)

    def grow(self, steps: int) -> None:
        with self.path.open("ab") as file:
            file.write(b"".join(self._lines[:steps]))
        del self._lines[:steps]


@pytest.fixture
def log(tmp_path: Path, recordings: Path) -> GrowingLog:
    """Return a log with 20 steps in it."""
    made = GrowingLog(tmp_path / "grpo.jsonl", recordings / "grpo-30-steps.jsonl")
    made.grow(20)
    return made


def watching(log: GrowingLog) -> str:
    return f"%load_ext verl_lab\n%verl_watch {log.path}"


def cell(notebook: Any, index: int) -> Locator:
    return notebook.page.locator(".jp-Cell").nth(index)


def points(shown: Locator) -> int:
    """Return how many values of the reward are drawn in a cell."""
    figure = shown.locator(f"{LIVE} figure", has=shown.page.locator("b:text-is('Reward')"))
    return drawn_points(figure)


def test_reloaded_page_is_live_beside_a_busy_cell_and_after_a_break(
    open_notebook: Callable[..., Any], log: GrowingLog, tmp_path: Path
) -> None:
    until = tmp_path / "until"
    busy = f"import os, time\nwhile not os.path.exists({str(until)!r}): time.sleep(0.1)"
    notebook = open_notebook(watching(log), busy, own_page=True)
    page, panel = notebook.page, cell(notebook, 0)
    assert page.evaluate("jupyterapp.hasPlugin('verl-lab:renderer')"), "Not built: make labextension"
    notebook.run_cell(0)
    wait_for(notebook, lambda: points(panel) > 10)
    before = points(panel)
    notebook.start_cell(1)
    notebook.save()
    connection = Connection("/verl-lab/api/panel?")
    connection.of(page)
    notebook.load(kernel=False)
    expect(panel.locator(LIVE)).to_be_visible()
    expect(panel.locator(".verl-lab-still")).to_be_hidden()
    wait_for(notebook, lambda: points(panel) == before)
    log.grow(5)
    wait_for(notebook, lambda: points(panel) == before + 5)

    page.get_by_role("button", name="Held-out score").click()
    chosen_away = panel.locator("figure", has=page.locator("b:text-is('Held-out score')"))
    expect(chosen_away).to_have_count(0)
    connection.cut()
    lost = page.get_by_role("alert").filter(has_text="The server does not answer")
    expect(lost).to_be_visible()
    log.grow(2)
    connection.mend()
    wait_for(notebook, lambda: points(panel) == before + 7)
    expect(lost).to_be_hidden()
    expect(chosen_away).to_have_count(0)
    until.touch()


def test_panel_goes_on_without_its_kernel_and_in_a_notebook_opened_again(
    open_notebook: Callable[..., Any], lab: RunningLab, log: GrowingLog, tmp_path: Path, recordings: Path
) -> None:
    apart = GrowingLog(tmp_path / "apart.jsonl", recordings / "grpo-30-steps.jsonl")
    apart.grow(20)
    elsewhere = f"from verl_lab import Lab\nhere = Lab({str(tmp_path / 'elsewhere')!r})"
    notebook = open_notebook(watching(log), f"{elsewhere}\nhere.attach({str(apart.path)!r}).watch();")
    known, unknown = cell(notebook, 0), cell(notebook, 1)
    notebook.run_cell(0)
    notebook.run_cell(1)
    for shown in (known, unknown):
        wait_for(notebook, lambda shown=shown: points(shown) > 10)
        expect(shown.locator(".verl-lab-still")).to_be_hidden()
    before = points(known)
    for shown, its_log in ((known, log), (unknown, apart)):
        its_log.grow(2)
        wait_for(notebook, lambda shown=shown: points(shown) == before + 2)
    notebook.shut_down_kernel()
    log.grow(2)
    wait_for(notebook, lambda: points(known) == before + 4)
    expect(known.get_by_text("The kernel that showed this run is gone")).to_be_hidden()
    saved = notebook.save()

    again = open_notebook(path=notebook.path)
    wait_for(again, lambda: points(cell(again, 0)) == before + 4)
    expect(cell(again, 1).locator(".verl-lab-still img")).to_be_visible()
    expect(again.page.get_by_text("Error displaying widget")).to_be_hidden()

    hostile = '<img src=x onerror="window.hurt = 1">'
    for one in saved.cells:
        one.outputs[0].data["text/plain"] += "\nchanged by someone else"
    saved.cells[1].outputs[0].data["application/vnd.verl-lab.panel+json"]["runs"] = [hostile]
    nbformat.write(saved, lab.root / "foreign.ipynb")
    again.show("foreign.ipynb")
    known, refused = cell(again, 0), cell(again, 1)
    wait_for(again, lambda: points(known) == before + 4)
    expect(known.locator(".verl-lab-still")).to_be_hidden()
    expect(refused.get_by_text("changed by someone else")).to_be_visible()
    expect(refused.locator(".verl-lab-still img")).to_be_visible()
    assert again.page.evaluate("window.hurt") is None
