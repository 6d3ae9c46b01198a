"""``%verl_demo``: what it says. How the demo is made: see tests/lab/test_demo.py."""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.lab.demo import SHIPPED

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell

PARTS = ("model", "warm", "reward.py", "sft_train", "sft_val", "rl_train", "dpo_train", "heldout", "dpo_heldout")


def test_help_and_completion(shell: Shell) -> None:
    assert "sort-digits-grpo` trains" in shell.run("%verl_demo --help").printed
    assert "%verl_demo" in shell.complete("%verl_de")
    assert "unrecognized arguments: twice" in shell.run("%verl_demo twice").told


def test_it_ends_with_the_next_line_and_every_cell_knows_its_recipes(shell: Shell, tmp_path: Path) -> None:
    folder = tmp_path / "home" / "demo" / "sort-digits"
    folder.mkdir(parents=True)
    for part in PARTS:
        (folder / (part if part in PARTS[:3] else f"{part}.parquet")).touch()
    answer = shell.run("%verl_demo")
    assert answer.printed.splitlines()[-1] == "Next: %verl_train sort-digits-grpo"
    assert str(folder) in answer.printed
    assert "%verl_train sort-digits-grpo" in shell.complete("%verl_train sort-")
    shipped = (SHIPPED / "recipes" / "sort-digits-grpo.yaml").read_text()
    assert (tmp_path / "home" / "recipes" / "sort-digits-grpo.yaml").read_text() == shipped


def test_what_is_in_its_way_is_told_without_a_traceback(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "demo").write_text("a file")
    assert "cannot be written" in shell.run("%verl_demo").told
