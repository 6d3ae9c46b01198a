"""The demo task: made offline, honest in its splits, measured without a trainer."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pandas as pd
import pytest

from verl_lab.demo.evaluate import Evaluation, Sample, evaluate
from verl_lab.demo.reward import compute_score

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def task(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("task")
    subprocess.run([sys.executable, "-m", "verl_lab.demo.make_task", str(folder), "--seed", "3"], check=True)
    return folder


def prompts(path: Path) -> set[str]:
    table = pd.read_parquet(path)
    column = table["messages" if "messages" in table else "prompt"]
    return {row[0]["content"] for row in column}


def test_splits_are_disjoint(task: Path) -> None:
    sft, rl, heldout = (prompts(task / f"{name}.parquet") for name in ("sft_train", "rl_train", "heldout"))
    assert (len(sft), len(rl), len(heldout)) == (2048, 4096, 256)
    assert not sft & rl
    assert not (sft | rl) & heldout
    assert prompts(task / "sft_val.parquet") <= heldout


def test_about_half_of_the_demonstrations_are_the_wrong_way_round(task: Path) -> None:
    rows = [(m[0]["content"][5:], m[1]["content"]) for m in pd.read_parquet(task / "sft_train.parquet")["messages"]]
    ascending = sum(answer == "".join(sorted(digits)) for digits, answer in rows)
    assert all(sorted(digits) == sorted(answer) for digits, answer in rows)
    assert 0.40 < ascending / len(rows) < 0.50


def test_reward_takes_ascending_digits_alone() -> None:
    assert compute_score("sort_digits", " 01334\n", "01334") == {"score": 1.0, "acc": 1.0}
    assert compute_score("sort_digits", "43310", "01334")["score"] == 0.0
    assert compute_score("sort_digits", "", "01334", extra_info={}, any_other=1)["score"] == 0.0


def test_evaluation_is_repeatable_and_tells_greedy_from_sampled(task: Path) -> None:
    first, again, other = (
        evaluate(task / "model", task / "heldout.parquet", greedy=False, seed=seed) for seed in (0, 0, 1)
    )
    greedy = evaluate(task / "model", task / "heldout.parquet", greedy=True)
    assert first.samples == again.samples
    assert first.samples != other.samples
    assert greedy.samples != first.samples
    assert len(first.samples) == 256
    # An untrained model sorts nothing.
    assert first.accuracy == 0.0


def test_the_warm_model_sorts_and_is_undecided_which_way_round(task: Path) -> None:
    found = evaluate(task / "warm", task / "heldout.parquet", greedy=False)
    assert found.accuracy + found.reversed_share > 0.65
    assert 0.2 < found.accuracy < found.reversed_share
    assert found.distinct_responses > 200


def test_evaluation_counts_what_it_says() -> None:
    result = Evaluation(
        [
            Sample("sort 31", "13", "13"),
            Sample("sort 31", "31", "13"),
            Sample("sort 11", "11", "11"),
            Sample("sort 12", "x", "12"),
        ]
    )
    assert (result.accuracy, result.reversed_share, result.distinct_responses) == (0.5, 0.25, 4)
    assert [sample.verdict for sample in result.samples] == ["right", "wrong way round", "right", "wrong"]
