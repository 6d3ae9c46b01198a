"""What a dry run and ``lab.validate`` say before anything is launched."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import InvalidConfigurationError, NotFoundError
from verl_lab.lab.launching.coverage import LOGGED
from verl_lab.recipes.schema import schema_of

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab import Lab
    from verl_lab.lab.launching.planned import PlannedRun

ACTOR = "actor_rollout_ref.actor"


@pytest.fixture
def grpo(tmp_path: Path) -> list[str]:
    """Return overrides that give grpo-cpu all it reads."""
    model = tmp_path / "model"
    model.mkdir()
    shape = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 50}
    (model / "config.json").write_text(json.dumps(shape))
    (model / "vocab.json").write_text("{}")
    (model / "chat_template.jinja").write_text("x")
    row = {
        "prompt": [{"role": "user", "content": "<b>hi</b>"}],
        "data_source": "x",
        "reward_model": {"ground_truth": "1"},
    }
    pq.write_table(pa.Table.from_pylist([row] * 64), tmp_path / "rl.parquet")
    return [f"model={model}", f"data.train={tmp_path}/rl.parquet", f"data.val={tmp_path}/rl.parquet"]


def planned(lab: Lab, *overrides: str) -> PlannedRun:
    run: Any = lab.train("grpo-cpu", overrides, dry_run=True)
    return run


def test_a_plan_shows_steps_batches_memory_rules_and_the_command(lab: Lab, grpo: list[str]) -> None:
    text = repr(planned(lab, *grpo).report())
    assert "steps        4 (64 rows, batches of 16, at most 1 epoch)" in text
    assert "16 prompts x 8 answers = 128; 1 update of the policy on 16 prompts, 16384 tokens at a time" in text
    assert "memory       about " in text
    assert "on this machine: training " in text
    assert "validation   every 10 steps, and at the end" in text
    assert "diagnosis    20 of 22 rules will have data (5 are about other algorithms or devices)" in text
    assert f"kl-explosion: the run logs no actor/kl_loss or actor/reward_kl_penalty; {ACTOR}.use_kl_loss=true" in text
    assert "verl_lab.verl_plugin.train_ppo" in text
    assert lab.runs() == []


def test_a_plan_in_a_notebook_is_html_in_which_names_are_text(lab: Lab, grpo: list[str]) -> None:
    name = "trainer.experiment_name='<script>alert(1)</script>'"
    page = planned(lab, *grpo, name, f"{ACTOR}.ppo_mini_batch_size=6").report()._repr_html_()
    assert "<script>" not in page
    assert "fills the last update up with padding" in page


def test_a_switched_on_setting_gives_its_rule_data(lab: Lab, grpo: list[str]) -> None:
    def rules(*overrides: str) -> Any:
        return planned(lab, *grpo, *overrides).report().coverage

    found = rules()
    assert {"kl-explosion", "memory-leak"} == set(found.missing)
    for rule, switch in found.switches.items():
        assert rule == "memory-leak" or rule in rules(switch).judged
    assert "reward-hacking" in rules("trainer.test_freq=-1").missing
    assert rules("trainer.test_freq=-1").switches["reward-hacking"] == "trainer.test_freq=10"
    assert "dead-groups" not in rules("actor_rollout_ref.rollout.n=1").judged
    without = rules("actor_rollout_ref.rollout.calculate_log_probs=false")
    assert without.switches["engine-mismatch"] == "actor_rollout_ref.rollout.calculate_log_probs=true"


def test_what_is_predicted_is_what_real_runs_logged(recordings: Path) -> None:
    for name, trainer, absent in (
        ("sft-60-steps", "sft", set[str]()),
        ("grpo-kl-loss-30-steps", "ppo", {"actor/reward_kl_penalty", "training/filter_groups/evicted_samples"}),
    ):
        logged: set[str] = set()
        for line in (recordings / f"{name}.jsonl").read_text().splitlines():
            logged |= set(json.loads(line)["data"])
        always = {metric for one in LOGGED if trainer in one.trainers and not one.when for metric in one.metrics}
        assert always - logged == set()
        sometimes = {metric for one in LOGGED if trainer in one.trainers and one.when for metric in one.metrics}
        other = {"val-core/accuracy/acc/mean@1", "agent_loop/num_preempted/mean"}
        assert {m for m in sometimes - logged - other - absent if "rollout_is" not in m} == set()


def test_conditions_of_the_prediction_are_about_settings_that_verl_has() -> None:
    for logged in LOGGED:
        for trainer in logged.trainers:
            keys = [condition.key for condition in logged.when]
            keys += [part.partition("=")[0] for part in logged.switch.split(", ")[:1] if part]
            assert [key for key in keys if key not in schema_of(trainer).keys] == []


def test_validate_lists_every_problem_with_its_key_value_and_suggestion(lab: Lab, grpo: list[str]) -> None:
    problems = lab.validate(
        "grpo-cpu", [*grpo, "trainer.total_epoch=1", f"{ACTOR}.optim.lr=banana", "trainer.save_freq=-1"]
    )
    assert [(p.key, p.value, p.severity) for p in problems] == [
        ("trainer.total_epoch", 1, "error"),
        (f"{ACTOR}.optim.lr", "banana", "error"),
        ("trainer.save_freq", -1, "warning"),
    ]
    assert "trainer.total_epochs" in (problems[0].suggestion or "")
    assert lab.validate("grpo-cpu", grpo) == []


def test_thresholds_are_validated_along_with_all_else(lab: Lab, grpo: list[str]) -> None:
    recipe = lab.recipes.get("grpo-cpu")
    raw = recipe.model_dump() | {"checks": {"thresholds": {"kl-explosio": {"threshold": 1}}}}
    wrong = Recipe.model_validate(raw)
    (problem,) = lab.validate(wrong, grpo)
    assert problem.key.startswith("checks.thresholds")
    assert "kl-explosion" in str(problem)
    with pytest.raises(InvalidConfigurationError) as caught:
        lab.train(wrong, [*grpo, "trainer.total_epoch=1"], dry_run=True)
    assert len(caught.value.problems) == 2
    assert "2 problems" in caught.value.message


def test_diagnosable_gives_the_rule_of_kl_its_data(lab: Lab, grpo: list[str]) -> None:
    plain: Any = lab.train("grpo-cpu", grpo, dry_run=True)
    watched: Any = lab.train("grpo-cpu", grpo, dry_run=True, preset="diagnosable")
    without, with_it = repr(plain.report()), repr(watched.report())
    assert f"{ACTOR}.use_kl_loss=true" in without
    assert "kl-explosion: the run logs no" in without
    assert "kl-explosion: the run logs no" not in with_it


def test_users_overrides_win_over_the_preset(lab: Lab, grpo: list[str]) -> None:
    plan = lab.train("grpo-cpu", [*grpo, f"{ACTOR}.use_kl_loss=false"], dry_run=True, preset="diagnosable")
    assert plan.config["actor_rollout_ref"]["actor"]["use_kl_loss"] is False


def test_unknown_preset_is_refused_with_the_known(lab: Lab, grpo: list[str]) -> None:
    with pytest.raises(NotFoundError, match="diagnosable"):
        lab.train("grpo-cpu", grpo, dry_run=True, preset="diagnosible")
