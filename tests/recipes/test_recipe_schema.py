"""verl's own keys and types, read without loading verl."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from verl_lab.errors import EnvironmentMismatchError
from verl_lab.recipes import schema as schema_module
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


def test_without_verl_it_is_said_what_is_missing(tmp_path: Path) -> None:
    code = """
import sys
from importlib.machinery import PathFinder
class WithoutVerl:
    @staticmethod
    def find_spec(name, path=None, target=None):
        return None if name == "verl" else PathFinder.find_spec(name, path, target)
sys.meta_path[:] = [f for f in sys.meta_path if f is not PathFinder] + [WithoutVerl]
from verl_lab.errors import EnvironmentMismatchError
from verl_lab.recipes.schema import schema_of
try:
    schema_of("sft")
except EnvironmentMismatchError as error:
    print(error.message)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "verl is not installed here" in done.stdout, done.stderr
    assert issubclass(EnvironmentMismatchError, RuntimeError)


def test_composing_leaves_a_users_own_hydra_as_it_was(tmp_path: Path) -> None:
    import hydra
    from hydra.core.global_hydra import GlobalHydra

    (tmp_path / "mine.yaml").write_text("a: 1")
    with hydra.initialize_config_dir(str(tmp_path), version_base=None):
        schema_module.compose("sft")
        assert GlobalHydra.instance().is_initialized()
        assert hydra.compose("mine").a == 1


@pytest.mark.parametrize("trainer", ["sft", "ppo"])
def test_every_default_of_verl_is_of_a_kind_that_is_accepted(trainer: Trainer) -> None:
    keys = schema_of(trainer).keys.values()
    wrong = [key.name for key in keys if key.default is not None and not key.takes(key.default)]
    assert wrong == []
