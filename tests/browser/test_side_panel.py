"""The side panel in a real JupyterLab: what a person does with it, and what they see."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving import LIVE, Connection, drawn_points, wait_for
from playwright.sync_api import expect
from side_panel import Panel

if TYPE_CHECKING:
    from collections.abc import Callable

    from jupyterlab_page import NotebookPage, RunningLab
    from run_folder import RunFolder

AXE = Path(__file__).parents[2] / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
TABS = ("Runs", "Recipes", "Hosts", "Data", "Environment")
HOSTILE = "<img src=x onerror='window.hurt=1'> **b** {1+1}"


def test_a_run_is_seen_live_opened_and_watched_in_a_cell(panel: Panel, make_run: Callable[..., RunFolder]) -> None:
    run = make_run("live in the list")
    page = panel.page
    panel.show(search=run.name)
    row = panel.run(run.name)
    expect(row).to_contain_text("step 12 of 60")
    expect(row.locator("svg path")).to_have_count(1)
    run.take_steps(2)
    expect(row).to_contain_text("step 14 of 60")

    panel.root.get_by_role("listbox", name="Runs").focus()
    page.keyboard.press("Home")
    expect(row).to_have_attribute("aria-selected", "true")
    panel.root.get_by_role("button", name="Watch").click()
    wait_for(panel.notebook, lambda: panel.sources() == ["%load_ext verl_lab", f"%verl_watch {run.id}"])
    drawn = page.locator(f".jp-Cell {LIVE} figure", has=page.locator("b:text-is('Reward')"))
    wait_for(panel.notebook, lambda: drawn_points(drawn) == 14)

    panel.root.get_by_role("listbox", name="Runs").press("Enter")
    expect(page.locator(".lm-TabBar-tab.jp-mod-current", has_text=run.name)).to_be_visible()
    figure = page.locator(f".vl-document {LIVE} figure", has=page.locator("b:text-is('Reward')"))
    wait_for(panel.notebook, lambda: drawn_points(figure) == 14)
    run.take_steps(2)
    wait_for(panel.notebook, lambda: drawn_points(figure) == 16)


def test_several_runs_are_chosen_by_keyboard_and_compared(panel: Panel, make_run: Callable[..., RunFolder]) -> None:
    for name in ("pair one", "pair two", "pair three"):
        make_run(name)
    panel.show(search="pair")
    box = panel.root.get_by_role("listbox", name="Runs")
    expect(box.get_by_role("option")).to_have_count(3)
    box.focus()
    for key in ("Home", "Shift+ArrowDown", "Shift+ArrowDown"):
        panel.page.keyboard.press(key)
    expect(panel.root.get_by_text("3 runs chosen")).to_be_visible()
    panel.page.keyboard.press("Shift+ArrowUp")
    names = box.locator("[aria-selected=true]").evaluate_all("rows => rows.map((row) => row.dataset.run)")
    panel.root.get_by_role("button", name="Compare").click()
    wait_for(panel.notebook, lambda: panel.sources()[-1].startswith("%verl_compare "))
    assert set(panel.sources()[-1].split()[1:]) == set(names)
    assert len(names) == 2


def test_where_the_setting_says_so_the_server_is_asked_and_its_refusal_is_told(
    make_run: Callable[..., RunFolder], open_notebook: Callable[..., NotebookPage]
) -> None:
    panel = Panel(open_notebook("", own_page=True))
    run = make_run("without a supervisor")
    set_actions = """async (way) => {
        await jupyterapp.serviceManager.settings.save("verl-lab:panel", JSON.stringify({ actions: way })); }"""
    panel.page.evaluate(set_actions, "server")
    panel.notebook.load()
    panel.show(search=run.name)
    panel.run(run.name).click()
    panel.root.get_by_role("button", name="Stop").click()
    expect(panel.page.locator(".Toastify__toast", has_text=run.id)).to_be_visible()
    panel.expect_refusal(409)
    assert panel.sources() == [""]
    panel.page.evaluate(set_actions, "cells")


def test_a_form_is_checked_while_it_is_typed_and_kept_while_another_tab_is_shown(panel: Panel) -> None:
    panel.show("Recipes")
    panel.root.get_by_role("button", name=re.compile("^grpo-cpu")).click()
    form = panel.root.get_by_role("form", name="Recipe grpo-cpu")
    rate = form.get_by_label("Learning rate", exact=True)
    rate.fill("fast")
    expect(form.get_by_text("This is no number.")).to_be_visible()
    expect(form.get_by_role("button", name="Launch")).to_be_disabled()
    panel.show("Runs")
    panel.show("Recipes")
    expect(rate).to_have_value("fast")
    rate.fill("0.00002")
    form.get_by_role("button", name="Add a key").click()
    form.get_by_label("Key 1", exact=True).fill("trainer.total_epoch")
    form.get_by_label("Value 1", exact=True).fill("3")
    expect(form.get_by_role("region", name="Check")).to_contain_text("trainer.total_epoch")
    form.get_by_label("Key 1", exact=True).fill("trainer.total_epochs")
    form.get_by_role("button", name="Dry run").click()
    expected = "%%verl_train grpo-cpu --dry-run\nactor_rollout_ref.actor.optim.lr=0.00002\ntrainer.total_epochs=3"
    wait_for(panel.notebook, lambda: panel.sources()[-1] == expected)
    form.get_by_role("button", name="Back to the recipes").click()


def test_a_lost_connection_is_told_and_comes_back(
    make_run: Callable[..., RunFolder], open_notebook: Callable[..., NotebookPage]
) -> None:
    run = make_run("through a break")
    connection = Connection("/verl-lab/api/live")
    apart = Panel(open_notebook("", before_load=connection.of))
    apart.show(search=run.name)
    expect(apart.run(run.name)).to_contain_text("step 12 of 60")
    connection.cut()
    notice = apart.root.get_by_text("Not connected to the server")
    expect(notice).to_be_visible()
    expect(apart.run(run.name)).to_be_visible()
    run.take_steps(3)
    connection.mend()
    apart.root.get_by_role("button", name="Now").click()
    expect(apart.run(run.name)).to_contain_text("step 15 of 60")
    expect(notice).to_be_hidden()


def test_a_finding_is_told_with_a_way_to_its_run(panel: Panel, make_run: Callable[..., RunFolder]) -> None:
    run = make_run(HOSTILE, steps=5)
    panel.show(search=run.id)
    expect(panel.run(HOSTILE)).to_contain_text("step 5 of 60")
    run.take_steps(6, actor__grad_norm=float("nan"))
    told = panel.page.locator(".Toastify__toast", has_text="onerror")
    expect(told).to_contain_text("Not a number")
    expect(told).to_contain_text(HOSTILE)
    expect(panel.run(HOSTILE).locator(".vl-alerts")).to_be_visible()
    told.get_by_role("button", name="Open").click()
    expect(panel.page.locator(".lm-TabBar-tab.jp-mod-current", has_text="onerror")).to_be_visible()
    expect(panel.page.locator(f".vl-document {LIVE}")).to_be_visible()
    assert panel.page.evaluate("window.hurt") is None
    assert panel.page.locator("img[src='x']").count() == 0


def test_a_data_set_is_added_and_shown_as_text(panel: Panel, lab: RunningLab) -> None:
    (lab.root / "pairs.jsonl").write_text('{"question": "1+1", "answer": "<b>2</b>"}\n')
    panel.show("Data")
    panel.root.get_by_role("textbox", name="File or folder to add").fill("pairs.jsonl")
    panel.root.get_by_role("button", name="Add", exact=True).click()
    expect(panel.root.get_by_role("cell", name="<b>2</b>")).to_be_visible()
    panel.root.get_by_role("button", name="Back to the data sets").click()
    expect(panel.root.get_by_role("list", name="Data sets")).to_contain_text("pairs")


def test_every_tab_can_be_used_by_everyone(panel: Panel, make_run: Callable[..., RunFolder]) -> None:
    run = make_run("seen by all")
    panel.page.evaluate(AXE.read_text())
    serious: list[str] = []
    for tab in TABS:
        panel.show(tab)
        if tab == "Runs":
            panel.show(search=run.name)
            panel.run(run.name).click()
        if tab == "Recipes":
            panel.root.get_by_role("button", name=re.compile("^grpo-cpu")).click()
            expect(panel.root.get_by_role("region", name="Check")).to_contain_text("model")
        if tab == "Hosts":
            panel.root.get_by_role("button", name="Add a host").click()
        expect(panel.root.get_by_role("tabpanel")).not_to_be_empty()
        serious += faults(panel, tab, {})
        panel.notebook.set_theme("JupyterLab Dark")
        serious += faults(panel, f"{tab}, dark", {"runOnly": ["color-contrast"]})
        panel.notebook.set_theme("JupyterLab Light")
        if tab == "Recipes":
            panel.root.get_by_role("button", name="Back to the recipes").click()
        if tab == "Hosts":
            panel.root.get_by_role("button", name="Cancel").click()
    assert serious == []


def faults(panel: Panel, where: str, options: dict[str, Any]) -> list[str]:
    """Return what axe finds to keep someone from using what is shown."""
    found = panel.page.evaluate("async (options) => (await axe.run('.vl-panel', options)).violations", options)
    return [
        f"{where}: {one['id']}: {node['html'][:200]}: {node.get('failureSummary', '')[:300]}"
        for one in found
        if one["impact"] in ("serious", "critical")
        for node in one["nodes"]
    ]
