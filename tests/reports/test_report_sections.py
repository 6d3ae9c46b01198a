"""Sections without a kernel: what has no data says so, long runs stay small, hostile texts stay text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import nbformat
import numpy as np
import orjson
import pytest
from playwright.sync_api import expect
from recorded import PAYLOADS, RECORDING, Offline, write_run, write_samples
from replay import Replay

from verl_lab import Lab
from verl_lab.domain.metric import first_charts
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.reports.facts import Facts, FindingFact, ValueFact, told
from verl_lab.lab.reports.samples import samples
from verl_lab.lab.reports.words import gravity, verdict
from verl_lab.reports.charts import CHARTS_MIME, charts
from verl_lab.reports.page import to_html
from verl_lab.widgets.axis import Line
from verl_lab.widgets.gather import gather
from verl_lab.widgets.picture import Heading
from verl_lab.widgets.selection import Selection
from verl_lab.widgets.source import Sample, SampleGroup

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

SECTIONS = (
    "title",
    "summary",
    "lineage",
    "settings",
    "curves",
    "findings",
    "health",
    "samples",
    "system",
    "comparison",
)
REWARD = ValueFact(metric="r", label="Reward", unit="mean", first=0.1, last=0.5, best=0.6, best_step=20)
_WELL = (
    "Completed all 30 steps; reward went from 0.10 to 0.50 (best 0.60 at step 20); "
    "health 100 of 100, nothing is wrong at the end."
)
DRIFT = FindingFact(rule="kl", title="Drift", severity="error", metric="kl", first_step=12, is_active=True)


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    with Lab(tmp_path / "home") as made:
        yield made


def notebook_of(parts: Sequence[dict[str, Any]]) -> Any:
    """Return a notebook whose one cell has put these parts out."""
    outputs = [nbformat.v4.new_output("display_data", data=part) for part in parts]
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("shown", outputs=outputs)])


def test_log_of_something_else_says_in_each_section_what_is_not_known(lab: Lab, recordings: Path) -> None:
    sections = lab.sections(lab.attach(recordings / "sft-60-steps.jsonl"))
    found = {name: repr(getattr(sections, name)()) for name in SECTIONS}
    assert "A log of 60 steps, written by something else; loss went from" in found["summary"]
    assert found["lineage"] == "This is a log that something else writes: what it was made from is not known."
    assert found["settings"] == "This is a log that something else writes: its configuration is not known."
    assert found["samples"].startswith("This is a log that something else writes.")
    assert found["system"] == "This is a log that something else writes: its host was not measured."
    assert found["comparison"].startswith("No baseline was given.")
    assert "Loss" in found["curves"]


def test_run_that_has_logged_nothing_is_told_of(lab: Lab) -> None:
    run = write_run(lab, "empty", settings={})
    metrics = lab.settings.runs_root / run / "attempts" / "1" / "metrics.jsonl"
    metrics.write_bytes(metrics.read_bytes().split(b"\n")[0] + b"\n")
    sections = lab.sections(run)
    found = {name: repr(getattr(sections, name)()) for name in SECTIONS}
    assert found["curves"] == "Nothing was logged."
    assert found["health"].startswith("Nothing was logged, so there is nothing to judge.")
    assert found["samples"] == "The run has dumped no validation samples. The run has dumped no rollout samples."


def test_section_that_fails_for_one_run_tells_why_and_shows_the_others(lab: Lab) -> None:
    good, bad = write_run(lab, "good", settings={}), write_run(lab, "bad", settings={})
    (lab.settings.runs_root / bad / "config.yaml").unlink()
    told = repr(lab.sections([bad, good]).settings())
    assert "config.yaml" in told
    assert "data.seed" in told


def test_several_runs_are_compared_with_each_other(lab: Lab, recordings: Path) -> None:
    write_run(lab, "one", settings={"trainer": {"test_freq": 5}})
    write_run(lab, "two", settings={"trainer": {"test_freq": 7}})
    pair = lab.sections(["one", "two"])
    assert ["trainer.test_freq", "5", "7"] in [line.split() for line in repr(pair.comparison()).splitlines()]
    assert "charts of Reward" in repr(pair.curves())
    three = repr(lab.sections(["one", "two"], baseline=lab.attach(recordings / "grpo-30-steps.jsonl")).comparison())
    heads = next(line for line in three.splitlines() if line.startswith("metric"))
    assert heads.split() == ["metric", "one", "two", "grpo-30-steps.jsonl"]
    assert "test_freq" in three


def test_samples_of_first_and_last_step_stand_together_with_groups(lab: Lab) -> None:
    run = write_run(lab, "sampled", settings={})
    for step, answer in ((0, "5"), (10, "6"), (30, "4")):
        row = {"input": "2 + 2 =", "output": answer, "gts": "4", "score": float(answer == "4")}
        write_samples(lab, run, "validation", step, [row])
    group = [{"input": "q", "output": f"a{k}", "score": k / 20, "uid": f"u_{k}_0"} for k in range(20)]
    write_samples(lab, run, "rollout", 30, group)
    text = repr(lab.sections(run).samples())
    assert "the same prompts at the first and the last step, 0 and 30" in text
    assert "step 0: '2 + 2 =' → '5'" in text
    assert "step 30: '2 + 2 =' → '4'" in text
    assert "8 of its 20 responses" in text
    assert "'a19'" in text
    assert "'a10'" not in text


@pytest.mark.parametrize(
    ("facts", "sentence", "severity"),
    [
        (
            {"state": "completed", "step": 30, "total": 30, "health": 100, "values": (REWARD,)},
            _WELL,
            "none",
        ),
        (
            {"state": "failed", "step": 3, "total": 9, "reason": "Out of memory.", "health_reason": "Nothing yet."},
            "Failed at step 3 of 9 (Out of memory); Nothing yet.",
            "error",
        ),
        (
            {"state": "running", "step": 3, "total": 9, "health": 60, "findings": (DRIFT,)},
            "Running, at step 3 of 9, when this report was made; health 60 of 100, error: drift since step 12.",
            "error",
        ),
        (
            {"state": "lost", "health": 95, "findings": (DRIFT.model_copy(update={"is_active": False}),)},
            "Lost before its first step; health 95 of 100, nothing is wrong at the end (1 findings are over).",
            "error",
        ),
    ],
)
def test_verdict_is_one_sentence(facts: dict[str, Any], sentence: str, severity: str) -> None:
    made = Facts(run="r", name="n", **facts)
    assert verdict(made) == sentence
    assert gravity(made) == severity


def test_facts_keep_numbers_that_json_has_not() -> None:
    nan = REWARD.model_copy(update={"last": float("nan"), "best": float("-inf")})
    kept = orjson.loads(orjson.dumps(told((Facts(run="r", name="n", state="running", values=(nan,)),))))
    (value,) = Facts.model_validate(kept["runs"][0]).values
    assert np.isnan(value.last or 0.0)
    assert value.best == float("-inf")


def test_a_million_points_stay_small() -> None:
    source = Replay()
    for name in ("critic/score/mean", "actor/entropy"):
        source.fill(name, np.random.default_rng(0).normal(size=1_000_000))
    sheet = gather([Line("long", source)], first_charts(source.metric_names()), Selection())
    part = charts(Heading("long", ""), sheet)
    assert len(orjson.dumps(part[CHARTS_MIME])) < 130_000
    assert len(to_html(notebook_of([part]), "long")) < 2_600_000


def test_hostile_samples_and_names_stay_text(open_offline: Callable[..., Offline], tmp_path: Path) -> None:
    source = Replay(RECORDING, 31)
    parts: list[dict[str, Any]] = []
    for place in range(0, len(PAYLOADS), 4):
        some = PAYLOADS[place : place + 4]
        source.groups = {step: [SampleGroup(p, (Sample(p, 1.0, p),)) for p in some] for step in (1, 2)}
        parts += samples(source)
    for place in range(0, len(PAYLOADS), 6):
        names = [Line(payload, source) for payload in PAYLOADS[place : place + 6]]
        sheet = gather(names, first_charts(["critic/score/mean"]), Selection())
        parts.append(charts(Heading(PAYLOADS[place], PAYLOADS[place]), sheet))
    page = tmp_path / "hostile.html"
    page.write_text(to_html(notebook_of(parts), "".join(PAYLOADS)), "utf-8")
    shown = open_offline(page).page
    expect(shown.locator(".js-line")).to_have_count(len(PAYLOADS))
    assert shown.evaluate("window.pwned") is None
    legend = shown.locator(".verl-lab-legend .verl-lab-line span").all_text_contents()
    assert legend == PAYLOADS
    assert shown.locator("td", has_text="window.pwned = 1<").count() > 0
    tags = shown.locator("main *").evaluate_all("nodes => [...new Set(nodes.map(n => n.tagName.toLowerCase()))]")
    assert not {"iframe", "object", "embed", "form", "link", "meta", "base", "video", "audio", "a"} & set(tags)


def test_data_that_are_not_known_are_not_called_the_same(lab: Lab, recordings: Path) -> None:
    one, other = (lab.attach(recordings / name) for name in ("grpo-30-steps.jsonl", "sft-60-steps.jsonl"))
    differs = lab.diff_reports(one, other)
    assert repr(differs.data()) == "The data are not known of grpo-30-steps.jsonl and sft-60-steps.jsonl."


def test_runs_that_cannot_be_reported_on_are_named(lab: Lab) -> None:
    run = write_run(lab, "one", settings={})
    with pytest.raises(NotFoundError, match="no run 'two'"):
        lab.sections(["one", "two"])
    with pytest.raises(InvalidInputError, match=f"{run} is given twice"):
        lab.sections("one", baseline=run)
    with pytest.raises(InvalidInputError, match="cannot be on 0"):
        lab.sections([])
    with pytest.raises(InvalidInputError, match="cannot be on 9"):
        lab.sections(["one"] * 9)
