"""Which checkpoints a new run can go on from."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.lab.comparing.sides import recipe_of
from verl_lab.lab.launching.again import begin, steps_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Written


@pytest.fixture
def trained(write_launch: Callable[..., Written]) -> Written:
    """A run with checkpoints: two whole, one whose weights verl removed, one without a part, one being written."""
    made = write_launch("trained", Recipe(name="mine", algorithm="grpo"), overrides=["trainer.save_freq=10"])
    root = made.layout.checkpoints
    for step, parts in {10: (), 20: (0, 1), 30: (0,), 40: (0, 1), 50: (0, 1)}.items():
        actor = root / f"global_step_{step}" / "actor"
        actor.mkdir(parents=True)
        for rank in parts:
            (actor / f"model_world_size_2_rank_{rank}.pt").write_bytes(b"x")
    (root / "latest_checkpointed_iteration.txt").write_text("40")
    return made


def test_only_whole_checkpoints_count(lab: Lab, trained: Written) -> None:
    assert steps_of(lab.host, trained.run) == [20, 40]
    for step in (10, 30, 35, 50):
        with pytest.raises(NotFoundError, match=f"no checkpoint of step {step}") as caught:
            begin(lab, None, (), trained.run, step)
        assert "step 20, 40" in str(caught.value)
    (trained.layout.checkpoints / "latest_checkpointed_iteration.txt").unlink()
    assert steps_of(lab.host, trained.run) == []


def test_changes_come_after_what_the_parent_was_told(lab: Lab, trained: Written) -> None:
    beginning = begin(lab, None, ["trainer.save_freq=5"], "trained", 40)
    assert beginning.recipe == Recipe(name="mine", algorithm="grpo")
    assert beginning.overrides == ("trainer.save_freq=10", "trainer.save_freq=5")
    assert (beginning.parents[0].run, beginning.parents[0].how) == (trained.run.id, "fork")
    assert begin(lab, "grpo", (), "trained", None).recipe.name == "grpo"


def test_checkpoint_of_a_fork_outlives_its_parents(lab: Lab, trained: Written, tmp_path: Path) -> None:
    folder = tmp_path / "new"
    begin(lab, None, (), trained.run, 20).lay_down(lab.host, str(folder))
    part = folder / "checkpoints" / "global_step_20" / "actor" / "model_world_size_2_rank_1.pt"
    (trained.layout.checkpoints / "global_step_20" / "actor" / part.name).unlink()
    assert part.read_bytes() == b"x"
    assert (folder / "checkpoints" / "latest_checkpointed_iteration.txt").read_text() == "20"
    assert not (folder / "checkpoints" / "global_step_40").exists()


def test_address_of_a_webhook_is_taken_from_where_it_is_kept(lab: Lab, write_launch: Callable[..., Written]) -> None:
    recipe = Recipe.model_validate({"name": "x", "algorithm": "sft", "alerts": {"webhook": "https://a.example/secret"}})
    made = write_launch("told", recipe)
    assert "secret" not in made.layout.record.read_text()
    made.layout.checks.write_text('{"alerts": {"command": [], "webhook": "https://a.example/secret"}}')
    found = recipe_of(made.run)[0].alerts.webhook
    assert found is not None
    assert found.get_secret_value() == "https://a.example/secret"


def test_recipe_that_cannot_be_read_any_more_is_told(lab: Lab, write_launch: Callable[..., Written]) -> None:
    made = write_launch("future", Recipe(name="x", algorithm="sft"))
    made.layout.record.write_text(made.layout.record.read_text().replace('"algorithm": "sft"', '"algorithm": "zen"'))
    with pytest.raises(InvalidInputError, match="cannot be read by this version"):
        begin(lab, None, (), made.run, None)
