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
from jupyterlab_page import NotebookPage, RunningLab, open_page, running_chromium, running_lab

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


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Start a headless Chromium; fail with the command to type where there is none."""
    with running_chromium() as browser:
        yield browser


@pytest.fixture
def open_notebook(lab: RunningLab, chromium: Browser) -> Iterator[Callable[..., NotebookPage]]:
    """Return a function that opens a notebook made of the given cells."""
    with contextlib.ExitStack() as cleanup:
        opened: list[NotebookPage] = []

        def open_(*cells: str, width: int = 1300, height: int = 1100, path: str | None = None) -> NotebookPage:
            context = chromium.new_context(viewport={"width": width, "height": height})
            cleanup.callback(context.close)
            shown = open_page(lab, context, *cells, path=path)
            opened.append(shown)
            return shown

        yield open_
        for shown in opened:
            with contextlib.suppress(Exception):  # a kernel that the test ended is gone already
                shown.shut_down_kernel()
    assert [shown.outside for shown in opened if shown.outside] == []
    assert [shown.errors for shown in opened if shown.errors] == []
