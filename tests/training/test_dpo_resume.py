"""Preference optimisation stopped and resumed, on one rank and on two, against the same without a break."""

from __future__ import annotations

import json
import math
import os
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from verl_lab.recipes.render import render

if TYPE_CHECKING:
    from pathlib import Path

    from .conftest import Task

pytestmark = pytest.mark.timeout(900)
TOTAL = 4
# What a clock or the memory says is not part of a training.
MEASURED = ("train/mfu", "perf/", "train/total_tokens")


@dataclass
class Training:
    """One training by the command that a launch would run, in a folder of its own."""

    task: Task
    folder: Path
    ranks: int = 1
    attempts: int = 0

    def start(self, *, stopping: bool = False) -> dict[int, dict[str, float]]:
        """Run the command once; ``stopping`` has asked for a graceful stop before it begins."""
        self.attempts += 1
        attempt = self.folder / "attempts" / str(self.attempts)
        attempt.mkdir(parents=True)
        if stopping:
            (attempt / "stop.json").write_text('{"mode": "graceful", "time": 0, "grace_s": 600}')
        recipe = self.task.recipe("sort-digits-dpo")
        settings = [f"trainer.total_training_steps={TOTAL}", "trainer.test_freq=2", "data.micro_batch_size_per_gpu=16"]
        rendered = render(recipe, settings, device="cpu")
        places = {"@run@": self.folder, "@attempt@": attempt, "@scratch@": attempt}
        argv, env = list(rendered.argv), dict(rendered.env)
        if self.ranks > 1:
            argv[1:1] = ["-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={self.ranks}"]
        for token, place in places.items():
            argv = [part.replace(token, str(place)) for part in argv]
            env = {name: value.replace(token, str(place)) for name, value in env.items()}
        told = {"VERL_LAB_ATTEMPT_DIR": str(attempt), "VERL_LAB_RUN_ID": "r", "VERL_LAB_ATTEMPT": str(self.attempts)}
        done = subprocess.run(argv, env={**os.environ, **env, **told}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-4000:]
        records = [json.loads(line) for line in (attempt / "metrics.jsonl").read_text().splitlines()[1:]]
        return {
            record["step"]: {name: x for name, x in record["data"].items() if not name.startswith(MEASURED)}
            for record in records
        }

    def events(self) -> list[str]:
        lines = (self.folder / "attempts" / str(self.attempts) / "events.jsonl").read_text().splitlines()[1:]
        return [json.loads(line)["kind"] for line in lines]


@pytest.fixture(scope="module")
def unbroken(task: Task, tmp_path_factory: pytest.TempPathFactory) -> dict[int, dict[str, float]]:
    found = Training(task, tmp_path_factory.mktemp("unbroken")).start()
    assert list(found) == [0, *range(1, TOTAL + 1)]
    assert found[TOTAL]["train/loss"] < math.log(2) - 1e-3
    return found


def test_a_resumed_training_goes_on_to_the_bit(
    task: Task, tmp_path: Path, unbroken: dict[int, dict[str, float]]
) -> None:
    training = Training(task, tmp_path)
    before = training.start(stopping=True)
    assert list(before) == [0, 1]
    assert training.events()[-2:] == ["checkpoint_saved", "train_end"]
    after = training.start()
    assert list(after) == list(range(2, TOTAL + 1))  # step 0 was measured by the first attempt
    assert {**before, **after} == unbroken


def test_two_ranks_train_and_resume_as_one_does(
    task: Task, tmp_path: Path, unbroken: dict[int, dict[str, float]]
) -> None:
    training = Training(task, tmp_path, ranks=2)
    found = training.start(stopping=True) | training.start()
    assert list(found) == list(unbroken)
    for step, metrics in unbroken.items():
        assert found[step] == pytest.approx(metrics, rel=1e-4, abs=1e-5), step
