"""What the browser tests share: the code that opens a panel, and how its charts are looked at."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable

    from playwright.sync_api import Locator, Page, WebSocketRoute

HERE = Path(__file__).parent
LIVE = ".verl-lab-panel.verl-lab-live"
LINE = ".tracevl0 .js-line"


def setup(recordings: Path, recording: str = "grpo-kl-loss-30-steps.jsonl", steps: int = 20, **header: object) -> str:
    """Return a cell that makes ``source``, a recorded run, and ``panel``."""
    header = {"elapsed_s": 64.0, "remaining_s": 62.0, "recipe": "grpo-arithmetic v3", "total": 60, **header}
    return f"""
import sys; sys.path.append({str(HERE.parent / "widgets")!r})
from pathlib import Path
from dataclasses import replace
from replay import Replay
from verl_lab.domain.finding import Finding, Severity
from verl_lab.widgets.panel import Panel, show
from verl_lab.widgets.source import Sample, SampleGroup
recordings = Path({str(recordings)!r})
source = Replay(recordings / {recording!r}, {steps}, **{header!r})
panel = Panel(source)
"""


def chart(notebook: Any, name: str) -> Locator:
    """Return the chart of that heading."""
    return notebook.page.locator(f"{LIVE} figure", has=notebook.page.locator(f"b:text-is('{name}')"))


def drawn_points(figure: Locator, line: str = LINE) -> int:
    """Return how many vertices a line on the screen has."""
    path = figure.locator(line)
    return len(re.findall(r"[MLHV]", path.get_attribute("d") or "")) if path.count() else 0


def wait_for(notebook: Any, holds: Callable[[], bool]) -> None:
    """Wait until something holds; fail if it does not within 30 s."""
    for _ in range(1200):
        if holds():
            return
        notebook.page.wait_for_timeout(25)
    pytest.fail("What was awaited did not show within 30 s.")


@dataclass
class Connection:
    """The WebSockets of a page whose address has ``place`` in it, for as long as nobody cuts them."""

    place: str
    is_cut: bool = False
    _opened: list[WebSocketRoute] = field(default_factory=list["WebSocketRoute"])

    def of(self, page: Page) -> None:
        """Stand between the page and the server from the page's next load on."""
        page.route_web_socket(lambda url: self.place in url, self._pass_on)

    def cut(self) -> None:
        """Close the newest, and let no other come through until it is mended."""
        self.is_cut = True
        self._opened[-1].close()

    def mend(self) -> None:
        """Let the next come through."""
        self.is_cut = False

    def _pass_on(self, socket: WebSocketRoute) -> None:
        if self.is_cut:
            socket.close()
        else:
            socket.connect_to_server()
            self._opened.append(socket)
