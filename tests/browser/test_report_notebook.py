"""A report's notebook that JupyterLab does not trust still shows its charts, and nothing in it runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
from playwright.sync_api import expect

from verl_lab import Lab

if TYPE_CHECKING:
    from pathlib import Path

    from jupyterlab_page import RunningLab

HOSTILE = '<img src="x" onerror="window.pwned = 1">'


def test_report_from_a_stranger_shows_pictures(
    lab: RunningLab, open_notebook: Any, recordings: Path, tmp_path: Path
) -> None:
    log = tmp_path / HOSTILE
    log.write_bytes((recordings / "grpo-kl-loss-30-steps.jsonl").read_bytes())
    cells: list[Any] = []
    with Lab(tmp_path / "home") as ours:
        report = ours.sections(ours.attach(log))
        for section in (report.title(), report.summary(), report.curves(), report.findings(), report.health()):
            outputs = [nbformat.v4.new_output("display_data", data=part) for part in section.parts]
            cells.append(nbformat.v4.new_code_cell("shown", outputs=outputs, execution_count=1))
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), lab.root / "report.ipynb")
    page = open_notebook(path="report.ipynb").page
    pictures = page.locator(".jp-OutputArea img[src^='data:image/png']")
    expect(pictures).to_have_count(2)
    assert page.evaluate("[...document.querySelectorAll('.jp-OutputArea img')].every((one) => one.naturalWidth > 500)")
    expect(page.locator(".jp-OutputArea h1")).to_have_text(f"Report: {HOSTILE}")
    assert page.evaluate("window.pwned") is None
    page.screenshot(path=str(tmp_path / "untrusted.png"))
