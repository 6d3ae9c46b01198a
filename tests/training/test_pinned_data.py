"""A run trains on what its data were when it was launched, whatever becomes of the files."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

from verl_lab.domain.recipe import DataFiles
from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab import Lab

    from .conftest import Task


def test_data_that_change_after_the_launch_change_nothing(lab: Lab, task: Task, tmp_path: Path) -> None:
    for name in ("sft_train", "sft_val"):
        shutil.copy(task.data / f"{name}.parquet", tmp_path)
    data = DataFiles(train=str(tmp_path / "sft_train.parquet"), val=str(tmp_path / "sft_val.parquet"))
    recipe = task.recipe("sort-digits-sft").model_copy(update={"data": data})
    added = lab.datasets.add(tmp_path / "sft_train.parquet")
    run = lab.train(recipe, ["trainer.total_training_steps=2", "trainer.test_freq=2"], name="pinned")
    (tmp_path / "sft_train.parquet").write_bytes(b"not what it was")
    (tmp_path / "sft_val.parquet").unlink()
    assert run.wait(420) is RunState.COMPLETED, f"{run.status()}\n{run.logs()}"
    assert "val/loss" in run.metric_names()
    train, val = json.loads(run.layout.record.read_text())["datasets"]
    assert (train["hash"], train["role"], val["role"]) == (added.hash, "train", "val")
    assert run.config["data"]["train_files"] == train["snapshot"]
    assert train["snapshot"] in run.command
    assert train["hash"] not in {kept.hash for kept in lab.datasets.collect().copies}
