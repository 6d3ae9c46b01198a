"""Every template in its small form, for a few steps of real verl; two run at a time, one a core."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from verl_lab.domain.run import RunState

from .conftest import DEADLINE_S, Task

if TYPE_CHECKING:
    from verl_lab import Lab, Run

pytestmark = pytest.mark.timeout(1800)

STEPS = 3
AT_ONCE = 2
# An untrained model gets nothing right, and where no group differs dynamic sampling has no end.
REWARD = """
def compute_score(data_source, solution_str, ground_truth, extra_info=None, **_):
    share = sum(character.isdigit() for character in solution_str) / max(1, len(solution_str))
    return {"score": share, "acc": share}
"""
FAMILY = ("ppo-cpu", "dapo-cpu", "dr-grpo-cpu", "rloo-cpu", "reinforce-plus-plus-cpu")
SETTINGS = [
    f"trainer.total_training_steps={STEPS}",
    "trainer.val_before_train=false",
    "trainer.save_freq=-1",
    "data.max_prompt_length=32",
    "data.max_response_length=10",
    "data.val_max_samples=16",
    # From an untrained model nearly every answer is cut, which is critical.
    "checks.on_critical=ignore",
]
OF_ITS_OWN = {
    "ppo-cpu": [f"trainer.save_freq={STEPS}"],
    "dapo-cpu": ["reward.reward_kwargs.overlong_buffer_cfg.len=4"],
}


@pytest.fixture(scope="session")
def trained(lab: Lab, task: Task) -> dict[str, Run]:
    """Train the small form of every template that learns from rewards."""
    (task.project / "digits.py").write_text(REWARD)
    inputs = [
        f"model={task.data}/model",
        f"data.train={task.data}/rl_train.parquet",
        f"data.val={task.data}/heldout.parquet",
        f"reward.path={task.project}/digits.py",
    ]
    runs: dict[str, Run] = {}
    deadline = time.monotonic() + 3 * DEADLINE_S
    for name in FAMILY:
        while sum(not run.state.is_over for run in runs.values()) >= AT_ONCE:
            assert time.monotonic() < deadline, {name: run.status() for name, run in runs.items()}
            time.sleep(0.2)
        runs[name] = lab.train(name, [*inputs, *SETTINGS, *OF_ITS_OWN.get(name, [])])
    for run in runs.values():
        run.wait(DEADLINE_S)
    return runs


def series(run: Run, metric: str) -> np.ndarray[Any, Any]:
    """Return a metric's values after a look that there is one a step, and that all are finite."""
    steps, values = run.metrics(metric)
    assert steps.tolist() == list(range(1, STEPS + 1)), metric
    assert np.isfinite(values).all(), (metric, values)
    return values


@pytest.mark.parametrize("name", FAMILY)
def test_template_trains_to_its_last_step(trained: dict[str, Run], name: str) -> None:
    run = trained[name]
    status = run.status()
    assert (status.state, status.step, status.exit_code) == (RunState.COMPLETED, STEPS, 0), run.logs(tail=60)
    for metric in ("actor/pg_loss", "actor/entropy", "critic/score/mean", "training/rollout_probs_diff_max"):
        series(run, metric)
    assert (series(run, "actor/grad_norm") > 0).all()
    assert run.metrics("val-core/sort_digits/acc/mean@1")[0].tolist() == [STEPS]


@pytest.mark.parametrize(
    ("name", "estimator"),
    [
        ("ppo-cpu", "gae"),
        ("dapo-cpu", "grpo"),
        ("dr-grpo-cpu", "grpo"),
        ("rloo-cpu", "rloo"),
        ("reinforce-plus-plus-cpu", "reinforce_plus_plus"),
    ],
)
def test_template_is_the_algorithm_it_is_named_after(trained: dict[str, Run], name: str, estimator: str) -> None:
    assert trained[name].config["algorithm"]["adv_estimator"] == estimator


def test_ppo_trains_a_critic(trained: dict[str, Run]) -> None:
    import torch

    run = trained["ppo-cpu"]
    assert (series(run, "critic/vf_loss") > 0).all()
    assert (series(run, "critic/grad_norm") > 0).all()
    for metric in ("critic/vf_explained_var", "critic/values/mean", "critic/vf_clipfrac"):
        series(run, metric)
    saved = run.layout.checkpoints / f"global_step_{STEPS}"
    actor, critic = (
        torch.load(saved / role / "model_world_size_1_rank_0.pt", weights_only=False) for role in ("actor", "critic")
    )
    assert critic["score.weight"].shape == (1, 128)
    # Both began as the same model, and each was trained for its own ends.
    name = "model.layers.0.mlp.up_proj.weight"
    assert not torch.equal(actor[name].to_local(), critic[name].to_local())


def test_dapo_samples_dead_groups_anew_and_pays_for_length(trained: dict[str, Run]) -> None:
    run = trained["dapo-cpu"]
    assert (series(run, "samples/dead_groups") == 0).all()
    # The share of digits is never negative; only the penalty is.
    assert series(run, "critic/score/min").min() < 0
    actor = run.config["actor_rollout_ref"]["actor"]
    assert (actor["clip_ratio_low"], actor["clip_ratio_high"], actor["loss_agg_mode"]) == (0.2, 0.28, "token-mean")


def test_dr_grpo_divides_by_a_constant_and_not_by_the_deviation(trained: dict[str, Run]) -> None:
    run = trained["dr-grpo-cpu"]
    # Rewards between 0 and 1 differ from their mean by less than one; divided by their deviation they would not.
    assert series(run, "critic/advantages/max").max() <= 1
    # What verl reports under this aggregation: a sum over each response, divided by the longest there may be.
    length = series(run, "response_length/mean")
    per_token = trained["rloo-cpu"].metrics("actor/entropy")[1][0]
    assert series(run, "actor/entropy")[0] == pytest.approx(per_token * length[0] / 10, rel=0.02)


def test_rloo_pays_for_the_distance_in_the_reward(trained: dict[str, Run]) -> None:
    run = trained["rloo-cpu"]
    series(run, "actor/reward_kl_penalty")
    assert "actor/kl_loss" not in run.metric_names()
    # The others' mean is the baseline, so that some answers of a batch are better than it and some worse.
    assert series(run, "critic/advantages/min").min() < 0 < series(run, "critic/advantages/max").max()


def test_reinforce_plus_plus_normalises_over_the_batch(trained: dict[str, Run]) -> None:
    run = trained["reinforce-plus-plus-cpu"]
    assert series(run, "critic/advantages/mean") == pytest.approx(np.zeros(STEPS), abs=1e-3)
    series(run, "actor/kl_loss")


@pytest.fixture(scope="session")
def lora(lab: Lab, task: Task) -> Run:
    """Train adapters for some steps."""
    overrides = [
        f"model={task.data}/model",
        f"data.train={task.data}/sft_train.parquet",
        f"data.val={task.data}/sft_val.parquet",
        "trainer.total_training_steps=12",
        "trainer.save_freq=12",
        "trainer.test_freq=12",
    ]
    run = lab.train("sft-lora-cpu", overrides)
    assert run.wait(DEADLINE_S) is RunState.COMPLETED, run.logs(tail=60)
    return run


def test_lora_learns(lora: Run) -> None:
    steps, loss = lora.metrics("train/loss")
    assert steps.tolist() == list(range(1, 13))
    assert loss[-3:].mean() < loss[:3].mean()


def test_lora_checkpoint_is_the_trained_model_for_the_next_stage(lora: Run, task: Task) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    merged = AutoModelForCausalLM.from_pretrained(lora.model_path())
    base = AutoModelForCausalLM.from_pretrained(task.data / "model")
    assert merged.state_dict().keys() == base.state_dict().keys()
    tokens = torch.arange(4, 40)[None]
    with torch.no_grad():
        before, after = base(tokens).logits, merged(tokens).logits
        # What verl itself saved: the model with its adapters beside it.
        settings = lora.config["model"]
        whole = get_peft_model(
            base, LoraConfig(r=settings["lora_rank"], lora_alpha=settings["lora_alpha"], target_modules="all-linear")
        )
        shard = lora.layout.checkpoints / "global_step_12" / "model_world_size_1_rank_0.pt"
        saved = torch.load(shard, weights_only=False)
        whole.load_state_dict({name: tensor.to_local() for name, tensor in saved.items()})
        told = whole.eval()(tokens).logits
    assert torch.allclose(after, told, atol=1e-5)
    assert not torch.allclose(after, before, atol=1e-2)
