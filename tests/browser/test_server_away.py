"""A server that is started again, that wants a new login, and a run that is deleted: seen in pages that were open."""

from __future__ import annotations

import re
import secrets
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from driving import LIVE, drawn_points
from jupyterlab_page import LabServer
from playwright.sync_api import expect
from run_folder import RunFolder
from side_panel import SidePanel

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jupyterlab_page import RunningLab
    from playwright.sync_api import Browser, BrowserContext, Locator, Page

RECORDING = Path(__file__).parents[1] / "recordings" / "verl-0.9.1" / "grpo-30-steps.jsonl"


class OwnServer(LabServer):
    """One that a test may stop."""

    def __init__(self, base: Path) -> None:
        super().__init__(base)
        self.base = base
        self.token = secrets.token_hex(16)
        self.lab: RunningLab = self.start(self.token)

    def start_again(self) -> None:
        """Start it as it was."""
        self.lab = self.start(self.token)

    def expire(self) -> None:
        """Start it so that it knows nobody who is logged in."""
        (self.base / "jupyter_runtime_dir" / "jupyter_cookie_secret").unlink()
        self.token = secrets.token_hex(16)
        self.start_again()

    def page(self, context: BrowserContext) -> SidePanel:
        """Load JupyterLab in a page, with an empty main area."""
        page = context.new_page()
        page.goto(f"{self.lab.url}/lab/workspaces/{secrets.token_hex(4)}?token={self.token}")
        page.wait_for_function("window.jupyterapp", timeout=60_000)
        page.evaluate("async () => { await jupyterapp.restored; }")
        # JupyterLab's own word that the server is away lies over the page until it is closed.
        page.add_locator_handler(page.locator(".jp-Dialog"), lambda dialog: dialog.press("Escape"))
        return SidePanel(page)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OwnServer]:
    """Return a server of this module's own."""
    made = OwnServer(tmp_path_factory.mktemp("away"))
    yield made
    made.stop()


@pytest.fixture(scope="module")
def context(chromium: Browser) -> Iterator[BrowserContext]:
    """Return a browser's own cookies and pages."""
    context = chromium.new_context(viewport={"width": 1300, "height": 900})
    yield context
    context.close()


@pytest.fixture(scope="module")
def run(server: OwnServer) -> RunFolder:
    """Return a run that goes on."""
    made = RunFolder(server.base / "verl_lab_home", "20260101-000000-away-abcd", RECORDING, name="goes on")
    made.take_steps(12)
    return made


@pytest.fixture(scope="module")
def panel(server: OwnServer, context: BrowserContext, run: RunFolder) -> SidePanel:
    """Return a page in which the run is open and a learning rate is typed into a recipe."""
    panel = server.page(context)
    panel.show()
    expect(panel.run(run.name)).to_contain_text("step 12 of 60")
    panel.run(run.name).dblclick()
    expect(tab(panel).locator(".js-line").first).to_be_visible()
    panel.show("Recipes")
    panel.root.get_by_role("button", name=re.compile("^grpo-cpu")).click()
    rate(panel).fill("0.00002")
    expect(panel.root.get_by_role("region", name="Check")).to_contain_text("model")
    return panel


def rate(panel: SidePanel) -> Locator:
    return panel.root.get_by_label("Learning rate", exact=True)


def tab(panel: SidePanel) -> Locator:
    return panel.page.locator(f".vl-document {LIVE}")


def shows_points(panel: SidePanel, count: int) -> None:
    """Wait until so many values of the reward are drawn in the run's tab."""
    reward = tab(panel).locator("figure", has=panel.page.locator("b:text-is('Reward')"))
    for _ in range(1200):
        if drawn_points(reward) == count:
            return
        panel.page.wait_for_timeout(25)
    pytest.fail(f"{drawn_points(reward)} values are drawn and not {count}.")


def test_a_server_that_starts_again_is_found_by_every_page_and_no_typed_input_is_lost(
    server: OwnServer, context: BrowserContext, panel: SidePanel, run: RunFolder
) -> None:
    second = server.page(context)
    second.show()
    expect(second.run(run.name)).to_contain_text("step 12 of 60")
    server.stop()
    for one in (panel, second):
        expect(one.root.get_by_text("Not connected to the server")).to_be_visible()
    expect(tab(panel).get_by_role("alert").filter(has_text="The server does not answer")).to_be_visible()
    rate(panel).fill("0.00003")
    check = panel.root.get_by_role("alert").filter(has_text="The Jupyter server does not answer")
    expect(check).to_be_visible()
    run.take_steps(3)

    server.start_again()
    expect(second.run(run.name)).to_contain_text("step 15 of 60")
    expect(panel.root.get_by_role("region", name="Check")).to_contain_text("model")
    expect(check).to_be_hidden()
    expect(rate(panel)).to_have_value("0.00003")
    shows_points(panel, 15)
    for one in (panel, second):
        expect(one.root.get_by_text("Not connected to the server")).to_be_hidden()
    second.page.close()


def test_an_expired_session_says_so_and_goes_on_after_a_login_in_another_tab(
    server: OwnServer, context: BrowserContext, panel: SidePanel, run: RunFolder
) -> None:
    server.stop()
    server.expire()
    expired = panel.root.get_by_text("Your session has expired")
    expect(expired).to_be_visible()
    expect(panel.page.locator(".vl-status")).to_contain_text("log in again")
    expect(tab(panel).get_by_role("alert").filter(has_text="Your session has expired")).to_be_visible()
    with context.expect_page() as opened:
        panel.root.get_by_role("button", name="Log in").click()
    log_in(opened.value, server.token)
    panel.root.get_by_role("button", name="Now").click()
    expect(expired).to_be_hidden()
    expect(rate(panel)).to_have_value("0.00003")
    run.take_steps(2)
    shows_points(panel, 17)


def log_in(page: Page, token: str) -> None:
    """Log in as a person does."""
    page.locator("input[name=password]").first.fill(token)
    page.get_by_role("button", name="Log in").first.click()
    page.wait_for_url("**/lab**", wait_until="commit")
    page.close()


def test_a_run_that_is_deleted_says_so_in_its_tab_and_in_the_list(
    panel: SidePanel, server: OwnServer, run: RunFolder
) -> None:
    shutil.rmtree(server.base / "verl_lab_home" / "runs" / run.id)
    expect(tab(panel)).to_contain_text("its folder is gone")
    shows_points(panel, 17)
    panel.show(search=run.name)
    expect(panel.run(run.name)).to_contain_text("lost: its folder is gone")
