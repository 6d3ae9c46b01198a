"""A lab with recorded runs, one report made of them for all tests, and a browser without a network."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from playwright.sync_api import expect

from verl_lab import Lab

sys.path.append(str(Path(__file__).parent))
sys.path.append(str(Path(__file__).parents[1] / "widgets"))
from recorded import Made, Offline, fill

# A machine with other work lets a page wait; what never comes still fails.
expect.set_options(timeout=60_000)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from playwright.sync_api import Browser


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    """Make one report of a run and its baseline, in a kernel of its own."""
    home = tmp_path_factory.mktemp("home")
    told: list[str] = []
    with Lab(home) as lab:
        run, baseline = fill(lab)
        to = tmp_path_factory.mktemp("made") / "reports"
        report = lab.report(run, baseline=baseline, to=to, progress=told.append)
    return Made(home, report, told, [run, baseline])


@pytest.fixture(scope="module")
def open_offline(chromium: Browser) -> Iterator[Callable[..., Offline]]:
    """Return what opens a file in a browser that reaches nothing else; fail if it asked for more or showed errors."""
    opened: list[Offline] = []

    def open_(path: Path, *, width: int = 1200, scheme: Any = "light") -> Offline:
        context = chromium.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme, offline=True)
        shown = Offline(context.new_page())
        opened.append(shown)
        shown.page.on("request", lambda request: shown.asked.append(request.url))
        shown.page.on("pageerror", lambda error: shown.errors.append(str(error)))
        shown.page.on(
            "console", lambda said: shown.errors.append(said.text) if said.type in ("error", "warning") else None
        )
        shown.page.goto(path.as_uri())
        return shown

    yield open_
    for shown in opened:
        shown.page.context.close()
        assert [url for url in shown.asked[1:] if not url.startswith(("blob:", "data:"))] == []
        assert shown.errors == []
