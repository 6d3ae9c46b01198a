"""The side panel of a page, as tests use it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyterlab_page import NotebookPage
    from playwright.sync_api import Locator, Page


@dataclass
class SidePanel:
    """The side panel, in a page where JupyterLab is loaded."""

    page: Page

    @property
    def root(self) -> Locator:
        """The panel's element."""
        return self.page.locator(".vl-panel")

    def show(self, tab: str = "Runs", search: str | None = None) -> None:
        """Show one of its tabs; ``search`` is typed above the list of runs."""
        self.page.evaluate("async () => { await jupyterapp.commands.execute('verl-lab:show'); }")
        self.root.get_by_role("tab", name=tab, exact=True).click()
        if search is not None:
            self.root.get_by_role("searchbox", name="Find a run").fill(search)

    def run(self, name: str) -> Locator:
        """Return the run's line in the list."""
        return self.root.locator(".vl-run", has=self.page.get_by_text(name, exact=True))


class Panel(SidePanel):
    """The side panel beside a notebook."""

    def __init__(self, notebook: NotebookPage) -> None:
        super().__init__(notebook.page)
        self.notebook = notebook

    def expect_refusal(self, status: int) -> None:
        """Take out what the browser itself logs of a request that was refused as it should be."""
        (told,) = self.notebook.errors
        assert f"status of {status} " in told
        self.notebook.errors.clear()

    def sources(self) -> list[str]:
        """Return the texts of the notebook's cells."""
        return self.page.evaluate(
            """() => [...jupyterapp.shell.widgets("main")].find((one) => one.content?.model?.cells)
                     .content.widgets.map((cell) => cell.model.sharedModel.getSource())"""
        )
