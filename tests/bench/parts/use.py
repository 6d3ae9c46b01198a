"""A person who uses the side panel, and how long the page took to show what they did."""

from __future__ import annotations

import itertools
import time
from typing import TYPE_CHECKING, Any

from playwright.sync_api import Error as PlaywrightError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from parts.crowd import Crowd
    from playwright.sync_api import Page

PAUSE_S = 1.5
# The browser tells of what took longer than 16 ms; all events of one interaction have one number.
NOTE_EVENTS = """() => {
    window.events = [];
    new PerformanceObserver((list) => {
        for (const one of list.getEntries()) if (one.interactionId)
            window.events.push([one.interactionId, one.duration, one.name, one.startTime]);
    }).observe({ type: "event", durationThreshold: 16, buffered: false });
}"""
CLOSE_RUNS = """() => {
    for (const one of [...jupyterapp.shell.widgets("main")]) if (one.id.startsWith("verl-lab-run")) one.close();
}"""
UNSEEN_MS = 16.0


class Person:
    """Uses the list of runs as a person would."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._done: list[tuple[str, float, float, int]] = []
        self._root = page.locator(".vl-panel")
        page.evaluate(NOTE_EVENTS)

    def show_runs(self, count: int) -> None:
        """Open the list, and wait until so many runs are in it."""
        self._page.evaluate("async () => { await jupyterapp.commands.execute('verl-lab:show'); }")
        self._wait(f".vl-run[aria-setsize='{count}']")

    def open(self, run: str) -> None:
        """Open a run in a tab of its own, and wait for its charts."""
        self._page.evaluate(
            "async (run) => { await jupyterapp.commands.execute('verl-lab:open', { runs: [run] }); }", run
        )
        self._wait(".vl-document .verl-lab-live .js-line")

    def use(self, crowd: Crowd, seconds: float) -> None:
        """Do one thing after the other for so long."""
        until = time.monotonic() + seconds
        for kind, does in itertools.cycle(self._habits(crowd)):
            if time.monotonic() > until:
                return
            before = self._page.evaluate("performance.now()")
            count = does()
            self._page.wait_for_timeout(PAUSE_S * 1000)
            self._done.append((kind, before, self._page.evaluate("performance.now()"), count))

    def _wait(self, selector: str) -> None:
        # By a locator: a handle would keep what it found, with all that hangs on it, in the page's memory.
        self._page.locator(selector).first.wait_for(timeout=120_000)

    def forget(self) -> None:
        """Count from here on."""
        self._done.clear()
        self._page.evaluate("() => { window.events.length = 0; }")

    def kinds(self) -> Iterator[tuple[str, list[float]]]:
        """Give each kind of interaction with how long each of them took."""
        seen: list[Any] = self._page.evaluate("window.events")
        for kind in dict.fromkeys(one[0] for one in self._done):
            found: list[float] = []
            for _, begun, ended, count in (one for one in self._done if one[0] == kind):
                longest: dict[int, float] = {}
                for number, duration, _name, at in seen:
                    if begun <= at <= ended:
                        longest[number] = max(duration, longest.get(number, 0.0))
                found += [*longest.values(), *[UNSEEN_MS] * (count - len(longest))]
            yield kind, found

    def _habits(self, crowd: Crowd) -> list[tuple[str, Any]]:
        return [
            ("type into the search", lambda: self._search("live 1")),
            ("clear the search", self._clear),
            ("order", lambda: self._choose("Order")),
            ("group", lambda: self._choose("Groups")),
            ("choose a run", self._click),
            ("move by keys", self._move),
            ("open another run", lambda: self._open_next(crowd)),
            ("scroll and choose", self._scroll),
        ]

    def _search(self, text: str) -> int:
        self._root.get_by_role("searchbox", name="Find a run").click()
        for letter in text:
            self._page.keyboard.press(letter if letter != " " else "Space")
            self._page.wait_for_timeout(120)
        return len(text) + 1

    def _clear(self) -> int:
        self._root.get_by_role("searchbox", name="Find a run").click()
        self._page.keyboard.press("ControlOrMeta+a")
        self._page.keyboard.press("Delete")
        return 3

    def _choose(self, name: str) -> int:
        choice = self._root.get_by_role("combobox", name=name)
        choice.focus()
        is_last = choice.evaluate("(one) => one.selectedIndex === one.options.length - 1")
        self._page.keyboard.press("Home" if is_last else "ArrowDown")
        return 1

    def _click(self) -> int:
        self._root.locator(".vl-run").nth(2).click()
        return 1

    def _move(self) -> int:
        self._root.get_by_role("listbox", name="Runs").focus()
        for key in ("Home", "ArrowDown", "ArrowDown", "PageDown", "End", "Home"):
            self._page.keyboard.press(key)
            self._page.wait_for_timeout(120)
        return 6

    def _open_next(self, crowd: Crowd) -> int:
        """Open one of the runs that go on; the one before is closed, as tabs are."""
        self._page.evaluate(CLOSE_RUNS)
        number = len(self._done) % len(crowd.live)
        self._root.get_by_role("searchbox", name="Find a run").fill(f"live {number}")
        row = self._root.locator(f".vl-run[data-run='{crowd.live[number].id}']")
        opened = self._page.locator(".vl-document")
        while not opened.count():  # the list is told of news at any time: a row may have moved between two clicks
            row.dblclick()
            self._page.wait_for_timeout(500)
        try:
            self._wait(".vl-document .verl-lab-live .js-line")
        except PlaywrightError:
            self._page.screenshot(path="build/bench-page.png")
            raise
        self._root.get_by_role("searchbox", name="Find a run").fill("")
        return 2

    def _scroll(self) -> int:
        self._root.get_by_role("listbox", name="Runs").hover()
        for _ in range(5):
            self._page.mouse.wheel(0, 700)
            self._page.wait_for_timeout(100)
        self._root.locator(".vl-run").nth(12).click()
        self._page.mouse.wheel(0, -10_000)
        return 1
