"""verl's own keys and types, read without loading verl."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from verl_lab.recipes import schema as schema_module
from verl_lab.recipes.limits import limit_of
from verl_lab.recipes.schema import schema_of

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.domain.recipe import Trainer


def test_keys_carry_defaults_and_declared_types() -> None:
    ppo, sft = schema_of("ppo"), schema_of("sft")
    assert len(ppo.complete("")) > 800
    assert len(sft.complete("")) > 150
    assert sft.keys["optim.lr"].default == 1e-3
    # Written as 0 in verl's file, declared float in its dataclass.
    assert ppo.keys["actor_rollout_ref.actor.entropy_coeff"].takes(0.01)
    assert not ppo.keys["data.train_batch_size"].takes(1.5)
    # null in verl's file, Optional[int] in its dataclass.
    micro = ppo.keys["actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu"]
    assert (micro.takes(4), micro.takes(None), micro.takes("banana"), micro.takes(value=True)) == (
        True,
        True,
        False,
        False,
    )
    assert sft.keys["trainer.save_freq"].takes("after_each_epoch")
    assert not ppo.keys["trainer.save_freq"].takes("after_each_epoch")
    assert ppo.keys["data.train_files"].takes(["a", "b"])
    assert "actor_rollout_ref.actor._target_" not in ppo.keys


def test_open_dictionaries_take_any_key_and_others_none() -> None:
    ppo = schema_of("ppo")
    for key in (
        "actor_rollout_ref.model.override_config.attn_implementation",
        "actor_rollout_ref.actor.fsdp_config.mixed_precision.param_dtype",
        "actor_rollout_ref.rollout.engine_kwargs.vllm.seed",
        "reward.custom_reward_function.reward_kwargs.scale",
        "ray_kwargs.ray_init.num_gpus",
        "data.apply_chat_template_kwargs.enable_thinking",
    ):
        assert ppo.is_open(key), key
    for key in ("trainer.typo", "actor_rollout_ref.actor.typo", "data.typo", "ray_kwargs.typo", "typo"):
        assert not ppo.is_open(key), key


def test_completion_lists_the_keys_under_a_prefix() -> None:
    found = schema_of("sft").complete("optim.l")
    assert found == ["optim.lr", "optim.lr_scheduler_type", "optim.lr_warmup_steps", "optim.lr_warmup_steps_ratio"]
    assert schema_of("sft").complete("nope") == []


def test_nearest_finds_misspelt_and_shortened_keys() -> None:
    ppo = schema_of("ppo")
    assert ppo.nearest("trainer.total_epoch")[0] == "trainer.total_epochs"
    assert ppo.nearest("actor_rollout_ref.acter.optim.lr")[0] == "actor_rollout_ref.actor.optim.lr"
    assert "actor_rollout_ref.actor.optim.lr" in ppo.nearest("optim.lr")


def test_nothing_heavy_is_loaded(tmp_path: Path) -> None:
    code = """
import sys
from pathlib import Path
from verl_lab.recipes.catalog import Catalog
from verl_lab.recipes.schema import schema_of
from verl_lab.recipes.validate import validate
catalog = Catalog.standard(Path("/nonexistent"), Path("/nonexistent"))
validate(catalog.get("grpo-cpu")); validate(catalog.get("sft-cpu")); schema_of("ppo").complete("trainer")
print(sorted({"torch", "verl", "ray", "pandas", "transformers"} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "[]"


def test_composing_leaves_a_users_own_hydra_as_it_was(tmp_path: Path) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "mine.yaml").write_text("a: 1")
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        schema_module.compose("sft")
        assert GlobalHydra.instance().is_initialized()
        assert hydra.compose("mine").a == 1


@pytest.mark.parametrize("trainer", ["sft", "dpo", "ppo"])
def test_every_default_is_of_a_kind_a_choice_and_in_a_range_that_is_accepted(trainer: Trainer) -> None:
    for key in schema_of(trainer).keys.values():
        if key.default is None:
            continue
        assert key.takes(key.default), key
        items = key.default if isinstance(key.default, list) else [key.default]
        assert not key.choices or set(items) <= set(key.choices), key
        limit = limit_of(key.name)
        numbers = [item for item in items if isinstance(item, (int, float)) and not isinstance(item, bool)]
        assert limit is None or all(limit.admits(number) or number == -1 for number in numbers), key


def test_choices_are_those_that_verl_knows() -> None:
    ppo, sft = schema_of("ppo"), schema_of("sft")
    actor = "actor_rollout_ref.actor"
    assert {"gae", "grpo", "rloo"} <= set(ppo.keys["algorithm.adv_estimator"].choices)
    assert {"vanilla", "gspo", "cispo"} <= set(ppo.keys[f"{actor}.policy_loss.loss_mode"].choices)
    assert {"k1", "k3+", "low_var_kl"} <= set(ppo.keys[f"{actor}.kl_loss_type"].choices)
    assert ppo.keys[f"{actor}.loss_agg_mode"].choices == ppo.keys["critic.loss_agg_mode"].choices
    assert set(ppo.keys["actor_rollout_ref.rollout.name"].choices) == {"sglang", "trtllm", "vllm", "verl_lab_hf"}
    assert ppo.keys[f"{actor}.optim.lr_scheduler_type"].choices == ("constant", "cosine")
    assert ppo.keys["trainer.resume_mode"].choices == ("auto", "disable", "resume_path")
    # verl's two data sets do not cut rows alike.
    assert "middle" in ppo.keys["data.truncation"].choices
    assert "middle" not in sft.keys["data.truncation"].choices


def test_settings_of_our_own_trainer_are_known_and_typed() -> None:
    dpo = schema_of("dpo")
    assert dpo.keys["dpo.beta"].takes(0.2)
    assert not dpo.keys["dpo.beta"].takes("banana")
    assert dpo.keys["dpo.loss_type"].choices == ("sigmoid", "ipo")
    assert dpo.keys["dpo.max_prompt_length"].takes(64)
    assert dpo.nearest("dpo.betta")[0] == "dpo.beta"
    assert set(dpo.keys) - {key for key in dpo.keys if key.startswith("dpo.")} == set(schema_of("sft").keys)
