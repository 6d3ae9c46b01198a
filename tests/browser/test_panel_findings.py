"""Health, findings, samples, settings and the log in the panel."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from driving import LIVE, chart, setup, wait_for
from playwright.sync_api import expect

if TYPE_CHECKING:
    from pathlib import Path

KL = """
found = next(f for f in source.findings() if f.rule == 'kl-explosion')
kl = replace(found, settings=('actor_rollout_ref.actor.kl_loss_coef=0.005',))
source.raised = [kl]
"""


def test_worst_finding_is_a_sentence_with_a_remedy_to_copy_until_it_is_dismissed(
    open_notebook: Any, recordings: Path
) -> None:
    notebook = open_notebook(setup(recordings, steps=31) + KL, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    banner = page.locator(".verl-lab-banner")
    expect(banner).to_contain_text("Warning · Drift from the reference at step 12: actor/kl_loss was 1.491")
    expect(banner).to_contain_text("Source: axolotl docs")
    expect(banner.locator("code")).to_have_text("--set actor_rollout_ref.actor.kl_loss_coef=0.005")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    banner.get_by_role("button", name="Copy").click()
    expect(banner.get_by_role("button", name="Copied")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == "--set actor_rollout_ref.actor.kl_loss_coef=0.005"

    banner.get_by_role("button", name="Dismiss").click()
    expect(banner).to_be_hidden()
    page.get_by_role("tab", name="Findings 1").click()
    expect(page.locator(".verl-lab-finding")).to_contain_text("dismissed")
    notebook.execute("source.raised = [replace(kl, severity=Severity.CRITICAL)]; source.now()")
    expect(banner).to_contain_text("Critical · Drift from the reference")


def test_finding_is_marked_on_its_curve_with_the_threshold(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(setup(recordings, steps=31) + KL, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    figure = chart(notebook, "KL to reference")
    expect(figure.locator(".tracevlflagwarning .point")).to_have_count(1)
    expect(figure.locator(".tracevllimitwarning .js-line")).to_be_attached()
    expect(notebook.page.locator(f"{LIVE} .tracevlflagwarning")).to_have_count(1)


def test_health_shows_its_breakdown_by_keyboard_and_says_why_there_is_none(
    open_notebook: Any, recordings: Path
) -> None:
    notebook = open_notebook(setup(recordings, steps=0) + "source.raised = []", "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    card = page.locator(".verl-lab-health")
    expect(card).to_contain_text("no score")
    card.press("Enter")
    expect(page.locator(".verl-lab-breakdown")).to_contain_text("The run has logged nothing yet.")
    page.keyboard.press("Escape")
    expect(card).to_be_focused()
    notebook.execute("source.raised = None; source.play(31)")
    expect(card).to_contain_text("60")
    card.press("Enter")
    expect(page.locator(".verl-lab-entry")).to_have_count(6)
    expect(page.locator(".verl-lab-breakdown")).to_contain_text("Warning Drift from the reference")
    assert [float(text.replace("\u2212", "-")) for text in page.locator(".verl-lab-entry em").all_inner_texts()] == [
        100, -10, -10, -10, -10, 60,
    ]  # fmt: skip


def test_findings_tab_lists_what_cleared_and_the_rules_that_say_nothing(open_notebook: Any, recordings: Path) -> None:
    cell = setup(recordings, steps=31) + KL + "source.raised.append(replace(kl, rule='x', cleared_step=20))"
    notebook = open_notebook(cell, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    tab = page.get_by_role("tab", name="Findings 1")
    page.get_by_role("tab", name="Charts").press("ArrowRight")
    page.keyboard.press("ArrowRight")
    expect(tab).to_be_focused()
    listed = page.locator(".verl-lab-finding")
    expect(listed).to_have_count(2)
    expect(listed.nth(0)).to_contain_text("steps 12–30")
    expect(listed.nth(1)).to_contain_text("over since step 20")
    page.get_by_text(re.compile("rules say nothing about this run")).click()
    expect(page.locator("dl")).to_contain_text("the run logs no critic/vf_explained_var")


def test_samples_stand_side_by_side_and_long_ones_open(open_notebook: Any, recordings: Path) -> None:
    cell = (
        setup(recordings)
        + """
long = 'begin ' + 'x' * 5000 + ' end'
many = [SampleGroup(f'prompt {k}', (Sample('yes', 1.0, '4'), Sample('w' * 1500, 0.0, '4'))) for k in range(90)]
source.groups = {5: [SampleGroup('What is 2+2?', tuple(Sample(f'it is {k}', float(k == 4), '4') for k in range(6)))],
                 10: [SampleGroup('Tell me', (Sample(long, 0.5), Sample('short', None)))], 15: many}
"""
    )
    notebook = open_notebook(cell, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    page.get_by_role("tab", name="Samples").click()
    expect(page.get_by_text(re.compile(r"prompts 1–\d+ of 90"))).to_be_visible()
    page.get_by_role("button", name="Next prompts").click()
    expect(page.get_by_text(re.compile(r"prompts [3-9]\d–\d+ of 90"))).to_be_visible()
    page.get_by_role("button", name="Previous prompts").click()
    expect(page.get_by_text("prompt 0", exact=True)).to_be_visible()

    page.get_by_role("button", name="Earlier step").click()
    page.get_by_role("button", name="characters left out").click()
    expect(page.locator(".verl-lab-response").first).to_contain_text("x" * 5000)
    page.locator(".verl-lab-samples").get_by_label("Step", exact=True).select_option("5")
    cards = page.locator(".verl-lab-response")
    expect(cards).to_have_count(6)
    expect(page.locator(".verl-lab-pane")).to_contain_text(["6 responses · mean 0.1667 · 0 to 1"])
    tops = {round(box["y"]) for card in cards.all() if (box := card.bounding_box())}
    assert len(tops) == 1
    page.get_by_label("Kind of samples").select_option("rollout")
    expect(page.get_by_text("The run has dumped no rollout samples.")).to_be_visible()


def test_log_follows_its_end_and_settings_are_searched(open_notebook: Any, recordings: Path) -> None:
    cell = setup(recordings) + "source.printed = 'one\\n' * 100\n"
    cell += "source.settings = {'trainer': {'nnodes': 1, 'logger': ['file']}, 'data': {'train_files': 'a.parquet'}}"
    notebook = open_notebook(cell, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    page.get_by_role("tab", name="Log").click()
    log = page.get_by_role("log")
    expect(log).to_contain_text("one")
    notebook.execute("source.printed += 'two\\n' * 50")
    expect(log).to_contain_text("two")
    wait_for(notebook, lambda: log.evaluate("n => n.scrollHeight - n.scrollTop - n.clientHeight < 30"))
    log.evaluate("n => { n.scrollTop = 0; }")
    notebook.execute("source.printed += 'three\\n'")
    expect(log).to_contain_text("three")
    assert log.evaluate("n => n.scrollTop") == 0

    page.get_by_role("tab", name="Configuration").click()
    expect(page.locator("tr")).to_have_count(3)
    page.get_by_role("searchbox", name="Find a setting").fill("parquet")
    expect(page.locator("tr")).to_have_text(["data.train_filesa.parquet"])


def test_sync_and_diagnose_reach_the_run(open_notebook: Any, recordings: Path) -> None:
    notebook = open_notebook(setup(recordings), "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    for name in ("Sync", "Diagnose"):
        notebook.page.get_by_role("button", name=name).click()
    wait_for(notebook, lambda: notebook.execute("print(source.asked)").strip() == "['sync', 'diagnose']")
