"""A recipe as a form: the settings that people change most, with what they mean; any other key can be set too."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, get_args

from verl_lab.domain.recipe import Device, OnCritical
from verl_lab.recipes.limits import limit_of
from verl_lab.recipes.plan import make_plan

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.domain.recipe import Recipe, Trainer
    from verl_lab.recipes.limits import Limit
    from verl_lab.recipes.schema import Key

FieldType = Literal["string", "integer", "number", "boolean", "choice", "list", "path"]

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


@dataclass(frozen=True)
class FormField:
    """One setting of a recipe.

    Attributes
    ----------
    key
        What an override calls it.
    value
        What the recipe says, with what verl-lab sets for its device; verl's default where neither says anything.
    default
        verl's default; None for what is verl-lab's own.
    minimum, maximum
        The range of a number; None where there is no such bound.
    """

    key: str
    title: str
    help: str
    group: str
    type: FieldType
    value: Any
    default: Any = None
    choices: tuple[str, ...] | None = None
    minimum: float | None = None
    maximum: float | None = None


_Said = tuple[str, str, str, str]

_RUN: tuple[_Said, ...] = (
    ("trainer.total_epochs", "Epochs", "How often all rows are trained on.", "Training"),
    ("trainer.total_training_steps", "Steps", "End after so many steps, whatever the epochs say.", "Training"),
    ("data.train_batch_size", "Batch size", "Rows of each step, over all GPUs.", "Training"),
)
_SAVING: tuple[_Said, ...] = (
    ("trainer.save_freq", "Checkpoint every", "Steps between checkpoints; -1 for none on the way.", "Saving"),
    ("trainer.test_freq", "Validate every", "Steps between validations; -1 for never.", "Saving"),
)
_SFT: tuple[_Said, ...] = (
    *_RUN,
    ("optim.lr", "Learning rate", "The highest rate, after warming up.", "Optimiser"),
    ("optim.lr_warmup_steps_ratio", "Warm-up", "The share of all steps in which the rate rises.", "Optimiser"),
    ("optim.weight_decay", "Weight decay", "How strongly weights are drawn towards zero.", "Optimiser"),
    ("data.micro_batch_size_per_gpu", "Rows at once", "Rows a GPU computes at once: less takes less memory.", "Memory"),
    ("data.max_length", "Longest row", "In tokens, prompt and answer together.", "Data"),
    ("model.lora_rank", "LoRA rank", "Train a low-rank addition only; 0 trains all weights.", "Model"),
    *_SAVING,
    ("trainer.max_ckpt_to_keep", "Keep checkpoints", "Older ones are removed; empty keeps all.", "Saving"),
    ("trainer.seed", "Seed", "The same seed gives the same order of the data.", "Training"),
)
_DPO: tuple[_Said, ...] = (
    *_SFT,
    ("dpo.beta", "Beta", "How far the policy may drift from the reference: less lets it go further.", "DPO"),
    ("dpo.loss_type", "Loss", "DPO's sigmoid loss, or IPO.", "DPO"),
    ("dpo.label_smoothing", "Label smoothing", "The share of pairs that are taken to be the wrong way round.", "DPO"),
)
_PPO: tuple[_Said, ...] = (
    *_RUN,
    (f"{_ROLLOUT}.n", "Answers a prompt", "How many are sampled, and compared with each other.", "Rollout"),
    (f"{_ROLLOUT}.temperature", "Temperature", "How freely answers are sampled.", "Rollout"),
    (f"{_ROLLOUT}.top_p", "Top-p", "Sample from the likeliest tokens of this share.", "Rollout"),
    ("data.max_prompt_length", "Longest prompt", "In tokens.", "Data"),
    ("data.max_response_length", "Longest answer", "In tokens; longer ones are cut.", "Data"),
    (f"{_ACTOR}.optim.lr", "Learning rate", "Of the policy.", "Optimiser"),
    (f"{_ACTOR}.ppo_mini_batch_size", "Mini-batch", "Prompts of each update of the policy.", "Optimiser"),
    (f"{_ACTOR}.clip_ratio", "Clip ratio", "How far one update may move a probability.", "Policy"),
    (f"{_ACTOR}.entropy_coeff", "Entropy bonus", "Rewards a policy that stays undecided.", "Policy"),
    (f"{_ACTOR}.use_kl_loss", "KL loss", "Keep the policy near the reference by a term of the loss.", "Policy"),
    (f"{_ACTOR}.kl_loss_coef", "KL coefficient", "How much the KL loss counts.", "Policy"),
    (f"{_ACTOR}.loss_agg_mode", "Loss average", "How the losses of tokens are put together.", "Policy"),
    (f"{_ACTOR}.ppo_micro_batch_size_per_gpu", "Answers at once", "Answers a GPU computes at once.", "Memory"),
    (f"{_ROLLOUT}.gpu_memory_utilization", "Rollout memory", "The share of a GPU's memory for sampling.", "Memory"),
    ("actor_rollout_ref.model.lora_rank", "LoRA rank", "Train a low-rank addition only; 0 trains all.", "Model"),
    *_SAVING,
    ("trainer.val_before_train", "Validate first", "Also before the first step, to compare with.", "Saving"),
)
_CRITIC: tuple[_Said, ...] = (
    ("critic.optim.lr", "Critic's learning rate", "Of the model that estimates values.", "Critic"),
    ("algorithm.gamma", "Discount", "How much later rewards count.", "Critic"),
    ("algorithm.lam", "Lambda", "How far advantages look ahead, in GAE.", "Critic"),
)
_TYPES: Mapping[str, FieldType] = {  # of several kinds the widest
    "list": "list",
    "str": "string",
    "float": "number",
    "int": "integer",
    "bool": "boolean",
}
_SETTINGS: Mapping[Trainer, Sequence[_Said]] = {"sft": _SFT, "dpo": _DPO, "ppo": _PPO}


def form(recipe: Recipe) -> list[FormField]:
    """Return the fields of a recipe's form: what it trains on first, then verl's settings by group.

    Raises
    ------
    InvalidInputError
        The recipe's device or parameters are not acceptable.
    """
    plan = make_plan(recipe, (), "auto")
    said = [*_SETTINGS[recipe.trainer], *(_CRITIC if recipe.algorithm == "ppo" else ())]
    fields = [
        _field(one, plan.schema.keys[one[0]], plan.values.get(one[0], plan.schema.keys[one[0]].default))
        for one in said
        if one[0] in plan.schema.keys
    ]
    groups = list(dict.fromkeys(field.group for field in fields))
    return [*_own(recipe), *sorted(fields, key=lambda field: groups.index(field.group))]


@dataclass(frozen=True)
class KeyRow:
    """One of verl's keys: what it is set to in a recipe, and what it takes."""

    key: str
    type: str
    value: Any
    help: str


def keys(recipe: Recipe, search: str, most: int = 50) -> list[KeyRow]:
    """Return verl's keys that have every word of ``search`` in them, those that begin with it first."""
    plan = make_plan(recipe, (), "auto")
    words, start = search.lower().split(), search.lower().strip()
    found = [key for name, key in plan.schema.keys.items() if all(word in name.lower() for word in words)]
    found.sort(key=lambda key: (not key.name.lower().startswith(start), key.declared_only, key.name))
    return [KeyRow(key.name, _kinds(key), plan.values.get(key.name, key.default), _help(key)) for key in found[:most]]


def _own(recipe: Recipe) -> list[FormField]:
    data, reward, resources = recipe.data, recipe.reward, recipe.resources
    fields = [
        FormField(
            "model", "Model", "A folder in Hugging Face's layout, or a model's id.", "Model", "string", recipe.model
        ),
        FormField("data.train", "Training data", "JSON, JSONL or Parquet files.", "Data", "list", _files(data.train)),
        FormField("data.val", "Validation data", "What is never trained on.", "Data", "list", _files(data.val)),
    ]
    if recipe.trainer == "ppo":
        path, name = (None, None) if reward is None else (reward.path, reward.name)
        fields += [
            FormField(
                "reward.path", "Reward file", "A Python file with the function that scores.", "Data", "path", path
            ),
            FormField("reward.name", "Reward function", "Its name in that file.", "Data", "string", name),
        ]
    return [
        *fields,
        FormField(
            "resources.device",
            "Device",
            "What to train on.",
            "Machine",
            "choice",
            resources.device,
            "auto",
            choices=get_args(Device),
        ),
        FormField("resources.gpus", "GPUs", "Of one machine.", "Machine", "integer", resources.gpus, 1, minimum=1),
        FormField(
            "checks.on_critical",
            "On a critical finding",
            "Stop the run, mark it, or only record it.",
            "Machine",
            "choice",
            recipe.checks.on_critical,
            "mark",
            choices=get_args(OnCritical),
        ),
    ]


def _files(files: str | list[str] | None) -> list[str]:
    return [] if files is None else [files] if isinstance(files, str) else files


def _field(said: _Said, key: Key, value: Any) -> FormField:
    name, title, help_, group = said
    low, high = _bounds(limit_of(name))
    return FormField(name, title, help_, group, _type(key), value, key.default, key.choices or None, low, high)


def _bounds(limit: Limit | None) -> tuple[float | None, float | None]:
    """Return the ends of a range; what verl gives a meaning outside of it counts as part of it."""
    if limit is None:
        return None, None
    low, high = max(limit.least, limit.above), min(limit.most, limit.below)
    if limit.besides is not None:
        low = min(low, limit.besides)
    return (low if math.isfinite(low) else None), (high if math.isfinite(high) else None)


def _type(key: Key) -> FieldType:
    kinds = (key.kinds or frozenset()) - {"null"}
    if key.choices and "list" not in kinds:
        return "choice"
    found: list[FieldType] = [type_ for kind, type_ in _TYPES.items() if kind in kinds]
    return found[0] if found else "string"


def _kinds(key: Key) -> str:
    return "any" if key.kinds is None else " or ".join(sorted(key.kinds))


def _help(key: Key) -> str:
    parts = [f"One of {', '.join(key.choices)}." if key.choices else "", f"Default: {key.default}."]
    return " ".join(part for part in parts if part)
