"""The settings of a critic: there where the algorithm has one, and of the same kind as the policy's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.recipes.render import render

if TYPE_CHECKING:
    from verl_lab.domain.recipe import Device
    from verl_lab.recipes.catalog import Catalog


def test_critic_begins_as_the_model_that_is_trained(catalog: Catalog, inputs: Any) -> None:
    devices: dict[str, Device] = {"ppo-cpu": "cpu", "ppo": "gpu"}
    for name, device in devices.items():
        config = render(catalog.get(name), [*inputs.grpo, "data.train_batch_size=64"], device=device).config
        assert config.critic.model.path == config.actor_rollout_ref.model.path == f"{inputs.folder}/model"
        assert config.algorithm.adv_estimator == "gae"


def test_critic_may_begin_as_another_model(catalog: Catalog, inputs: Any) -> None:
    config = render(catalog.get("ppo-cpu"), [*inputs.grpo, "critic.model.path=/models/critic"]).config
    assert config.critic.model.path == "/models/critic"
    assert config.actor_rollout_ref.model.path == f"{inputs.folder}/model"


def test_critic_on_a_cpu_computes_in_fp32_without_flash_attention(catalog: Catalog, inputs: Any) -> None:
    critic = render(catalog.get("ppo-cpu"), inputs.grpo).config.critic
    assert critic.strategy == "fsdp2"
    assert set(critic.fsdp.mixed_precision.values()) == {"fp32"}
    assert critic.model.override_config.attn_implementation == "sdpa"
    assert critic.model.use_remove_padding is False


def test_algorithms_without_a_critic_say_nothing_of_one(catalog: Catalog, inputs: Any) -> None:
    rendered = render(catalog.get("grpo-cpu"), inputs.grpo)
    assert not [override for override in rendered.overrides if override.lstrip("+").startswith("critic.")]
