"""``%verl_report``: its help, its completion, and what it refuses. Reports themselves: see tests/reports."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


def test_help_and_completion(shell: Shell, recordings: Path) -> None:
    assert "--baseline" in shell.run("%verl_report --help").printed
    run: Any = shell.run(f"%verl_watch {recordings / 'grpo-30-steps.jsonl'}").result
    for line in ("%verl_report ", "%verl_report x ", "%verl_report x --baseline ", "%verl_report --diff "):
        assert f"{line}{run.id}" in shell.complete(f"{line}attached-")
    assert "%verl_report --pdf" in shell.complete("%verl_report --p")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%verl_report", "There are no runs yet"),
        ("%verl_report nothing", "no run 'nothing'"),
        ("%verl_report --diff a.ipynb b.ipynb", "there is no file a.ipynb"),
        ("%verl_report x --diff a b", "leave the rest out"),
        ("%verl_report --diff a", "expected 2 arguments"),
    ],
)
def test_what_cannot_be_reported_is_told(shell: Shell, line: str, told: str) -> None:
    assert told in shell.run(line).told


def test_two_runs_are_compared_as_reports_would_tell_them(shell: Shell, recordings: Path) -> None:
    names = ("grpo-30-steps", "sft-60-steps")
    one, other = (shell.run(f"%verl_watch {recordings / name}.jsonl").result for name in names)
    answer = shell.run(f"%verl_report --diff {one.id} {other.id}")  # pyright: ignore[reportAttributeAccessIssue]
    assert "Last and best values" in answer.printed
    assert "The configuration is not known of grpo-30-steps.jsonl and sft-60-steps.jsonl." in answer.printed
