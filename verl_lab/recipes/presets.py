"""Presets: named sets of overrides that depend on what a recipe leaves off."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.errors import NotFoundError
from verl_lab.recipes.overrides import literal
from verl_lab.recipes.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from verl_lab.domain.recipe import Device, Recipe, Trainer

# Steps between validations, and between checkpoints: what the rule no-evidence suggests.
_EVERY = 10
_KEPT_CHECKPOINTS = 2
_KEEP: Mapping[Trainer, tuple[str, ...]] = {
    "sft": ("trainer.max_ckpt_to_keep",),
    "dpo": ("trainer.max_ckpt_to_keep",),
    "ppo": ("trainer.max_actor_ckpt_to_keep", "trainer.max_critic_ckpt_to_keep"),
}
_SAMPLES = {
    "trainer.rollout_data_dir": "@attempt@/samples/rollout",
    "trainer.validation_data_dir": "@attempt@/samples/validation",
}
_ACTOR = "actor_rollout_ref.actor"


def preset_overrides(
    preset: str, recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto"
) -> list[str]:
    """Return the overrides that a preset adds to a recipe with a user's own.

    What the recipe or the user has switched on stays as it is. ``diagnosable`` switches on what verl
    leaves off and the diagnosis lives on: validation and checkpoints every 10 steps, samples, the
    probabilities that the rollout engine gave, and the distance to the reference model, which is
    then measured without being part of the loss.

    Raises
    ------
    NotFoundError
        If there is no such preset.
    """
    if preset not in PRESETS:
        raise NotFoundError.of("preset", preset, list(PRESETS))
    plan = make_plan(recipe, overrides, device)

    def value(name: str) -> Any:
        key = plan.schema.keys.get(name)
        return plan.values.get(name, key.default if key else None)

    return [f"{key}={literal(setting)}" for key, setting in PRESETS[preset](recipe.trainer, value).items()]


def with_preset(preset: str | None, recipe: Recipe, overrides: Sequence[str]) -> tuple[str, ...]:
    """Return a user's overrides with those of a preset, if there is one, below them. Errors as ``preset_overrides``."""
    added = () if preset is None else preset_overrides(preset, recipe, overrides)
    return (*added, *overrides)


def _diagnosable(trainer: Trainer, value: Callable[[str], Any]) -> dict[str, Any]:
    found: dict[str, Any] = {key: _EVERY for key in ("trainer.test_freq", "trainer.save_freq") if _is_never(value(key))}
    if "trainer.save_freq" in found:
        found |= {key: _KEPT_CHECKPOINTS for key in _KEEP[trainer] if value(key) is None}
    if trainer != "ppo":
        return found
    found |= {key: folder for key, folder in _SAMPLES.items() if not value(key)}
    switches = ("trainer.val_before_train", "actor_rollout_ref.rollout.calculate_log_probs")
    found |= dict.fromkeys((key for key in switches if not value(key)), True)
    if not value(f"{_ACTOR}.use_kl_loss") and not value("algorithm.use_kl_in_reward"):
        found |= {f"{_ACTOR}.use_kl_loss": True, f"{_ACTOR}.kl_loss_coef": 0.0}
    return found


def _is_never(frequency: object) -> bool:
    """Whether a frequency means never; one in words, such as ``after_each_epoch``, does not."""
    return frequency is None or (isinstance(frequency, int) and frequency <= 0)


PRESETS: Mapping[str, Callable[[Trainer, Callable[[str], Any]], dict[str, Any]]] = {"diagnosable": _diagnosable}
"""The presets by name: each returns settings, given the trainer and a way to ask for a setting's value."""
