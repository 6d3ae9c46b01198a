"""Names, findings, samples, logs and settings that try to be markup or script stay text everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from driving import LIVE, setup
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

HERE = Path(__file__).parent
PAYLOADS = (HERE / "payloads.txt").read_text("utf-8").splitlines()
# Each again as it would break out of an attribute, of a tag and of a comment, and in capitals: 250 in all.
WRAPPED = [f'">{p}' for p in PAYLOADS] + [f"</span>{p}" for p in PAYLOADS] + [f"-->{p}" for p in PAYLOADS]
ALL = PAYLOADS + WRAPPED + [p.upper() for p in PAYLOADS]
TAGS = (
    "SECTION HEADER DIV B SPAN I BUTTON INPUT FIGURE FIGCAPTION EM P UL LI DL DT DD DETAILS SUMMARY CODE PRE "
    "TABLE THEAD TBODY TR TH TD SELECT OPTION FORM LABEL OUTPUT"
)
SOURCES = f"""
import numpy as np
PAYLOADS = {PAYLOADS!r}
ALL = {ALL!r}
def finding(p, **more):
    given = dict(rule=p, severity=Severity.ERROR, metric=p, first_step=1, last_step=2, evidence=p, cause=p,
                 suggestion=p, settings=(p,), source=p, value=1.0, threshold=0.5, title=p)
    return Finding(**(given | more))
"""


def _assert_only_ours(page: Page, inside: Locator) -> None:
    page.wait_for_timeout(300)
    assert page.evaluate("window.pwned") is None
    tags = "nodes => [...new Set(nodes.filter(n => !(n instanceof SVGElement)).map(n => n.tagName))]"
    assert set(inside.locator("*").evaluate_all(tags)) <= set(TAGS.split())


def test_names_of_runs_metrics_hosts_and_recipes_stay_text(open_notebook: Any, recordings: Path) -> None:
    hostile = (
        SOURCES
        + """
sources = [Replay(name=p, host=p, recipe=p, notice=p, reason=p, state="failed", can_stop=False) for p in PAYLOADS]
for name in ALL: sources[0].fill(name, np.array([1.0, np.nan, 2.0]))
panel = Panel(sources[0])
"""
    )
    show_all = "for name in ALL[:24]: panel._handle_custom_msg(dict(type='show', metric=name, shown=True), [])"
    # JupyterLab shows 50 outputs of a cell at most, and a panel is two.
    others = [f"for s in sources[{first}:{first + 20}]: show(Panel(s))" for first in (1, 21, 41)]
    notebook = open_notebook(setup(recordings) + hostile, f"show(panel)\n{show_all}", *others)
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    expect(page.locator(f"{LIVE} figure .js-line").nth(20)).to_be_attached()
    page.locator(".verl-lab-chip", has_text="more").click()
    expect(page.locator(".verl-lab-found .verl-lab-name")).to_have_count(len(set(ALL)))
    page.keyboard.press("Escape")
    for figure in page.locator(f"{LIVE} figure").all():
        figure.locator(".verl-lab-plot").hover()
    for cell in range(2, 2 + len(others)):
        notebook.run_cell(cell)
        page.locator(".jp-Cell").nth(cell).scroll_into_view_if_needed()
    expect(page.locator(LIVE)).to_have_count(len(PAYLOADS), timeout=60_000)
    _assert_only_ours(page, page.locator(LIVE))
    titles = page.locator(".verl-lab-title b").evaluate_all("nodes => nodes.map(n => n.textContent)")
    assert sorted(titles) == sorted(PAYLOADS)


def test_findings_samples_settings_logs_and_overlays_stay_text(open_notebook: Any, recordings: Path) -> None:
    hostile = (
        SOURCES
        + """
source.raised = [finding(p, cleared_step=3 if k % 2 else None) for k, p in enumerate(ALL)]
source.not_applicable = lambda: {p: p for p in ALL}
source.groups = {1: [SampleGroup(p, (Sample(p, 1.0, p), Sample(p, None, None))) for p in ALL]}
source.settings = {p: {p: [p]} for p in ALL}
source.printed = "\\n".join(ALL)
source.besides = {p: Replay(recordings / 'sft-60-steps.jsonl', 5, name=p) for p in PAYLOADS}
for p in PAYLOADS[:6]: panel._handle_custom_msg(dict(type='overlay', id=p, shown=True), [])
"""
    )
    notebook = open_notebook(setup(recordings) + hostile, "panel")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    expect(page.locator(".verl-lab-banner")).to_contain_text("<script>")
    expect(page.locator(".verl-lab-legend .verl-lab-line")).to_have_count(7)
    page.get_by_role("button", name="Overlay").click()
    expect(page.locator(".verl-lab-tools .verl-lab-name", has_text="iframe")).not_to_have_count(0)
    page.keyboard.press("Escape")
    page.locator(".verl-lab-health").click()
    page.keyboard.press("Escape")
    listed = {"Samples": ".verl-lab-response", "Findings": ".verl-lab-finding", "Configuration": "td", "Log": "pre"}
    for tab, content in listed.items():
        page.get_by_role("tab", name=tab).click()
        expect(page.locator(f".verl-lab-pane {content}", has_text="<script>").first).to_be_visible()
        if tab == "Findings":
            page.locator("summary").click()
    _assert_only_ours(page, page.locator(LIVE))


def test_compared_runs_stay_text(open_notebook: Any, recordings: Path) -> None:
    hostile = (
        SOURCES
        + """
from verl_lab.widgets.comparison import Comparison
compared = []
for p in PAYLOADS[:7]:
    one = Replay(recordings / 'sft-60-steps.jsonl', 5, name=p, reason=p, state="failed")
    one.settings = {q: p + q for q in ALL}
    compared.append(one)
comparison = Comparison(compared)
"""
    )
    notebook = open_notebook(setup(recordings) + hostile, "show(comparison)")
    notebook.run_cell(0)
    notebook.run_cell(1)
    page = notebook.page
    expect(page.locator(".verl-lab-runs .verl-lab-line")).to_have_count(7)
    page.get_by_role("tab", name="Values").click()
    page.get_by_role("tab", name="Configuration").click()
    expect(page.locator(".verl-lab-setting", has_text="<script>").first).to_be_visible()
    _assert_only_ours(page, page.locator(LIVE))
