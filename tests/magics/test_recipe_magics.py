"""``%verl_recipes`` and ``%%verl_recipe`` in a real IPython shell."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Shell

CELL = "%%verl_recipe mine\n# Mine.\nextends: grpo-cpu\nparameters:\n  trainer.save_freq: 3  # often\n"


def test_a_cell_becomes_a_recipe_and_says_what_it_changes(shell: Shell, tmp_path: Path) -> None:
    first = shell.run(CELL)
    assert first.error is None
    assert re.match(r"Saved: mine, version [0-9a-f]{12}, user: .*mine\.yaml\n", first.printed)
    assert (tmp_path / "home" / "recipes" / "mine.yaml").read_text().startswith("# Mine.\nextends")
    again = shell.run(CELL)
    assert again.printed.startswith("Unchanged: mine")
    changed = shell.run(CELL.replace("3", "5") + "  data.train_batch_size: 8\n")
    assert "  ~ data.train_batch_size: 16 → 8\n  ~ trainer.save_freq: 3 → 5\n" in changed.printed
    assert "mine" in repr(shell.run("%verl_recipes").result)
    assert "%verl_train mine" in shell.complete("%verl_train mi")


def test_a_cell_that_is_no_recipe_names_line_and_column_and_writes_nothing(shell: Shell, tmp_path: Path) -> None:
    for cell, told in (
        ("algorithm: sft\nmodel: [1,,]", "line 2, column 11:"),
        ("algorithm: sft\nmodelx: x", "line 2, column 1: modelx: a recipe has no such field. The nearest: model"),
        ("a: !!python/name:os.system", "line 1, column 4: the tag"),
        ("extends: grop-cpu", "grpo-cpu"),
        ("- a", "mapping"),
    ):
        answer = shell.run(f"%%verl_recipe x\n{cell}")
        assert told in answer.told
        assert "Traceback" not in answer.printed
    assert "no name for a recipe" in shell.run("%%verl_recipe ../x\nalgorithm: sft").told
    assert not (tmp_path / "home" / "recipes").exists()


def test_a_cell_does_not_replace_what_something_else_wrote_since(shell: Shell, tmp_path: Path) -> None:
    shell.run(CELL)
    file = tmp_path / "home" / "recipes" / "mine.yaml"
    file.write_text("algorithm: sft\nnotes: by another\n")
    told = shell.run(CELL.replace("3", "4")).told
    assert "changed by something else" in told
    assert len(set(re.findall(r"version ([0-9a-f]{12})", told))) == 2
    assert file.read_text() == "algorithm: sft\nnotes: by another\n"
    assert "by another" in shell.run("%verl_recipes mine").printed
    assert shell.run(CELL.replace("3", "4")).error is None, "once it was shown it may be replaced"
    file.write_text("algorithm: sft\nnotes: by another\n")
    newest = repr(shell.run("%verl_recipes mine --versions").result).splitlines()[1].split()[0]
    shell.run(CELL)
    assert shell.run(CELL.replace("%%verl_recipe mine", f"%%verl_recipe mine --version {newest}")).error is None


def test_a_recipe_is_shown_with_where_it_lies_and_without_its_secrets(shell: Shell) -> None:
    shown = shell.run("%verl_recipes grpo-cpu").printed
    assert re.match(r"# grpo-cpu, version [0-9a-f]{12}, built-in: .*\n# Group-relative", shown)
    assert "# A KL loss keeps" in shown
    assert "gpu_memory_utilization" not in shown
    assert "gpu_memory_utilization" in shell.run("%verl_recipes grpo-cpu --full").printed
    shell.run(CELL + "alerts: {webhook: 'https://x.test/secret', command: [a]}\n")
    for line in ("%verl_recipes mine", "%verl_recipes mine --full"):
        assert "secret" not in shell.run(line).printed
        assert "**********" in shell.run(line).printed
    assert "secret" not in shell.run(CELL + "alerts: {webhook: 'https://x.test/secret2', command: [a]}\n").printed


def test_recipes_are_changed_by_options_and_each_change_can_be_taken_back(shell: Shell, tmp_path: Path) -> None:
    shell.run(CELL)
    assert "Made: other" in shell.run("%verl_recipes mine --fork other").printed
    assert "Renamed: third" in shell.run("%verl_recipes other --rename third").printed
    assert "third: deleted. %verl_recipes --undo" in shell.run("%verl_recipes third --delete").printed
    assert "no recipe 'third'" in shell.run("%verl_recipes third").told
    assert "Taken back: third: deleted." in shell.run("%verl_recipes --undo").printed
    assert "# Mine." in shell.run("%verl_recipes third").printed
    assert "Written: " in shell.run("%verl_recipes third --export out.yaml").printed
    assert "Imported: fourth" in shell.run("%verl_recipes fourth --import out.yaml").printed
    table = repr(shell.run("%verl_recipes third --versions").result)
    assert "undone" in table
    assert [line.split()[0] for line in repr(shell.run("%verl_recipes --search mi grpo").result).splitlines()[1:]]
    shell.run(CELL.replace("3", "9"))
    oldest = repr(shell.run("%verl_recipes mine --versions").result).splitlines()[-1].split()[0]
    assert "save_freq: 3" in shell.run(f"%verl_recipes mine --version {oldest}").printed
    assert shell.run("%verl_recipes --undo").error is None
    assert shell.run(CELL).printed.startswith("Unchanged")


def test_lines_that_ask_for_too_much_or_too_little_are_told(shell: Shell) -> None:
    assert "give its name" in shell.run("%verl_recipes --delete").told
    assert "One thing at a time" in shell.run("%verl_recipes grpo --delete --versions").told
    assert "leave RECIPE out" in shell.run("%verl_recipes grpo --search a").told
    assert "built in" in shell.run("%verl_recipes grpo --delete").told
    assert "no change" in shell.run("%verl_recipes --undo").told
    assert "usage: %verl_recipe" in shell.run("%%verl_recipe\nalgorithm: sft").told
    assert "usage: %verl_recipe" in shell.run("%%verl_recipe?").printed


def test_a_broken_recipe_is_listed_with_its_place_beside_the_others(shell: Shell, tmp_path: Path) -> None:
    (tmp_path / "recipes").mkdir()
    (tmp_path / "recipes" / "broken.yaml").write_text("algorithm: sft\nnotes: [\n")
    table = repr(shell.run("%verl_recipes").result)
    assert re.search(r"broken +project .*cannot be used: .*broken\.yaml, line 3, column 1", table)
    assert re.search(r"grpo-cpu +built-in +grpo", table)
