"""Which values a setting may have: the texts it takes, and the range of its numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.errors import nearest

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.plan import Plan
    from verl_lab.recipes.schema import Key


@dataclass(frozen=True)
class Limit:
    """The range of a number, ends included unless they are ``above`` or ``below``.

    Attributes
    ----------
    besides
        A value outside it that verl gives a meaning, such as -1 for never.
    """

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf
    below: float = math.inf
    besides: float | None = None

    def admits(self, value: float) -> bool:
        """Whether a value lies in the range."""
        if value == self.besides:
            return True
        return self.least <= value <= self.most and self.above < value < self.below

    def __str__(self) -> str:
        low = f"{self.least:g} or more" if self.least > -math.inf else f"above {self.above:g}"
        high = f"{self.most:g} or less" if self.most < math.inf else f"below {self.below:g}"
        has_low = max(self.least, self.above) > -math.inf
        has_high = min(self.most, self.below) < math.inf
        text = " and ".join(part for part, is_there in ((low, has_low), (high, has_high)) if is_there)
        return text if self.besides is None else f"{text}, or {self.besides:g}"

    def nearest(self, value: float, default: object) -> float | None:
        """Return the nearest value that is admitted; None where only the range itself can be told."""
        if math.isnan(value):
            return None
        if self.besides is not None and value <= 0:
            return self.besides
        closed = min(max(value, self.least), self.most)
        if self.admits(closed):
            return closed
        if isinstance(default, (int, float)) and not isinstance(default, bool) and self.admits(default):
            return default
        return None


_SHARE = Limit(least=0, most=1)
_POSITIVE = Limit(above=0)
_NOT_NEGATIVE = Limit(least=0)
_COUNT = Limit(least=1)
_FREQUENCY = Limit(least=1, besides=-1)

# By the end of a key; the first that fits holds.
LIMITS: Mapping[str, Limit] = {
    # At a rate of 1, one step moves every weight by about 1, whatever the model (AdamW).
    "*.lr": Limit(above=0, below=1),
    "*.lr_warmup_steps_ratio": _SHARE,
    "*.min_lr_ratio": _SHARE,
    "*.weight_decay": _NOT_NEGATIVE,
    "*.betas": Limit(least=0, below=1),
    "*.clip_grad": _POSITIVE,
    "*.grad_clip": _POSITIVE,
    "*.clip_ratio": Limit(least=0, below=1),
    "*.clip_ratio_low": _NOT_NEGATIVE,  # as high as 10 with policy_loss.loss_mode=cispo
    "*.clip_ratio_high": _NOT_NEGATIVE,
    "*.clip_ratio_c": Limit(above=1),  # verl/trainer/ppo/core_algos.py asserts it
    "*.cliprange_value": _POSITIVE,
    "*.entropy_coeff": Limit(least=-1, most=1),
    "*.kl_loss_coef": _NOT_NEGATIVE,
    "*.kl_coef": _NOT_NEGATIVE,
    "*.target_kl": _POSITIVE,
    "*.horizon": _POSITIVE,
    "algorithm.gamma": _SHARE,
    "algorithm.lam": _SHARE,
    "*.temperature": _NOT_NEGATIVE,
    "*.top_p": Limit(above=0, most=1),
    "*.top_k": Limit(least=-1),
    "*.rollout.n": _COUNT,
    "*.val_kwargs.n": _COUNT,
    "*.gpu_memory_utilization": Limit(above=0, most=1),
    "*.max_num_seqs": _COUNT,
    "*.max_num_batched_tokens": _COUNT,
    "*.max_model_len": _COUNT,
    "*.ppo_epochs": _COUNT,
    "*_batch_size": _COUNT,
    "*_batch_size_per_gpu": _COUNT,
    "*_token_len_per_gpu": _COUNT,
    "*.max_prompt_length": _COUNT,
    "*.max_response_length": _COUNT,
    "data.max_length": _COUNT,
    "*_max_samples": Limit(least=1, besides=-1),
    "*num_workers": _NOT_NEGATIVE,
    "*_parallel_size": _COUNT,
    "*.lora_rank": _NOT_NEGATIVE,
    "*.lora_alpha": _POSITIVE,
    "*.critic_warmup": _NOT_NEGATIVE,
    "trainer.total_epochs": _COUNT,
    "trainer.total_training_steps": _COUNT,
    "trainer.nnodes": _COUNT,
    "trainer.n_gpus_per_node": _COUNT,
    "trainer.save_freq": _FREQUENCY,
    "trainer.test_freq": _FREQUENCY,
    "dpo.beta": _POSITIVE,
    "dpo.label_smoothing": Limit(least=0, below=0.5),
}

# Names that a user's own code can add: the setting that loads such code.
_EXTENDED_BY: Mapping[str, str] = {
    "algorithm.adv_estimator": "actor_rollout_ref.model.external_lib",
    "actor_rollout_ref.actor.policy_loss.loss_mode": "actor_rollout_ref.model.external_lib",
    "actor_rollout_ref.rollout.name": "actor_rollout_ref.model.external_lib",
}
_MANAGER, _MANAGER_SOURCE = "reward.reward_manager.name", "reward.reward_manager.source"


def limit_of(key: str) -> Limit | None:
    """Return the range of a setting; None where any number will do."""
    return next((limit for pattern, limit in LIMITS.items() if fnmatchcase(key, pattern)), None)


def limit_problems(plan: Plan, settings: Settings) -> Iterator[Problem]:
    """Yield what is wrong with the values that differ from verl's, each taken by itself."""
    for name in plan.values:
        key = plan.schema.keys.get(name)
        value = settings[name]
        if key is None or value is None:
            continue
        if key.choices and not (name == _MANAGER and settings[_MANAGER_SOURCE] != "register"):
            yield from _not_among(key, value, is_extended=bool(settings[_EXTENDED_BY.get(name, "")]))
        elif (limit := limit_of(name)) is not None and not (limit is _FREQUENCY and _is_never(plan, value)):
            yield from _out_of_range(key, value, limit)


def _is_never(plan: Plan, value: object) -> bool:
    """Whether a frequency means never: the PPO trainer asks for one above 0, the others divide by it."""
    return plan.recipe.trainer == "ppo" and isinstance(value, int) and value <= 0


def _not_among(key: Key, value: Any, *, is_extended: bool) -> Iterator[Problem]:
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    for item in items:
        if not isinstance(item, str) or item in key.choices:
            continue
        near = nearest(item, key.choices, count=1)
        there = f"There are: {', '.join(key.choices)}."
        guess = f"The nearest: {near[0]}. {there}" if near else there
        if is_extended:
            why = f"{item!r} is none of verl's own; your external_lib must add it."
            yield Problem(key.name, item, why, guess, severity="warning")
        else:
            yield Problem(key.name, item, f"there is no {item!r}.", guess)


def _out_of_range(key: Key, value: Any, limit: Limit) -> Iterator[Problem]:
    items = cast("list[Any]", value) if isinstance(value, list) else [value]
    for item in items:
        if isinstance(item, bool) or not isinstance(item, (int, float)) or limit.admits(item):
            continue
        near = limit.nearest(item, key.default)
        suggestion = None if near is None else f"Set it to {near:g}."
        yield Problem(key.name, item, f"is {item:g}; it must be {limit}.", suggestion)
