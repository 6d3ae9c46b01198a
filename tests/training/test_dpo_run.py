"""Preference optimisation with real verl, from a fine-tuned model, launched as a user would."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import pytest

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from verl_lab import Lab, Run

    from .conftest import Task

pytestmark = pytest.mark.timeout(900)
STEPS = list(range(1, 21))


@pytest.fixture(scope="module")
def dpo(lab: Lab, task: Task) -> Run:
    """DPO, 20 steps, on the demo's model, which leans the wrong way."""
    recipe = task.recipe("sort-digits-dpo", model=str(task.data / "warm"))
    run = lab.train(recipe, ["trainer.total_training_steps=20", "trainer.save_freq=10"], name="dpo-20")
    assert run.wait(600) is RunState.COMPLETED, run.logs()
    return run


def test_held_out_preferences_are_learnt(dpo: Run) -> None:
    steps, prefers = dpo.metrics("val/logps/accuracies")
    assert steps.tolist() == [0, 10, 20]
    assert prefers[0] < 0.6  # SFT saw more answers the wrong way round than right
    assert prefers[-1] > 0.9
    assert dpo.metrics("val/rewards/accuracies")[1][-1] > 0.9
    assert dpo.metrics("val/rewards/margins")[1][-1] > 0.3
    assert np.diff(dpo.metrics("val/loss")[1]).max() < -0.05


def test_training_starts_where_the_model_is_its_own_reference(dpo: Run) -> None:
    steps, loss = dpo.metrics("train/loss")
    assert steps.tolist() == STEPS
    assert loss[0] == pytest.approx(math.log(2), abs=1e-6)
    assert dpo.metrics("val/loss")[1][0] == pytest.approx(math.log(2), abs=1e-6)
    assert dpo.metrics("rewards/margins")[1][0] == pytest.approx(0, abs=1e-5)
    assert loss[-3:].mean() < loss[:3].mean() - 0.05


def test_what_is_logged_has_the_names_of_the_field(dpo: Run) -> None:
    of_pairs = {
        f"{group}/{name}"
        for group, name in [("rewards", "margins"), ("rewards", "accuracies"), ("logps", "accuracies")]
    } | {f"{group}/{side}" for group in ("rewards", "logps") for side in ("chosen", "rejected")}
    wanted = {"train/loss", "train/grad_norm", "train/lr", "train/global_tokens", "val/loss"}
    assert wanted | of_pairs | {f"val/{name}" for name in of_pairs} <= set(dpo.metric_names())
    margins = dpo.metrics("rewards/chosen")[1] - dpo.metrics("rewards/rejected")[1]
    assert margins == pytest.approx(dpo.metrics("rewards/margins")[1], abs=1e-5)


def test_events_tell_what_became_of_the_rows(dpo: Run) -> None:
    read = [event.data for event in dpo.events() if event.kind == "data_read"]
    assert [(data["part"], data["truncated"], data["dropped"]) for data in read] == [("train", 0, 0), ("val", 0, 0)]
    assert read[0]["pairs"] > 4000
    assert [event.step for event in dpo.events() if event.kind == "checkpoint_saved"] == [10, 20]


def test_diagnosis_judges_it_and_finds_nothing_wrong(dpo: Run) -> None:
    health = dpo.health()
    # How fast a shared CPU is says nothing about the training.
    assert [entry.rule for entry in health.breakdown if entry.rule not in {"slowdown", "plateau"}] == []


def test_checkpoint_is_a_model_that_sorts_the_right_way_round(dpo: Run) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = dpo.model_path()
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    scores: list[float] = []
    for answer in ("01347", "74310"):
        text = f"<|im_start|>u\nsort 40713<|im_end|>\n<|im_start|>a\n{answer}<|im_end|>\n"
        tokens = tokenizer(text, return_tensors="pt")["input_ids"]
        with torch.no_grad():
            scores.append(-model(input_ids=tokens, labels=tokens).loss.item())
    assert scores[0] > scores[1]


@pytest.mark.gpu
def test_dpo_trains_on_cuda(lab: Lab, task: Task) -> None:
    recipe = task.recipe("sort-digits-dpo")
    settings = ["resources.device=gpu", "trainer.total_training_steps=20", "data.use_dynamic_bsz=true"]
    run = lab.train(recipe, settings, name="dpo-on-gpu")
    assert run.wait(600) is RunState.COMPLETED, run.logs()
    assert run.metrics("train/loss")[0].tolist() == STEPS
    assert run.metrics("val/rewards/margins")[1][-1] > 0.05
