"""Real SFT runs that come from another: with changes, forked from a checkpoint, begun from its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.magics.matrix import train_all

if TYPE_CHECKING:
    from verl_lab import Lab, Run

    from .conftest import SftHistory

pytestmark = pytest.mark.timeout(900)


def _finished(run: Run) -> Run:
    assert run.wait(420) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    return run


@pytest.fixture(scope="module")
def home(sft: SftHistory) -> Lab:
    """Return the lab of the SFT run, which has checkpoints of steps 10 and 20."""
    return sft.run._lab


@pytest.fixture(scope="module")
def forked(home: Lab, sft: SftHistory) -> Run:
    """Fork the SFT run from step 10, with another learning rate, to step 13."""
    settings = ["trainer.total_training_steps=13", "optim.lr=5e-4"]
    return _finished(home.train(None, settings, name="forked", parent=sft.run, from_step=10))


@pytest.fixture(scope="module")
def child(home: Lab, sft: SftHistory) -> Run:
    """Train two steps from the weights that the SFT run ended with."""
    settings = [f"model={sft.run.model_path()}", "trainer.total_training_steps=2"]
    return _finished(home.train("sft-20", settings, name="child"))


def test_fork_goes_on_from_the_step_in_a_folder_of_its_own(forked: Run, sft: SftHistory) -> None:
    begun = [event.data.get("resumed_from") for event in forked.events() if event.kind == "train_begin"]
    assert begun == [10]
    assert forked.metrics("train/loss")[0].tolist() == [11, 12, 13]
    own, parents = (run.layout.checkpoints / "global_step_10" for run in (forked, sft.run))
    assert sorted(p.name for p in own.iterdir()) == sorted(p.name for p in parents.iterdir())
    assert (sft.run.layout.checkpoints / "latest_checkpointed_iteration.txt").read_text() == "20"
    assert sft.run.model_path(10)


def test_fork_begins_where_the_parent_stood(forked: Run, sft: SftHistory) -> None:
    same = sft.run.metrics("train/loss", start_step=11, end_step=11)[1]
    assert forked.metrics("train/loss", end_step=11)[1] == pytest.approx(same, rel=1e-3)


def test_difference_is_exactly_what_was_changed(home: Lab, forked: Run, sft: SftHistory) -> None:
    found = home.diff(sft.run, forked)
    assert found.telling == ["optim.lr", "trainer.total_training_steps"]
    assert (found.added, found.removed) == ({}, {})
    assert found.as_overrides() == ["optim.lr=0.0005", "trainer.total_training_steps=13"]


def test_lineage_leads_from_either_to_the_parent_and_its_data(
    home: Lab, forked: Run, child: Run, sft: SftHistory
) -> None:
    parent = sft.run.id
    for run, step in ((forked, 10), (child, 20)):
        above = {node.id for node in home.lineage(run).ancestors()}
        assert {f"run:{parent}", f"checkpoint:{parent}@{step}"} <= above
        data = [node for node in above if node.startswith("dataset:")]
        assert len(data) == 2
        assert all(len(node.removeprefix("dataset:")) == 64 for node in data)
    below = {node.label for node in home.lineage(sft.run).descendants() if node.kind == "run"}
    assert {forked.id, child.id} <= below
    before = home.lineage(sft.run).to_dict()
    home.reindex()
    assert home.lineage(sft.run).to_dict() == before


def test_run_again_has_the_recipe_and_the_overrides_of_its_parent(home: Lab, sft: SftHistory) -> None:
    planned = home.train(None, ["optim.lr=1e-3"], parent=sft.run.id, dry_run=True)
    assert planned.config["trainer"]["total_training_steps"] == 20
    assert planned.config["trainer"]["save_freq"] == 10
    assert "optim.lr=0.001" in planned.command


def test_fork_that_cannot_be_is_refused_before_launch(home: Lab, sft: SftHistory) -> None:
    with pytest.raises(NotFoundError, match="no checkpoint of step 15") as caught:
        home.train(None, parent=sft.run, from_step=15, dry_run=True)
    assert "step 10, 20" in str(caught.value)
    with pytest.raises(InvalidInputError, match="not before the last step, 20"):
        home.train(None, parent=sft.run, from_step=20, dry_run=True)
    with pytest.raises(InvalidInputError, match="resume_mode"):
        home.train(None, ["trainer.resume_mode=disable"], parent=sft.run, from_step=10, dry_run=True)
    with pytest.raises(InvalidInputError, match="needs the run"):
        home.train("sft-20", from_step=10, dry_run=True)
    with pytest.raises(InvalidInputError, match="recipe: is missing"):
        home.train(dry_run=True)


def test_matrix_plans_a_run_for_each_combination(home: Lab) -> None:
    planned = home.matrix("sft-20", {"optim.lr": [1e-3, 2e-3], "trainer.total_training_steps": [2, 3]}, name="try")
    assert [run.name for run in planned] == [
        "try,lr=0.001,total_training_steps=2",
        "try,lr=0.001,total_training_steps=3",
        "try,lr=0.002,total_training_steps=2",
        "try,lr=0.002,total_training_steps=3",
    ]
    assert [run.status().total for run in planned] == [2, 3, 2, 3]
    with pytest.raises(InvalidInputError, match=r"optim\.lrr"):
        home.matrix("sft-20", {"optim.lrr": [1]})
    with pytest.raises(InvalidInputError, match="no list of values"):
        home.matrix("sft-20", {"optim.lr": []})
    with pytest.raises(InvalidInputError, match="1 to 100"):
        home.matrix("sft-20", {"optim.lr": list(range(1, 102))})


def test_matrix_is_launched_one_run_after_the_other(home: Lab) -> None:
    settings = ["trainer.total_training_steps=1", "trainer.test_freq=-1", "trainer.save_freq=-1"]
    runs = train_all(home, "sft-20", home.matrix("sft-20", {"optim.lr": [1e-3, 2e-3]}, settings))
    first, second = (run.status() for run in runs)
    assert [one.state for one in (first, second)] == [RunState.COMPLETED] * 2
    assert first.ended is not None
    assert second.started is not None
    assert first.ended <= second.started
    assert home.diff_table([run.id for run in runs]).keys == ("optim.lr",)
