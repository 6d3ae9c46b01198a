"""``%verl_watch --replay`` and ``%verl_compare`` in a real IPython shell."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ("--replay --speed 0.01", "speed"), ("--replay --start 40", "start"), ("--replay --end -2", "end"),
        ("--speed 2", "--replay"), ("--start 2", "--replay"), ("--replay --wait", "--wait"),
        ("--replay --speed x", "usage"),
    ],
)  # fmt: skip
def test_replay_says_what_is_wrong_with_its_options(shell: Shell, recordings: Path, options: str, told: str) -> None:
    assert told in shell.run(f"%verl_watch {recordings / 'grpo-30-steps.jsonl'} {options}").told


def test_replay_gives_the_run(shell: Shell, recordings: Path) -> None:
    line = f"run = %verl_watch {recordings / 'sft-60-steps.jsonl'} --replay --speed 100 --start 50 --end 60"
    assert shell.run(f"{line}\nrun.name").result == "sft-60-steps.jsonl"


def test_compare_shows_runs_as_text_where_there_is_no_page(shell: Shell, recordings: Path) -> None:
    names = [recordings / f"{name}-steps.jsonl" for name in ("grpo-kl-loss-30", "grpo-30")]
    answer = shell.run(f"%verl_compare {names[0]} {names[1]} --metrics critic/score/mean")
    assert answer.error is None
    assert "Comparison of 2 runs" in answer.printed
    assert "Reward" in answer.printed


def test_compare_refuses_one_run_and_unknown_metrics(shell: Shell, recordings: Path) -> None:
    one, two = recordings / "grpo-30-steps.jsonl", recordings / "sft-60-steps.jsonl"
    assert "2 to 7" in shell.run(f"%verl_compare {one}").told
    assert "twice" in shell.run(f"%verl_compare {one} {one}").told
    assert "train/loss" in shell.run(f"%verl_compare {one} {two} --metrics train/los").told


def test_tab_completes_every_run_to_compare(shell: Shell, recordings: Path) -> None:
    run = shell.run(f"run = %verl_watch {recordings / 'grpo-30-steps.jsonl'}\nrun").result
    line = f"%verl_compare some-run {run.id[:12]}"  # type: ignore[attr-defined]
    assert f"%verl_compare some-run {run.id}" in shell.complete(line)  # type: ignore[attr-defined]
