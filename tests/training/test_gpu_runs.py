"""The same SFT and GRPO on CUDA, with verl's stock platform and vLLM's rollout (role ``training``)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.run import RunState

if TYPE_CHECKING:
    from verl_lab import Lab, Run

    from .conftest import Task

pytestmark = [pytest.mark.gpu, pytest.mark.timeout(1800)]


@pytest.fixture(scope="module")
def sft_on_gpu(lab: Lab, task: Task) -> Run:
    """Train 20 steps from a model whose attention heads vLLM has kernels for (64 wide)."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

    small = task.data / "model"
    wide = task.project / "model-64"
    config = AutoConfig.from_pretrained(small, num_attention_heads=2, num_key_value_heads=2, head_dim=64)
    AutoModelForCausalLM.from_config(config).save_pretrained(wide)
    AutoTokenizer.from_pretrained(small).save_pretrained(wide)
    recipe = task.recipe("sort-digits-sft", extends="sft", model=str(wide))
    overrides = ["resources.device=gpu", "trainer.total_training_steps=20", "trainer.save_freq=20"]
    run = lab.train(recipe, overrides, name="sft-on-gpu")
    assert run.wait(900) is RunState.COMPLETED, run.logs()
    return run


def test_sft_trains_on_cuda_with_the_same_callbacks(sft_on_gpu: Run) -> None:
    steps, loss = sft_on_gpu.metrics("train/loss")
    assert steps.tolist() == list(range(1, 21))
    assert loss[-3:].mean() < loss[:3].mean()
    begun = next(e for e in sft_on_gpu.events() if e.kind == "train_begin")
    assert begun.data["platform"] != "cpu"


def test_grpo_trains_on_cuda_with_the_stock_rollout(lab: Lab, task: Task, sft_on_gpu: Run) -> None:
    recipe = task.recipe("sort-digits-grpo", model=sft_on_gpu.model_path())
    overrides = [
        "resources.device=gpu",
        "actor_rollout_ref.rollout.name=vllm",
        "trainer.total_training_steps=10",
        "trainer.test_freq=5",
        "checks.on_critical=ignore",  # so short an SFT leaves answers that are cut off, rightly critical
    ]
    run = lab.train(recipe, overrides, name="grpo-on-gpu")
    assert run.wait(1200) is RunState.COMPLETED, run.logs()
    assert run.metrics("critic/score/mean")[0].tolist() == list(range(1, 11))
    assert run.config["actor_rollout_ref"]["rollout"]["name"] == "vllm"
