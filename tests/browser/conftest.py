"""Fixtures of the browser tests.

A test that uses ``open_notebook`` fails if the page asked for anything outside this machine, or if
the console showed an error of ours.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

sys.path.append(str(Path(__file__).parent))
from jupyterlab_page import NotebookPage, RunningLab, open_page, running_lab
from run_folder import RunFolder
from side_panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser, Page, ViewportSize


# A machine that trains beside the tests lets a page wait; what never comes still fails.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """Start a JupyterLab with folders of its own, and end it after the last test."""
    with running_lab(tmp_path_factory.mktemp("jupyter")) as lab:
        yield lab


class SharedPage:
    """The page and kernel that tests use one after the other: to load JupyterLab and verl-lab takes seconds of CPU."""

    def __init__(self) -> None:
        self.shown: NotebookPage | None = None
        self.kernel: str | None = None

    def leave(self) -> None:
        """Let the next test have its kernel, without what was done in it; where that cannot be, it gets another."""
        if self.shown is None:
            return
        self.kernel = None
        with contextlib.suppress(Exception):  # a kernel that the test ended is gone already
            self.kernel = self.shown.emptied_kernel()
            if self.kernel is None:
                self.shown.shut_down_kernel()

    def close(self) -> None:
        """Close it; the next notebook gets another."""
        if self.shown is not None:
            with contextlib.suppress(Exception):
                self.shown.shut_down_kernel()
            self.shown.page.context.close()
        self.shown = self.kernel = None


@pytest.fixture(scope="session")
def shared_page(chromium: Browser) -> Iterator[SharedPage]:
    """Return what holds the shared page, and close it after the last test."""
    shared = SharedPage()
    yield shared
    shared.close()


@pytest.fixture
def open_notebook(
    request: pytest.FixtureRequest, lab: RunningLab, chromium: Browser, shared_page: SharedPage
) -> Iterator[Callable[..., NotebookPage]]:
    """Return a function that opens a notebook made of the given cells.

    A test that looks at the page itself, or changes it for good, asks for ``own_page``, or is handed the page with
    ``before_load``. What is opened beside another notebook has a page of its own.
    """
    failed_before = request.session.testsfailed
    with contextlib.ExitStack() as cleanup:
        opened: list[NotebookPage] = []

        def in_shared_page(cells: tuple[str, ...], size: ViewportSize, path: str | None) -> NotebookPage:
            if shared_page.shown is None:
                shared_page.shown = open_page(lab, chromium.new_context(viewport=size), *cells, path=path)
            else:
                shared_page.shown.page.set_viewport_size(size)
                shared_page.shown.take_next(*cells, path=path, kernel=shared_page.kernel)
            return shared_page.shown

        def open_(
            *cells: str,
            width: int = 1300,
            height: int = 1100,
            path: str | None = None,
            own_page: bool = False,
            before_load: Callable[[Page], None] | None = None,
        ) -> NotebookPage:
            size: ViewportSize = {"width": width, "height": height}
            if own_page or before_load or opened:
                context = chromium.new_context(viewport=size)
                cleanup.callback(context.close)
                shown = open_page(lab, context, *cells, path=path, before_load=before_load)
            else:
                shown = in_shared_page(cells, size, path)
            opened.append(shown)
            return shown

        yield open_
        for shown in opened:
            if shown is shared_page.shown:
                shared_page.leave()
            else:
                with contextlib.suppress(Exception):
                    shown.shut_down_kernel()
    outside, errors = (
        [list(noted) for shown in opened if (noted := getattr(shown, kind))] for kind in ("outside", "errors")
    )
    if request.session.testsfailed > failed_before or outside or errors:
        shared_page.close()  # nobody knows in which state it is
    assert outside == []
    assert errors == []


@pytest.fixture
def panel(open_notebook: Callable[..., NotebookPage]) -> Iterator[Panel]:
    """Return the side panel beside an empty notebook; afterwards the page is as other tests expect it."""
    shown = Panel(open_notebook(""))
    yield shown
    shown.page.evaluate("() => { jupyterapp.shell.collapseLeft(); }")


@pytest.fixture(scope="session")
def make_run(lab: RunningLab) -> Callable[..., RunFolder]:
    """Return what makes a run in the lab that the server reads."""
    recording = Path(__file__).parents[1] / "recordings" / "verl-0.9.1" / "grpo-30-steps.jsonl"
    made: list[RunFolder] = []

    def make(name: str, steps: int = 12, **given: Any) -> RunFolder:
        run = f"20260101-0000{len(made):02}-panel-abcd"
        made.append(RunFolder(lab.root.parent / "verl_lab_home", run, recording, name=name, **given))
        made[-1].take_steps(steps)
        return made[-1]

    return make
