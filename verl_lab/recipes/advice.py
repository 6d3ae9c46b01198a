"""Settings that are accepted and known to hurt, each with where that is said; and what a resume would miss.

The table is data: conditions on settings, and what is told when all of them hold.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, cast

from verl_lab.domain.recipe import Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from verl_lab.domain.recipe import Trainer
    from verl_lab.recipes.composed import Settings
    from verl_lab.recipes.model_folder import ModelFacts

_ACTOR, _ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
_MODEL = "actor_rollout_ref.model"

_BEST_PRACTICES = "verl docs, perf/best_practices"
_TUNING = "verl docs, perf/perf_tuning"
_MEMORY = "verl docs, faq/resolving_oom"
_LORA = "verl docs, advance/ppo_lora"
_GRPO = "verl docs, algo/grpo"

_Compare = Literal["<", "<=", ">", ">=", "==", "!=", "lacks"]


def _lacks(value: Any, items: Any) -> bool:
    return isinstance(value, list) and items not in value


_COMPARE: Mapping[_Compare, Callable[[Any, Any], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "==": operator.eq,
    "!=": operator.ne,
    "lacks": _lacks,
}

PARAMETERS = "(parameters)"  # the model's size, among the settings that a condition is about
DEVICE = "(device)"


@dataclass(frozen=True)
class When:
    """A condition on a setting: how its value compares with a number, text or the sum of other settings.

    Attributes
    ----------
    times
        What ``than`` is multiplied with, where it names settings to be added up.
    """

    key: str
    how: _Compare
    than: Any
    times: float = 1

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is so; a setting without a value meets no condition but ``==`` null."""
        value, than = settings[self.key], self.than
        if isinstance(than, tuple):
            parts = [settings[name] for name in cast("tuple[str, ...]", than)]
            if not all(isinstance(part, (int, float)) for part in parts):
                return False
            than = self.times * sum(parts)
        if value is None and self.how not in ("==", "!="):
            return False
        try:
            return _COMPARE[self.how](value, than)
        except TypeError:
            return False  # a value of another kind has been told already


@dataclass(frozen=True)
class Advice:
    """Something to be told when all of several conditions hold.

    Attributes
    ----------
    key
        The setting it is about.
    why, way_out, source
        What goes wrong, what would be better, and who says so.
    """

    key: str
    when: tuple[When, ...]
    why: str
    way_out: str
    source: str
    trainers: tuple[Trainer, ...] = ("ppo",)
    severity: Literal["error", "warning"] = "warning"


_LARGE_MODEL = When(PARAMETERS, ">=", 300_000_000)  # what is known of learning rates is known of such models
_FULL = When(f"{_MODEL}.lora_rank", "==", 0)
_VLLM = When(f"{_ROLLOUT}.name", "==", "vllm")
_ON_GPU = When(DEVICE, "==", "gpu")

KNOWN: tuple[Advice, ...] = (
    Advice(
        f"{_ACTOR}.optim.lr",
        (When(f"{_ACTOR}.optim.lr", ">", 2e-5), _LARGE_MODEL, _FULL),
        "is high for reinforcement learning on all weights, where 1e-6 to 1e-5 is usual.",
        "Set it to 1e-6.",
        _BEST_PRACTICES,
    ),
    Advice(
        "optim.lr",
        (When("optim.lr", ">", 2e-4), _LARGE_MODEL, When("model.lora_rank", "==", 0)),
        "is high for training all weights of a model of this size, where 1e-5 is usual.",
        "Set it to 1e-5.",
        "verl's SFT examples",
        ("sft",),
    ),
    Advice(
        f"{_MODEL}.lora_rank",
        (When(f"{_MODEL}.lora_rank", ">", 0), When(f"{_MODEL}.lora_rank", "<", 32), _LARGE_MODEL),
        "is small: ranks below 32 converge slowly, or to less.",
        "Set it to 32 or more.",
        _LORA,
    ),
    Advice(
        f"{_ROLLOUT}.load_format",
        (When(f"{_MODEL}.lora_rank", ">", 0), _VLLM, When(f"{_ROLLOUT}.load_format", "==", "dummy")),
        "must load the base model, since with LoRA only the adapters are handed to vLLM.",
        "Set it to safetensors.",
        _LORA,
        severity="error",
    ),
    Advice(
        f"{_ROLLOUT}.gpu_memory_utilization",
        (
            When(f"{_ROLLOUT}.gpu_memory_utilization", ">", 0.7),
            _VLLM,
            When(f"{_ACTOR}.fsdp_config.optimizer_offload", "==", False),  # noqa: FBT003  a value to compare with
            _LARGE_MODEL,
        ),
        "leaves little for training, whose state is not offloaded.",
        "Keep it between 0.5 and 0.7, or offload parameters and optimizer.",
        _MEMORY,
    ),
    Advice(
        f"{_ACTOR}.ppo_max_token_len_per_gpu",
        (
            When(f"{_ACTOR}.use_dynamic_bsz", "==", True),  # noqa: FBT003  a value to compare with
            When(f"{_ACTOR}.ppo_max_token_len_per_gpu", "<", ("data.max_prompt_length", "data.max_response_length"), 2),
            _ON_GPU,
        ),
        "has no room for two full sequences, so that batches are hardly packed.",
        "Set it to twice data.max_prompt_length + data.max_response_length or more.",
        _TUNING,
    ),
    Advice(
        f"{_ROLLOUT}.max_num_batched_tokens",
        (When(f"{_ROLLOUT}.max_num_batched_tokens", "<=", 2048), _VLLM),
        "keeps the rollout slow.",
        "Set it above 2048.",
        _TUNING,
    ),
    Advice(
        f"{_ROLLOUT}.temperature",
        (When(f"{_ROLLOUT}.temperature", "==", 0), When(f"{_ROLLOUT}.n", ">", 1)),
        "makes all answers to a prompt the same, so that nothing is learnt from comparing them.",
        "Set it to 1.0.",
        _BEST_PRACTICES,
    ),
    Advice(
        f"{_ACTOR}.kl_loss_coef",
        (When(f"{_ACTOR}.use_kl_loss", "==", True), When(f"{_ACTOR}.kl_loss_coef", ">", 0.1)),  # noqa: FBT003  as above
        "holds the model so close to the reference that it hardly explores.",
        "Start at 0.001.",
        _BEST_PRACTICES,
    ),
    Advice(
        "algorithm.use_kl_in_reward",
        (When(f"{_ACTOR}.use_kl_loss", "==", True), When("algorithm.use_kl_in_reward", "==", True)),  # noqa: FBT003  as above
        f"is on together with {_ACTOR}.use_kl_loss: the same divergence counts twice.",
        "Keep one of the two.",
        "verl, utils/config.py, validate_config",
    ),
    Advice(
        "algorithm.norm_adv_by_std_in_grpo",
        (
            When(f"{_ACTOR}.loss_agg_mode", "==", "seq-mean-token-sum-norm"),
            When("algorithm.adv_estimator", "==", "grpo"),
            When("algorithm.norm_adv_by_std_in_grpo", "==", True),  # noqa: FBT003  as above
        ),
        "is on: with this loss_agg_mode it is half of Dr.GRPO, and keeps the bias that Dr.GRPO removes.",
        "Set it to false.",
        _GRPO,
    ),
    Advice(
        f"{_ACTOR}.loss_agg_mode",
        (
            When(f"{_ACTOR}.loss_agg_mode", "==", "seq-mean-token-mean"),
            When("data.max_response_length", ">=", 4096),
        ),
        "may be unstable with long answers.",
        "Set it to token-mean.",
        _GRPO,
    ),
    Advice(
        f"{_ACTOR}.ppo_mini_batch_size",
        (When("data.train_batch_size", ">", (f"{_ACTOR}.ppo_mini_batch_size",), 16),),
        "makes more than 16 updates of one batch of answers; the later ones learn from a model that is gone.",
        "Make it larger, or data.train_batch_size smaller.",
        _BEST_PRACTICES,
    ),
    Advice(
        f"{_MODEL}.enable_gradient_checkpointing",
        (When(f"{_MODEL}.enable_gradient_checkpointing", "==", False), _ON_GPU, _LARGE_MODEL),  # noqa: FBT003  as above
        "is off, so that only small micro-batches fit.",
        "Set it to true.",
        _TUNING,
    ),
)

_TRAINED: tuple[Trainer, ...] = ("sft", "dpo", "ppo")
_NO_WAY_BACK = "a run that is stopped or fails starts again from its beginning."
_VERL = "verl, trainer/config (resume from a checkpoint)"

_CHECKPOINTS: tuple[tuple[str, tuple[Trainer, ...]], ...] = (
    ("checkpoint.", ("sft", "dpo")),
    (f"{_ACTOR}.checkpoint.", ("ppo",)),
)

RESUMING: tuple[Advice, ...] = (
    Advice(
        "trainer.save_freq",
        (When("trainer.save_freq", "<=", 0),),
        f"is -1, so no checkpoint is saved on the way: {_NO_WAY_BACK}",
        "Set it to 50, say.",
        _VERL,
        _TRAINED,
    ),
    *(
        Advice(
            f"{part}save_contents",
            (When("trainer.save_freq", "!=", -1), When(f"{part}save_contents", "lacks", name)),
            f"lacks {name}: {what}",
            f"Add {name} to it.",
            "verl, utils/checkpoint/checkpoint_manager.py",
            trainers,
        )
        for part, trainers in _CHECKPOINTS
        for name, what in (
            ("model", "a checkpoint without it cannot be resumed from."),
            ("optimizer", "a resumed run starts with an optimiser that has forgotten its moments."),
            ("extra", "a resumed run has another learning rate schedule and random state."),
        )
    ),
    Advice(
        "trainer.resume_mode",
        (When("trainer.resume_mode", "==", "disable"),),
        "is disable: resuming the run trains it from its beginning.",
        "Leave it at auto.",
        _VERL,
        _TRAINED,
    ),
    Advice(
        "trainer.resume_from_path",
        (When("trainer.resume_mode", "==", "resume_path"), When("trainer.resume_from_path", "==", None)),
        "is needed with trainer.resume_mode=resume_path.",
        "Set it to the folder of a checkpoint, global_step_N.",
        _VERL,
        _TRAINED,
        severity="error",
    ),
)

REQUIRED: tuple[Advice, ...] = (
    Advice(
        "algorithm.filter_groups.metric",
        (
            When("algorithm.filter_groups.enable", "==", True),  # noqa: FBT003  as above
            When("algorithm.filter_groups.metric", "==", None),
        ),
        "is needed with algorithm.filter_groups.enable.",
        "Set it to acc, score or another value that the reward function gives.",
        "verl, trainer/ppo/v1/trainer_base.py, _resolve_filter_groups_metric",
        severity="error",
    ),
    Advice(
        "reward.reward_manager.module.path",
        (
            When("reward.reward_manager.source", "==", "importlib"),
            When("reward.reward_manager.module.path", "==", None),
        ),
        "is needed with reward.reward_manager.source=importlib.",
        "Set it to the Python file with the class.",
        "verl, workers/config/reward.py",
        severity="error",
    ),
    Advice(
        f"{_ROLLOUT}.val_kwargs.do_sample",
        (When(f"{_ROLLOUT}.val_kwargs.do_sample", "==", True), When(f"{_ROLLOUT}.temperature", "==", 0)),  # noqa: FBT003  as above
        f"samples answers, and {_ROLLOUT}.temperature is 0.",
        "Set the temperature above 0.",
        "verl, utils/config.py, validate_config",
        severity="error",
    ),
    Advice(
        "dpo.label_smoothing",
        (When("dpo.loss_type", "==", "ipo"), When("dpo.label_smoothing", "!=", 0)),
        "is for the sigmoid loss; the ipo loss has none.",
        "Set it to 0.",
        "Azar et al. 2023",
        ("dpo",),
        severity="error",
    ),
)


def advice_problems(
    trainer: Trainer, settings: Settings, model: ModelFacts | None, *, device: str
) -> Iterator[Problem]:
    """Yield what is required and missing, what is known to hurt, and what a resume would miss."""
    known = _Known(settings, {PARAMETERS: model.parameters if model else None, DEVICE: device})
    for advice in (*REQUIRED, *KNOWN, *RESUMING):
        if trainer in advice.trainers and all(condition.holds(known) for condition in advice.when):
            why = f"{advice.why} ({advice.source})"
            yield Problem(advice.key, settings[advice.key], why, advice.way_out, advice.severity)


class _Known(dict[str, Any]):
    """The settings, and what else a condition may be about."""

    def __init__(self, settings: Settings, besides: Mapping[str, Any]) -> None:
        super().__init__(besides)
        self._settings = settings

    def __missing__(self, key: str) -> Any:
        return self._settings[key]
