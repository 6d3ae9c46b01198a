"""From a lab without runs to one that is about to train, by one click in a real JupyterLab."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import nbformat
import pytest
from jupyterlab_page import running_lab
from playwright.sync_api import expect
from side_panel import SidePanel

from verl_lab import Lab
from verl_lab.domain.run import RunState

from .conftest import DEADLINE_S, until

if TYPE_CHECKING:
    from pathlib import Path

    from playwright.sync_api import Browser

    from .conftest import Task

pytestmark = pytest.mark.timeout(1200)
# The command would first ask for a better name.
SAVE = """async () => {
    const notebook = [...jupyterapp.shell.widgets("main")].find((one) => one.content?.model?.cells);
    await notebook.context.save(); }"""


def test_trying_the_demo_leads_to_grpo_under_way_and_to_a_notebook_that_says_how(
    chromium: Browser, tmp_path: Path, task: Task
) -> None:
    # Making it takes a while, and has tests of its own.
    shutil.copytree(task.data, tmp_path / "verl_lab_home" / "demo" / task.data.name)
    context = chromium.new_context(viewport={"width": 1300, "height": 1100})
    page = context.new_page()
    with running_lab(tmp_path) as jupyter, Lab(tmp_path / "verl_lab_home") as lab:
        page.goto(f"{jupyter.url}/lab?token={jupyter.token}&reset")
        page.wait_for_selector(".jp-Launcher", timeout=60_000)
        panel = SidePanel(page)
        panel.show()
        panel.root.get_by_role("button", name="Try the demo").click()
        until(lab.runs, "a run is launched")
        (run,) = lab.runs()
        try:
            # verl and Ray are there; that the recipe trains is seen by the quickstart.
            until(lambda: run.status().phase == "loading model", "that verl loads the model", run)
            cell = page.locator(".jp-Cell", has_text="%verl_train").last
            expect(cell.locator(".verl-lab-panel.verl-lab-live")).to_contain_text("sort-digits-grpo")
            expect(panel.run("sort-digits-grpo")).to_contain_text("loading model")
        finally:
            run.stop(now=True)
        assert run.wait(DEADLINE_S) is RunState.STOPPED
        expect(panel.run("sort-digits-grpo")).to_contain_text("stopped")
        page.evaluate(SAVE)
        context.close()
        (saved,) = jupyter.root.glob("*.ipynb")
    cells = [cell for cell in nbformat.read(saved, as_version=4).cells if cell.source]
    assert [cell.source for cell in cells] == ["%load_ext verl_lab", "%verl_demo", "%verl_train sort-digits-grpo"]
    assert not [output for cell in cells for output in cell.outputs if output.output_type == "error"]
