"""``%verl_diff``, ``%verl_lineage``, ``%verl_recommend``, and what ``%verl_train`` does with a parent or a matrix."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from verl_lab.magics.line import MagicError
from verl_lab.magics.matrix import values_of

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell


def test_difference_of_two_files_and_of_recipes(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("lr: 1e-6\nn: 4\n")
    (tmp_path / "b.yaml").write_text("lr: 3e-6\nn: 4\n")
    assert "~ lr: 1e-06 → 3e-06" in shell.run("%verl_diff a.yaml b.yaml").printed
    assert shell.run("%verl_diff a.yaml b.yaml --overrides").printed == "lr=3e-06\n"
    table: Any = shell.run("%verl_diff grpo grpo-cpu ppo").result
    assert "resources.device" in table.keys
    assert len(table.labels) == 3
    assert "There is no run or recipe 'gropo'" in shell.run("%verl_diff grpo gropo").told


def test_lineage_and_recommendation_say_what_there_is_not(shell: Shell) -> None:
    assert "recipe grpo\nNo run of this lab has used grpo." in shell.run("%verl_lineage grpo").printed
    assert "no grpo run has completed here yet" in shell.run("%verl_recommend grpo-cpu").printed
    assert "The nearest: grpo" in shell.run("%verl_recommend grop").told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("%verl_train --from nothing", "no run 'nothing'"),
        ("%verl_train grpo-cpu --from-step 3", "needs the run whose checkpoint it is"),
        ("%verl_train", "give a RECIPE, or --from RUN"),
        ("%verl_train grpo-cpu --from nothing --matrix a=1,2", "cannot go with --from"),
        ("%verl_train sft-cpu --matrix optim.lr=", "optim.lr"),
    ],
)
def test_what_cannot_begin_is_told(shell: Shell, line: str, told: str) -> None:
    assert told in shell.run(line).told


def test_matrix_is_read_with_its_types() -> None:
    words = ["a.lr=1e-6,3e-6", "n=4,8", "text=x", 'quoted="a,b",c', "lists=[1,2],[3]"]
    assert values_of(words) == {
        "a.lr": [1e-6, 3e-6],
        "n": [4, 8],
        "text": ["x"],
        "quoted": ["a,b", "c"],
        "lists": [[1, 2], [3]],
    }
    with pytest.raises(MagicError, match="twice"):
        values_of(["n=1", "n=2"])


def test_names_of_runs_and_recipes_are_completed(shell: Shell) -> None:
    assert "%verl_diff grpo-cpu" in shell.complete("%verl_diff grpo-c")
    assert "%verl_recommend sft-cpu" in shell.complete("%verl_recommend sft-c")
    assert "%verl_train grpo --matrix data.train_batch_size=" in shell.complete(
        "%verl_train grpo --matrix data.train_batch"
    )
