"""Rows that no trainer can use, rows that come twice, and held-out rows that are trained on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.errors import NotFoundError

if TYPE_CHECKING:
    import random
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab
    from verl_lab.domain.recipe import Algorithm, Problem

    MakeRow = Callable[..., dict[str, Any]]

PAIR = {"prompt": "a?", "chosen": "b", "rejected": "c"}
JUDGED = {"style": "rule", "ground_truth": "1"}
TALK = [{"role": "user", "content": "a?"}]

WRONG: list[tuple[Algorithm, dict[str, Any], str]] = [
    ("sft", {"text": "a"}, "lack this column"),
    ("sft", {"messages": None, "id": 1}, "are empty"),
    ("sft", {"messages": None}, "are empty in every column"),
    ("sft", {"messages": [], "id": 1}, "are empty"),
    ("sft", {"messages": "a text"}, "no list of messages"),
    ("sft", {"messages": [{"role": "user"}]}, "no list of messages"),
    ("sft", {"messages": TALK}, "no message of the assistant"),
    ("sft", {"messages": [*TALK, {"role": "assistant", "content": " "}]}, "a message without text"),
    ("sft", {"messages": [*TALK, {"role": "gpt", "content": "x"}]}, "role that chat templates do not know"),
    ("grpo", {"prompt": "a?", "data_source": "s", "reward_model": JUDGED}, "takes a list of messages"),
    ("ppo", {"prompt": TALK, "data_source": "", "reward_model": JUDGED}, "no reward function"),
    ("rloo", {"prompt": TALK, "data_source": "s", "reward_model": {"style": "rule"}}, "no ground_truth"),
    ("grpo", {"prompt": TALK, "data_source": "s", "reward_model": None}, "no ground_truth"),
    ("grpo", {"prompt": TALK, "data_source": "s"}, "lack this column"),
    ("dpo", {**PAIR, "chosen": " "}, "are empty"),
    ("dpo", {**PAIR, "chosen": "c"}, "nothing to prefer"),
    ("dpo", {**PAIR, "prompt": 7}, "no list of messages"),
    ("dpo", {"prompt": "a?", "chosen": "b"}, "lack this column"),
    ("dpo", {"chosen": "b", "rejected": "c"}, "are empty"),
]

SOUND: list[tuple[Algorithm, dict[str, Any]]] = [
    ("sft", {"messages": [*TALK, {"role": "assistant", "content": "b"}]}),
    ("sft", {"messages": [*TALK, {"role": "assistant", "content": None, "tool_calls": [1]}]}),
    ("grpo", {"prompt": TALK, "data_source": "s", "reward_model": JUDGED}),
    ("dpo", PAIR),
    ("dpo", {side: [*TALK, {"role": "assistant", "content": side}] for side in ("chosen", "rejected")}),
    ("dpo", {"prompt": TALK, "chosen": [*TALK, {"role": "assistant", "content": "b"}], "rejected": "c"}),
]


@pytest.mark.parametrize(("algorithm", "row", "why"), WRONG)
def test_a_row_that_cannot_be_trained_on_is_named(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], algorithm: Algorithm, row: dict[str, Any], why: str
) -> None:
    sound = next(
        good for name, good in SOUND if (name == algorithm) or (name, algorithm) in {("grpo", "ppo"), ("grpo", "rloo")}
    )
    file = write_rows(tmp_path / "x.jsonl", [sound, row])
    told = [str(problem) for problem in lab.datasets.check(file, algorithm=algorithm)]
    assert [text for text in told if why in text and "row 1" in text], told


@pytest.mark.parametrize(("algorithm", "row"), SOUND)
def test_a_sound_row_has_no_problem_whether_or_not_its_use_is_said(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], algorithm: Algorithm, row: dict[str, Any]
) -> None:
    file = write_rows(tmp_path / "x.jsonl", [row])
    assert lab.datasets.check(file, algorithm=algorithm) == []
    assert lab.datasets.check(file) == []


def test_parquet_rows_are_checked_as_they_come_back(lab: Lab, tmp_path: Path, rl_row: MakeRow) -> None:
    file = tmp_path / "x.parquet"
    pq.write_table(pa.Table.from_pylist([rl_row(str(n)) for n in range(1000)]), file)
    assert lab.datasets.check(file, algorithm="grpo") == []


def test_repeated_rows_are_counted_with_the_rows_they_repeat(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], rl_row: MakeRow
) -> None:
    rows = [
        rl_row("a"),
        rl_row("b"),
        rl_row("a"),
        {**rl_row("b"), "extra_info": {"index": 3}},
        rl_row("b", "2"),
        rl_row("a"),
    ]
    (problem,) = lab.datasets.check(write_rows(tmp_path / "x.jsonl", rows))
    assert (problem.value, problem.severity) == (3, "warning")
    assert "3 of 6 rows repeat an earlier one (rows 2, 3, 5; row 2 repeats row 0)" in problem.message


def leaks(problems: list[Problem]) -> list[Problem]:
    return [problem for problem in problems if "ask what" in problem.message]


def test_a_leak_between_splits_is_counted_exactly(
    lab: Lab, tmp_path: Path, write_rows: Callable[..., Path], sft_row: MakeRow, dice: random.Random
) -> None:
    trained = [f"question {n}" for n in range(3000)]
    held_out = [f"new {n}" for n in range(300)]
    where = sorted(dice.sample(range(300), 17))
    for place in where:
        held_out[place] = dice.choice(trained)
    write_rows(tmp_path / "set" / "train.jsonl", [sft_row(q) for q in trained])
    # Another answer, other white space, further fields: the question is the same.
    write_rows(tmp_path / "set" / "test.jsonl", [{**sft_row(f"  {q} \n", "no"), "split": "test"} for q in held_out])
    (leak,) = leaks(lab.datasets.check(tmp_path / "set"))
    assert leak.value == 17
    assert leak.key.startswith("test")
    assert f"17 of 300 rows ask what train asks too (rows {', '.join(map(str, where[:5]))}, …" in leak.message
    assert held_out[where[0]] in leak.message
    files = (tmp_path / "set" / "train.jsonl", tmp_path / "set" / "test.jsonl")
    (same,) = leaks(lab.datasets.check(files[0], held_out=files[1]))
    assert same.value == 17
    assert not leaks(lab.datasets.check(write_rows(tmp_path / "a.jsonl", [sft_row("a")]), held_out=files[1]))


def test_a_broken_file_is_a_problem_and_not_an_exception(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x.jsonl").write_text('{"messages": []}\nno json\n')
    first = lab.datasets.check(tmp_path / "x.jsonl", algorithm="sft")[0]
    assert "line 2" in str(first)
    assert first.severity == "error"


def test_no_rows_and_unknown_algorithms_are_told(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "x").write_text("words")
    (problem,) = lab.datasets.check(tmp_path / "x")
    assert "no rows" in problem.message
    with pytest.raises(NotFoundError, match="grop"):
        lab.datasets.check(tmp_path / "x", algorithm="grop")  # pyright: ignore[reportArgumentType]
