"""Fixtures of the browser tests.

A test that uses ``open_notebook`` fails if the page asked for anything outside this machine, or if
the console showed an error of ours.
"""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

sys.path.append(str(Path(__file__).parent))
from jupyterlab_page import NotebookPage, RunningLab, open_page, running_lab

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser


# A machine that trains beside the tests lets a page wait; what never comes still fails.
expect.set_options(timeout=30_000)


@pytest.fixture(scope="session")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningLab]:
    """Start a JupyterLab with folders of its own, and end it after the last test."""
    with running_lab(tmp_path_factory.mktemp("jupyter")) as lab:
        yield lab


class SharedPage:
    """The page in which tests open their notebooks one after the other: to load JupyterLab takes seconds of CPU."""

    def __init__(self) -> None:
        self.shown: NotebookPage | None = None

    def close(self) -> None:
        """Close it; the next notebook gets another."""
        if self.shown is not None:
            self.shown.page.context.close()
        self.shown = None


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

    A test that looks at the page itself, or changes it for good, asks for ``own_page``. What is opened by its
    ``path`` and what is opened beside another notebook has a page of its own.
    """
    failed_before = request.session.testsfailed
    with contextlib.ExitStack() as cleanup:
        opened: list[NotebookPage] = []

        def in_page_of_its_own(cells: tuple[str, ...], width: int, height: int, path: str | None) -> NotebookPage:
            context = chromium.new_context(viewport={"width": width, "height": height})
            cleanup.callback(context.close)
            return open_page(lab, context, *cells, path=path)

        def in_shared_page(cells: tuple[str, ...], width: int, height: int) -> NotebookPage:
            if shared_page.shown is None:
                context = chromium.new_context(viewport={"width": width, "height": height})
                shared_page.shown = open_page(lab, context, *cells)
            else:
                shared_page.shown.page.set_viewport_size({"width": width, "height": height})
                shared_page.shown.take_next(*cells)
            return shared_page.shown

        def open_(
            *cells: str, width: int = 1300, height: int = 1100, path: str | None = None, own_page: bool = False
        ) -> NotebookPage:
            if own_page or path is not None or opened:
                shown = in_page_of_its_own(cells, width, height, path)
            else:
                shown = in_shared_page(cells, width, height)
            opened.append(shown)
            return shown

        yield open_
        for shown in opened:
            with contextlib.suppress(Exception):  # a kernel that the test ended is gone already
                shown.shut_down_kernel()
    outside, errors = (
        [list(noted) for shown in opened if (noted := getattr(shown, kind))] for kind in ("outside", "errors")
    )
    if request.session.testsfailed > failed_before or outside or errors:
        shared_page.close()  # nobody knows in which state it is
    assert outside == []
    assert errors == []
