"""``%verl_health``, ``%verl_diagnose`` and ``%verl_backtest`` in a real IPython shell."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


@pytest.fixture
def drifting(tmp_path: Path) -> Path:
    """Return a log of verl's whose KL leaves at step 21, with a metric that is named to harm a page."""
    log = tmp_path / "drifting.jsonl"
    nasty = "val-core/<img src=x onerror=alert(1)>/acc"
    steps: list[dict[str, Any]] = [
        {"step": s, "data": {"actor/kl_loss": 0.1 if s <= 20 else 9.0, nasty: None, "perf/time_per_step": 30.0}}
        for s in range(1, 41)
    ]
    log.write_text("".join(json.dumps(step) + "\n" for step in steps))
    return log


def test_health_shows_score_breakdown_findings_and_what_cannot_be_judged(shell: Shell, drifting: Path) -> None:
    shown = repr(shell.run(f"%verl_health {drifting}").result)
    for part in ("of 100", "-80", "kl-explosion", "critical", "evidence:", "cause:", "suggestion:", "source:"):
        assert part in shown
    assert "not applicable" in shown
    assert "entropy-collapse" in shown


def test_health_at_a_step_is_what_was_known_then(shell: Shell, drifting: Path) -> None:
    shell.run(f"%verl_health {drifting}")
    before = shell.run("%verl_health drifting.jsonl --step 20").result
    after = shell.run("%verl_health --step 23").result
    assert "kl-explosion" not in {finding.rule for finding in before.findings}  # type: ignore[attr-defined]
    assert "kl-explosion" in {finding.rule for finding in after.findings}  # type: ignore[attr-defined]
    assert "at step 20" in repr(before)


def test_what_a_log_is_named_with_is_text_on_the_page(shell: Shell, drifting: Path) -> None:
    for line in (f"%verl_health {drifting}", f"%verl_diagnose {drifting}", "%verl_backtest"):
        page = shell.run(line).result._repr_html_()  # type: ignore[attr-defined]
        assert "<img" not in page
        assert "kl-explosion" in page


def test_diagnose_without_a_name_takes_what_is_live(shell: Shell, drifting: Path) -> None:
    assert "No run is live" in repr(shell.run("%verl_diagnose").result)
    run = shell.run(f"%verl_diagnose {drifting}").result[0].run  # type: ignore[index]
    assert [report.run for report in shell.run("%verl_diagnose").result] == [run]  # type: ignore[attr-defined]


def test_backtest_takes_rules_runs_and_thresholds(shell: Shell, drifting: Path) -> None:
    shell.run(f"%verl_diagnose {drifting}")
    result: Any = shell.run("%verl_backtest kl-explosion --runs drifting.jsonl").result
    assert [(firing.step, firing.saved_s) for firing in result.firings] == [(23, 17 * 30.0)]
    tried: Any = shell.run("%verl_backtest kl-explosion --set kl-explosion.threshold=100").result
    assert not tried.firings
    off: Any = shell.run("%verl_backtest --set kl-explosion.enabled=false").result
    assert "kl-explosion" not in {firing.rule for firing in off.firings}


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%verl_health --step soon", "--step"),
        ("%verl_health nothing", "nothing"),
        ("%verl_backtest kl-explosoin", "kl-explosion"),
        ("%verl_backtest --set kl-explosion", "kl-explosion.threshold=2"),
        ("%verl_backtest --set kl-explosion.threshold=much", "neither a number"),
        ("%verl_backtest --set kl-explosion.treshhld=1", "threshold"),
    ],
)
def test_mistakes_are_told_in_a_line(shell: Shell, drifting: Path, line: str, told: str) -> None:
    shell.run(f"%verl_diagnose {drifting}")
    answer = shell.run(line)
    assert told in answer.told
    assert "Traceback" not in answer.printed


def test_tab_completes_runs_and_rules(shell: Shell, drifting: Path) -> None:
    shell.run(f"%verl_diagnose {drifting}")
    assert "%verl_health drifting.jsonl" in shell.complete("%verl_health drif")
    assert "%verl_backtest kl-explosion" in shell.complete("%verl_backtest kl-")
    assert "%verl_backtest --runs" in shell.complete("%verl_backtest --r")
