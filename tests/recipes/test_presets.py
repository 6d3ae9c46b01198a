"""Presets: they switch on what is off, and leave alone what someone has set."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from omegaconf import OmegaConf

from verl_lab.errors import NotFoundError
from verl_lab.recipes.presets import preset_overrides
from verl_lab.recipes.render import render

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Recipe
    from verl_lab.recipes.catalog import Catalog

KL = "actor_rollout_ref.actor.use_kl_loss"
COEFFICIENT = "actor_rollout_ref.actor.kl_loss_coef"


def composed(recipe: Recipe, given: list[str]) -> Any:
    return render(recipe, [*preset_overrides("diagnosable", recipe, given), *given]).config


def test_diagnosable_switches_on_what_is_off(catalog: Catalog, inputs: Any) -> None:
    off = {
        "trainer.test_freq": -1,
        "trainer.save_freq": -1,
        "trainer.max_actor_ckpt_to_keep": None,
        "trainer.val_before_train": False,
        "trainer.rollout_data_dir": None,
        "actor_rollout_ref.rollout.calculate_log_probs": False,
    }
    recipe = catalog.get("grpo-cpu")
    config = composed(recipe.model_copy(update={"parameters": recipe.parameters | off}), inputs.grpo)
    assert (config.trainer.test_freq, config.trainer.save_freq, config.trainer.max_actor_ckpt_to_keep) == (10, 10, 2)
    assert config.trainer.val_before_train is True
    assert config.trainer.rollout_data_dir == "@attempt@/samples/rollout"
    assert config.actor_rollout_ref.rollout.calculate_log_probs is True


def test_measured_distance_to_the_reference_is_no_part_of_the_loss(catalog: Catalog, inputs: Any) -> None:
    config = composed(catalog.get("grpo-cpu"), inputs.grpo)
    assert OmegaConf.select(config, KL) is True
    assert OmegaConf.select(config, COEFFICIENT) == 0.0


@pytest.mark.parametrize(
    ("name", "given"),
    [("reinforce-plus-plus-cpu", []), ("rloo-cpu", []), ("grpo-cpu", [f"{KL}=true"])],
    ids=["recipe's loss", "recipe's reward", "user's override"],
)
def test_a_penalty_that_is_there_keeps_its_weight(catalog: Catalog, inputs: Any, name: str, given: list[str]) -> None:
    added = preset_overrides("diagnosable", catalog.get(name), [*inputs.grpo, *given])
    assert not [item for item in added if item.startswith((KL, COEFFICIENT))]


def test_what_is_on_stays_as_it_is(catalog: Catalog, inputs: Any) -> None:
    config = composed(catalog.get("sft-cpu"), [*inputs.sft, "trainer.test_freq=3"])
    assert config.trainer.test_freq == 3
    assert config.trainer.save_freq == "after_each_epoch"
    assert config.trainer.max_ckpt_to_keep == 2


def test_unknown_preset_names_the_nearest(catalog: Catalog) -> None:
    with pytest.raises(NotFoundError, match="diagnosable"):
        preset_overrides("diagnosible", catalog.get("grpo-cpu"))
