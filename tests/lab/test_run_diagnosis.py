"""Findings and health of runs, kept up to date while they grow, are resumed, or go back."""

from __future__ import annotations

import json
import math
import time
from typing import TYPE_CHECKING, Any

import pytest

from verl_lab import Lab
from verl_lab.domain.finding import Severity
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Run
    from verl_lab.domain.finding import Finding

    from .conftest import Written

    WriteRun = Callable[..., Written]


def falling(step: int) -> float:
    return 3.0 / (1 + step / 10)


def rules(run: Run, step: int | None = None) -> dict[str, Severity]:
    return {finding.rule: finding.severity for finding in run.findings(step)}


def seen(findings: list[Finding]) -> list[Any]:
    return [(f.rule, f.severity, f.metric, f.first_step, f.last_step, f.cleared_step, f.evidence) for f in findings]


def test_run_without_data_has_no_score_and_says_why(write_run: WriteRun) -> None:
    run = write_run("empty").begin().run
    assert run.health().score is None
    assert run.health().reason
    assert "kl-explosion" in run.not_applicable()


def test_findings_come_as_the_run_grows_and_are_those_of_a_fresh_look(write_run: WriteRun, tmp_path: Path) -> None:
    written = write_run("growing").begin()
    kl = [0.1] * 10 + [1.2] * 6 + [2.5] * 6 + [7.0] * 6 + [0.1] * 20
    severities: list[Severity | None] = []
    for step, value in enumerate(kl, start=1):
        written.step(step, {"actor/kl_loss": value, "train/loss": falling(step)})
        severities.append(rules(written.run).get("kl-explosion"))
    counted = [severities.index(severity) + 1 for severity in (Severity.WARNING, Severity.ERROR, Severity.CRITICAL)]
    assert counted == [13, 19, 25], "three in a row, each"
    kept = written.run
    with Lab(tmp_path / "home") as other:
        fresh = other.run(kept.id)
        for step in (None, 1, 13, 25, 40):
            assert seen(kept.findings(step)) == seen(fresh.findings(step))
            assert kept.health(step) == fresh.health(step)
        assert kept.not_applicable() == fresh.not_applicable()


def test_health_at_a_past_step_is_what_it_was_then(write_run: WriteRun) -> None:
    written = write_run("past").begin()
    written.steps(1, 20, "train/loss", lambda step: math.nan if step >= 15 else falling(step))
    run = written.run
    assert run.health(step=14).score == 100
    score = run.health(step=15).score
    assert score is not None
    assert score <= 20
    assert run.health(step=15).breakdown[0].rule == "non-finite"
    assert not run.findings(step=14)


def test_steps_that_a_resume_has_undone_are_judged_no_more(write_run: WriteRun) -> None:
    written = write_run("resumed").begin()
    written.steps(1, 20, "train/loss", lambda step: math.nan if step >= 15 else falling(step))
    written.event("reward_exception", at_step=15, count=500)
    written.event("non_finite_gradient", step=15, count=3)
    run = written.run
    assert {"non-finite", "aborted"} <= set(rules(run))
    written.status("failed")
    written.begin(resumed_from=10)
    assert not rules(run), "before the new attempt has logged anything"
    written.steps(11, 12, "train/loss", falling)
    assert "non-finite" not in rules(run)
    written.steps(13, 25, "train/loss", falling)
    assert "non-finite" not in rules(run)
    assert run.health().score == 100


def test_log_that_goes_back_is_judged_anew(lab: Lab, tmp_path: Path) -> None:
    """A console log that a resumed run was appended to."""

    def lines(first: int, last: int, loss: float) -> str:
        return "".join(f"step:{s} - train/loss:{loss} - train/grad_norm:1.0\n" for s in range(first, last + 1))

    log = tmp_path / "console.log"
    log.write_text(lines(1, 30, 1.0) + lines(31, 40, 9.0))
    run = lab.attach(log)
    assert rules(run)["divergence"] is Severity.CRITICAL
    with log.open("a") as file:
        file.write(lines(31, 40, 1.0))
    assert "divergence" not in rules(run)


def test_thresholds_of_the_recipe_count_and_those_of_a_call_win(lab: Lab, write_run: WriteRun) -> None:
    written = write_run("strict", thresholds={"kl-explosion": {"threshold": 0.05}}).begin()
    run = written.steps(1, 10, "actor/kl_loss", lambda _: 0.06).run
    assert rules(run)["kl-explosion"] is Severity.WARNING
    (report,) = lab.diagnose(run, thresholds={"kl-explosion": {"enabled": False}})
    assert report.not_applicable["kl-explosion"] == "it is switched off"
    assert rules(run)["kl-explosion"] is Severity.WARNING, "the call changed nothing for good"
    with pytest.raises(InvalidInputError, match="kl-explosoin") as caught:
        lab.diagnose(run, thresholds={"kl-explosoin": {}})
    assert "kl-explosion" in str(caught.value)


@pytest.mark.parametrize(("cut", "last"), [(0, 8), (3, 7)])
def test_sample_files_tell_of_dead_groups_and_a_cut_one_costs_its_step_alone(
    write_run: WriteRun, cut: int, last: int
) -> None:
    written = write_run("sampled").begin().steps(1, 8, "train/loss", falling)
    folder = written.files.samples / "rollout"
    folder.mkdir(parents=True)
    for step in range(1, 9):
        rows = [
            {"input": f"p{group}", "output": "x", "score": 0.0, "uid": f"p{group}_{n}_0"}
            for group in range(4)
            for n in range(4)
        ]
        text = "\n".join(map(json.dumps, rows))
        (folder / f"{step}.jsonl").write_text(text[: len(text) - cut] if step == 8 else text)
    (finding,) = [f for f in written.run.findings() if f.rule == "dead-groups"]
    assert finding.severity is Severity.CRITICAL
    assert finding.last_step == last


def test_silence_is_a_stall_only_while_the_run_is_live(write_run: WriteRun) -> None:
    written = write_run("silent", begun=time.time() - 7200).begin().steps(1, 10, "train/loss", falling)
    assert rules(written.run)["stall"] is Severity.CRITICAL
    written.status("stopped", exit_code=0, ended=time.time())
    assert "stall" not in rules(written.run)


def test_silent_early_end_is_critical_and_a_whole_run_is_not(write_run: WriteRun) -> None:
    for name, last, found in (("short", 40, True), ("whole", 100, False)):
        written = write_run(name).begin().steps(1, last, "train/loss", falling)
        written.status("failed" if found else "completed", exit_code=0, step=last)
        assert ("early-end" in rules(written.run)) is found


def test_listing_runs_diagnoses_none(lab: Lab, write_run: WriteRun) -> None:
    for number in range(5):
        write_run(f"listed-{number}").begin().steps(1, 3, "train/loss", falling)
    assert len(lab.runs()) == 5
    assert not lab.diagnoses._kept


def test_diagnosing_all_takes_those_that_are_live(lab: Lab, write_run: WriteRun, recordings: Path) -> None:
    live = write_run("live").begin().steps(1, 3, "train/loss", falling)
    write_run("over").begin().status("completed", exit_code=0)
    growing = lab.settings.home / "growing.jsonl"
    growing.write_bytes((recordings / "sft-60-steps.jsonl").read_bytes())
    log = lab.attach(growing)
    assert {report.run for report in lab.diagnose()} == {live.run.id, log.id}
    live.status("stopped")
    growing.unlink()
    assert len(lab.diagnose()) == 0
    assert "No run is live" in repr(lab.diagnose())


def test_run_that_cannot_be_read_says_so_in_its_report(lab: Lab, write_run: WriteRun) -> None:
    written = write_run("garbled").begin().steps(1, 3, "train/loss", falling)
    run = written.run
    (written.layout.folder / "run.json").write_text("no json")
    (report,) = lab.diagnose(run)
    assert report.health.score is None
    assert "JSON" in str(report.health.reason)


def test_unknown_run_is_named_with_the_nearest(lab: Lab, write_run: WriteRun) -> None:
    write_run("known").begin()
    with pytest.raises(NotFoundError, match="known"):
        lab.diagnose("knwn")


def test_report_names_everything_a_reader_needs_and_escapes_it(lab: Lab, write_run: WriteRun) -> None:
    written = write_run("shown").begin()
    nasty = "val-core/<script>alert(1)</script>/acc"
    for step in range(1, 31):
        written.step(step, {"actor/kl_loss": 9.0, nasty: math.nan, "critic/score/mean": 0.5})
    (report,) = lab.diagnose(written.run)
    finding = next(f for f in report.findings if f.rule == "kl-explosion")
    for told in (finding.evidence, finding.cause, finding.suggestion, finding.source, *finding.settings):
        assert told in repr(report)
    assert f"health {report.health.score} of 100" in repr(report)
    assert nasty in repr(report)
    assert "truncation" in repr(report)
    page = report._repr_html_()
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert lab.diagnose(written.run)._repr_html_() == page


def test_closing_the_lab_leaves_no_listener(tmp_path: Path, recordings: Path) -> None:
    lab = Lab(tmp_path / "home")
    lab.attach(recordings / "sft-60-steps.jsonl").health()
    assert lab.feed._subscriptions
    lab.close()
    assert not lab.feed._subscriptions
