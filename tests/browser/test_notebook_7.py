"""The same outputs in Notebook 7: live from the server, live from the kernel, and as the picture that was saved."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from driving import LIVE, drawn_points, setup
from playwright.sync_api import expect

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from jupyterlab_page import RunningLab
    from playwright.sync_api import Browser, Locator, Page
    from run_folder import RunFolder


def test_panels_live_in_notebook_7_by_the_server_and_by_the_kernel_and_leave_pictures(
    lab: RunningLab, chromium: Browser, make_run: Callable[..., RunFolder], recordings: Path
) -> None:
    run = make_run("in notebook 7")
    sources = [f"%load_ext verl_lab\n%verl_watch {run.id}", f"{setup(recordings, steps=20)}\nshow(panel)"]
    cells: list[Any] = [nbformat.v4.new_code_cell(source) for source in sources]
    notebook = nbformat.v4.new_notebook(cells=cells)
    notebook.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(notebook, lab.root / "seven.ipynb")
    context = chromium.new_context(viewport={"width": 1300, "height": 1400})
    page = opened(context.new_page(), lab, "seven.ipynb")
    by_server, by_kernel = page.locator(".jp-CodeCell").nth(0), page.locator(".jp-CodeCell").nth(1)
    by_server.locator(".cm-content").click()
    page.keyboard.press("Shift+Enter")
    page.keyboard.press("Shift+Enter")
    shows_points(by_server, 12)
    shows_points(by_kernel, 19)  # of 20 lines, the first is what was validated before the first step
    expect(by_kernel.locator(".verl-lab-still")).to_be_hidden()
    run.take_steps(2)
    shows_points(by_server, 14)

    page.get_by_role("button", name="Save and create checkpoint").click()
    saved = saved_with_outputs(page, lab)
    nbformat.write(saved, lab.root / "seven-again.ipynb")
    again = opened(page, lab, "seven-again.ipynb")
    shows_points(again.locator(".jp-CodeCell").nth(0), 14)
    expect(again.locator(".jp-CodeCell").nth(1).locator(".verl-lab-still img")).to_be_visible()
    context.close()


def opened(page: Page, lab: RunningLab, name: str) -> Page:
    """Open a notebook, and wait until it is connected to its kernel: what is run before that is lost."""
    page.goto(f"{lab.url}/notebooks/{name}?token={lab.token}")
    for _ in range(1200):
        sessions: list[Any] = page.request.get(f"{lab.url}/api/sessions?token={lab.token}").json()
        kernels = [one["kernel"] for one in sessions if one["path"] == name]
        if any(kernel["connections"] > 0 and kernel["execution_state"] == "idle" for kernel in kernels):
            return page
        page.wait_for_timeout(50)
    pytest.fail("The notebook has no kernel.")


def saved_with_outputs(page: Page, lab: RunningLab) -> Any:
    """Return the notebook once all of it is on the disk."""
    for _ in range(600):
        saved: Any = nbformat.read(lab.root / "seven.ipynb", as_version=4)
        if all(cell.outputs for cell in saved.cells[:2]):
            return saved
        page.wait_for_timeout(50)
    pytest.fail("The notebook was not saved with its outputs.")


def shows_points(cell: Locator, count: int) -> None:
    """Wait until so many values of the reward are drawn in a cell."""
    reward = cell.locator(f"{LIVE} figure", has=cell.page.locator("b:text-is('Reward')"))
    reward.locator(".js-line").first.wait_for(timeout=60_000)
    for _ in range(600):
        if drawn_points(reward) == count:
            return
        cell.page.wait_for_timeout(50)
    pytest.fail(f"{drawn_points(reward)} values are drawn and not {count}.")
