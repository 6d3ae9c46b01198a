"""Runs and attempts side by side, from real run folders and logs."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import yaml

from verl_lab import Lab
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.comparing.compare import compare
from verl_lab.lab.view import RunView

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    """Return a lab with a home of its own."""
    with Lab(tmp_path / "home") as made:
        yield made


def _write_attempt(folder: Path, number: int, losses: dict[int, float], resumed_from: int = 0) -> Path:
    attempt = folder / "attempts" / str(number)
    attempt.mkdir(parents=True)
    header = {"verl_lab": 1, "run": folder.name, "attempt": number, "pid": 1, "process_start": 1, "boot_id": "b"}
    records: list[dict[str, Any]] = [
        {"seq": k, "step": step, "time": 1e9 * number + step, "data": {"train/loss": value}}
        for k, (step, value) in enumerate(losses.items())
    ]
    event: dict[str, Any] = {"seq": 0, "time": 1.0, "kind": "train_begin", "step": None, "source": "trainer"}
    event["data"] = {"resumed_from": resumed_from, "total_steps": 9}
    for name, lines in (("metrics", records), ("events", [event])):
        (attempt / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (header, *lines)))
    return attempt


@pytest.fixture
def resumed(lab: Lab) -> RunView:
    """Return a run that went to step 6, and was resumed from step 3."""
    folder = lab.settings.runs_root / "20260101-000000-resumed-0000"
    _write_attempt(folder, 1, dict.fromkeys(range(1, 7), 1.0))
    _write_attempt(folder, 2, dict.fromkeys(range(4, 9), 2.0), resumed_from=3)
    (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": "resumed", "created": 1.0}))
    return RunView(lab, lab.run("resumed"))


def test_attempts_are_laid_over_whole_with_the_steps_that_a_resume_masked(resumed: RunView) -> None:
    assert resumed.series("train/loss")[1].tolist() == [1.0] * 3 + [2.0] * 5
    others = resumed.others()
    assert list(others.values())[:2] == ["attempt 1 of this run", "attempt 2 of this run"]
    first, second = (resumed.other(one) for one in list(others)[:2])
    assert first.series("train/loss")[0].tolist() == [1, 2, 3, 4, 5, 6]
    assert second.series("train/loss")[0].tolist() == [4, 5, 6, 7, 8]
    assert second.clock()[1].tolist() == [2e9 + step for step in range(4, 9)]


def test_other_runs_can_be_laid_over(lab: Lab, recordings: Path) -> None:
    view = RunView(lab, lab.attach(recordings / "grpo-30-steps.jsonl"))
    other = lab.attach(recordings / "sft-60-steps.jsonl")
    assert list(view.others()) == [other.id]
    np.testing.assert_array_equal(view.other(other.id).series("train/loss")[1], other.metrics("train/loss")[1])


def test_samples_of_a_prompt_stand_together(lab: Lab, resumed: RunView) -> None:
    folder = lab.settings.runs_root / "20260101-000000-resumed-0000" / "attempts" / "2" / "samples" / "rollout"
    folder.mkdir(parents=True)
    rows = [{"input": f"p{k % 2}", "output": f"o{k}", "score": float(k), "uid": f"u{k % 2}_{k}_0"} for k in range(4)]
    rows[3]["score"] = "broken"
    (folder / "5.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    sheet = resumed.samples(None, "rollout")
    assert (sheet.step, sheet.steps["rollout"]) == (5, [5])
    assert [[one.response for one in group.samples] for group in sheet.groups] == [["o0", "o2"], ["o1", "o3"]]
    assert [one.score for one in sheet.groups[1].samples] == [1.0, None]
    with pytest.raises(NotFoundError, match="validation"):
        resumed.samples(None, "validation")


def test_configurations_that_differ_are_found_and_places_are_folded(lab: Lab) -> None:
    for name, rate in (("one", 1e-6), ("two", 3e-6)):
        folder = lab.settings.runs_root / f"20260101-000000-{name}-0000"
        _write_attempt(folder, 1, {1: 1.0, 2: rate * 1e6})
        (folder / "run.json").write_text(json.dumps({"version": 1, "run": folder.name, "name": name, "created": 1.0}))
        config = {"actor": {"optim": {"lr": rate}, "clip": 0.2}, "trainer": {"default_local_dir": str(folder)}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
    widget = compare(lab, [lab.run("one"), lab.run("two")])
    found = {one.key: one for one in widget.differences()}
    assert found["actor.optim.lr"].values == ("1e-6", "3e-6")
    assert found["trainer.default_local_dir"].is_noise
    assert "actor.clip" not in found
    assert [value.best for value in widget.values("train/loss")] == [1.0, 1.0]
    assert "actor.optim.lr: 1e-6 | 3e-6" in widget._summary()


def test_what_cannot_be_compared_is_refused(lab: Lab, recordings: Path) -> None:
    one, two = (lab.attach(recordings / f"{name}-steps.jsonl") for name in ("grpo-30", "sft-60"))
    with pytest.raises(InvalidInputError, match="twice"):
        compare(lab, [one, two, one])
    with pytest.raises(InvalidInputError, match="2 to 7"):
        compare(lab, [one])
    with pytest.raises(NotFoundError, match="train/loss"):
        compare(lab, [one, two], ["train/los"])


def test_diagnose_judges_anew(lab: Lab, recordings: Path) -> None:
    view = RunView(lab, lab.attach(recordings / "grpo-30-steps.jsonl"))
    before = view.findings()
    kept = lab.diagnoses.of(view._run)
    view.diagnose()
    assert lab.diagnoses.of(view._run) is not kept
    assert view.findings() == before
