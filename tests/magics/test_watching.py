"""``%verl_watch --replay`` and ``%verl_compare`` in a real IPython shell."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import orjson
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


def test_logs_of_every_kind_are_watched_and_show_the_same_curves(
    shell: Shell, recordings: Path, tmp_path: Path
) -> None:
    from torch.utils.tensorboard import SummaryWriter

    folder = tmp_path / "events"
    writer = SummaryWriter(str(folder))
    for line in (recordings / "grpo-30-steps.jsonl").read_bytes().splitlines():
        record = orjson.loads(line)
        for name, value in record["data"].items():
            writer.add_scalar(name, value, record["step"])
    writer.close()
    logs = (recordings / "grpo-30-steps.jsonl", recordings / "grpo-30-steps.console.log", folder)
    of_file, of_console, of_events = cast(
        "list[Any]", [shell.run(f"run = %verl_watch {log}\nrun").result for log in logs]
    )
    for name in ("critic/score/mean", "actor/entropy", "actor/grad_norm"):
        steps, values = of_file.metrics(name)
        for other in (of_console, of_events):
            found = other.metrics(name)
            assert found[0].tolist() == steps.tolist()
            assert found[1] == pytest.approx(values, rel=1e-6)
    assert "hold" in shell.run(f"%verl_logs {of_events.id}").told
    assert shell.run(f"%verl_logs {of_console.id} --tail 2").error is None


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
