"""Whether batches divide as verl demands, and how many steps a run takes.

The rules are verl's own: ``verl.utils.config.validate_config``, ``ActorConfig.validate``,
``TrainingWorker.train_mini_batch``, ``prepare_micro_batches`` and the two trainers' data loaders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from verl_lab.domain.recipe import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.domain.recipe import Trainer
    from verl_lab.recipes.composed import Settings

_ACTOR = "actor_rollout_ref.actor"
_ROLLOUT = "actor_rollout_ref.rollout"
_REF = "actor_rollout_ref.ref"
_ENGINE_READS = ("data.train_batch_size", "data.micro_batch_size_per_gpu", "trainer.total_epochs")
_GPUS = ("trainer.n_gpus_per_node", "trainer.nnodes")

READS: Mapping[Trainer, frozenset[str]] = {
    "sft": frozenset((*_GPUS, *_ENGINE_READS, "engine.ulysses_sequence_parallel_size")),
    "dpo": frozenset((*_GPUS, *_ENGINE_READS, "engine.ulysses_sequence_parallel_size")),
    "ppo": frozenset(
        (
            *_GPUS,
            "data.train_batch_size",
            "trainer.total_epochs",
            f"{_ACTOR}.ppo_mini_batch_size",
            f"{_ACTOR}.ppo_micro_batch_size_per_gpu",
            f"{_ACTOR}.ulysses_sequence_parallel_size",
            f"{_ROLLOUT}.n",
            f"{_ROLLOUT}.tensor_model_parallel_size",
            f"{_ROLLOUT}.log_prob_micro_batch_size_per_gpu",
            "critic.ppo_mini_batch_size",
            "critic.ppo_micro_batch_size_per_gpu",
        )
    ),
}
"""The settings that sizes are computed from: with one of them refused, arithmetic would mislead."""


def has_critic(settings: Settings) -> bool:
    """Whether verl trains a critic (``verl.trainer.ppo.utils.need_critic``)."""
    enabled = settings["critic.enable"]
    return bool(enabled) if enabled is not None else settings["algorithm.adv_estimator"] == "gae"


def has_reference(settings: Settings) -> bool:
    """Whether verl keeps a reference model (``verl.trainer.ppo.utils.need_reference_policy``)."""
    return bool(settings["algorithm.use_kl_in_reward"] or settings[f"{_ACTOR}.use_kl_loss"])


def batch_problems(trainer: Trainer, settings: Settings, rows: Mapping[str, int | None]) -> list[Problem]:
    """Return what is wrong with batch sizes, given verl's settings and the rows of the data."""
    processes = settings["trainer.n_gpus_per_node"] * settings["trainer.nnodes"]
    if problems := _too_few_rows(trainer, settings["data.train_batch_size"], rows):
        return problems
    if trainer == "ppo":
        return _ppo(settings, processes)
    return _sft(settings, processes, sequences=2 if trainer == "dpo" else 1)


def step_problems(settings: Settings, rows: Mapping[str, int | None]) -> list[Problem]:
    """Return what is wrong with the length of the run."""
    wanted, each = settings["trainer.total_training_steps"], _steps_an_epoch(settings, rows)
    if wanted is None or each is None:
        return []
    epochs = settings["trainer.total_epochs"]
    if each * epochs >= wanted:
        return []
    enough = -(-wanted // each) if each else None
    why = f"{epochs} epochs of {each} steps are {each * epochs} steps, fewer than {wanted}."
    way_out = f"Set trainer.total_epochs={enough}." if enough else None
    return [Problem("trainer.total_training_steps", wanted, why, way_out)]


def planned_steps(trainer: Trainer, settings: Settings, rows: Mapping[str, int | None]) -> int | None:
    """Return how many steps the run will take; None where only verl can tell."""
    wanted = settings["trainer.total_training_steps"]
    if wanted is not None:
        return int(wanted)
    if trainer == "ppo" and settings["data.filter_overlong_prompts"]:
        return None  # the tokenizer decides how many rows are left
    each = _steps_an_epoch(settings, rows)
    return None if each is None else each * int(settings["trainer.total_epochs"])


def _steps_an_epoch(settings: Settings, rows: Mapping[str, int | None]) -> int | None:
    count, most = rows["train"], settings["data.train_max_samples"]
    if count is None or settings["data.train_batch_size"] <= 0:
        return None
    return (min(count, most) if most and most > 0 else count) // settings["data.train_batch_size"]


def _too_few_rows(trainer: Trainer, batch: int, rows: Mapping[str, int | None]) -> list[Problem]:
    problems: list[Problem] = []
    # Incomplete batches are dropped from training, and by SFT from validation too (its loss is then NaN).
    for part, key in (("train", "data.train_files"), ("val", "data.val_files")):
        count = rows[part]
        if count is not None and count < batch and (part == "train" or trainer == "sft"):
            why = f"has {count} rows, fewer than one batch of {batch}."
            problems.append(Problem(key, count, why, f"Set data.train_batch_size to {count} or less."))
    return problems


def _sft(settings: Settings, processes: int, *, sequences: int) -> list[Problem]:
    """Check the batches of rows that hold one sequence or, in preferences, two that are never split."""
    key = "engine.ulysses_sequence_parallel_size"
    if problems := _sequence_parallel(settings, key, "model.use_remove_padding", processes):
        return problems
    parallel = int(settings.number(key, 1))
    batch, micro = settings["data.train_batch_size"], settings["data.micro_batch_size_per_gpu"]
    groups = processes // parallel
    if batch % groups:
        near = _nearest_multiple(batch, groups)
        why = f"{batch} does not divide among {groups} {'GPUs' if parallel == 1 else 'groups of GPUs'}."
        return [Problem("data.train_batch_size", batch, why, f"Set it to {near}.")]
    if settings["data.use_dynamic_bsz"]:
        room, longest = settings["data.max_token_len_per_gpu"] * parallel, settings["data.max_length"] * sequences
        if room >= longest:
            return []
        each = "one row of" if sequences == 1 else "one pair of"
        why = f"{room} tokens have no room for {each} {longest} (data.max_length)."
        return [Problem("data.max_token_len_per_gpu", room, why, f"Set it to {-(-longest // parallel)} or more.")]
    return _divides("data.micro_batch_size_per_gpu", micro, batch // groups, "rows of each GPU's batch")


def _ppo(settings: Settings, processes: int) -> list[Problem]:
    batch, answers = settings["data.train_batch_size"], settings[f"{_ROLLOUT}.n"]
    actor_parallel = f"{_ACTOR}.ulysses_sequence_parallel_size"
    if settings.number(actor_parallel, 1) == 1:  # the older name wins where it is set
        actor_parallel = f"{_ACTOR}.fsdp_config.ulysses_sequence_parallel_size"
    problems = _sequence_parallel(settings, actor_parallel, "actor_rollout_ref.model.use_remove_padding", processes)
    if problems:
        return problems
    parallel = int(settings.number(actor_parallel, 1))
    groups = processes // parallel
    problems = _update(settings, _ACTOR, groups, parallel)
    is_group_relative = settings["algorithm.adv_estimator"] in _GROUP_RELATIVE
    if answers == 1 and is_group_relative:
        why = "with one answer a prompt there is no group to compare with."
        problems.append(Problem(f"{_ROLLOUT}.n", 1, why, "Set it to 4 or more.", severity="warning"))
    tensor_key = f"{_ROLLOUT}.tensor_model_parallel_size"
    engine = settings[tensor_key] * int(settings.number(f"{_ROLLOUT}.data_parallel_size", 1))
    if engine <= 0 or processes % engine:
        why = f"{engine} does not divide the {processes} GPUs."
        near = max(n for n in range(1, processes + 1) if processes % n == 0 and n <= max(engine, 1))
        problems.append(Problem(tensor_key, settings[tensor_key], why, f"Set it to {near}."))
    if not settings[f"{_ACTOR}.use_dynamic_bsz"]:
        if batch * answers % processes and batch % groups:
            why = f"{batch} prompts x {answers} answers do not divide among {processes} GPUs."
            near = _nearest_multiple(batch, processes)
            problems.append(Problem("data.train_batch_size", batch, why, f"Set it to {near}."))
        problems += _log_probs(settings, batch * answers // groups)
    if bool(settings[f"{_ACTOR}.use_dynamic_bsz"]) != bool(settings[f"{_ROLLOUT}.log_prob_use_dynamic_bsz"]):
        key, actor = f"{_ROLLOUT}.log_prob_use_dynamic_bsz", settings[f"{_ACTOR}.use_dynamic_bsz"]
        why = f"differs from {_ACTOR}.use_dynamic_bsz, and verl wants them alike."
        problems.append(Problem(key, settings[key], why, f"Set it to {str(actor).lower()}."))
    if has_critic(settings):
        problems += _critic(settings, processes)
    return problems


# Estimators that compare the answers to one prompt with each other.
_GROUP_RELATIVE = frozenset(
    {"grpo", "grpo_vectorized", "grpo_passk", "rloo", "rloo_vectorized", "opo", "gdpo", "gpg"}
    | {"reinforce_plus_plus_baseline", "optimal_token_baseline", "tir_optimal_token_baseline"}
)


def _critic(settings: Settings, processes: int) -> list[Problem]:
    key = "critic.fsdp.ulysses_sequence_parallel_size"
    problems = _sequence_parallel(settings, key, "critic.model.use_remove_padding", processes)
    parallel = int(settings.number(key, 1))
    return problems or _update(settings, "critic", processes // parallel, parallel)


def _update(settings: Settings, part: str, groups: int, parallel: int) -> list[Problem]:
    """Check the mini-batches and micro-batches of the actor or the critic, over ``groups`` of GPUs."""
    batch, answers = settings["data.train_batch_size"], settings[f"{_ROLLOUT}.n"]
    key = f"{part}.ppo_mini_batch_size"
    mini = settings[key]
    if mini > batch:
        why = f"{mini} prompts an update are more than the batch has (data.train_batch_size={batch})."
        return [Problem(key, mini, why, f"Set it to {batch} or a divisor of it.")]
    if mini * answers % groups:
        why = f"{mini} prompts x {answers} answers do not divide among {groups} GPUs."
        near = next((n for n in range(mini, batch + 1) if n * answers % groups == 0 and batch % n == 0), None)
        return [Problem(key, mini, why, f"Set it to {near}." if near else None)]
    problems: list[Problem] = []
    if batch % mini:
        why = f"does not divide data.train_batch_size={batch}; verl fills the last update up with padding."
        near = max(n for n in range(1, mini + 1) if batch % n == 0)
        problems.append(Problem(key, mini, why, f"{near} does.", severity="warning"))
    return problems + _micro_batches(settings, part, mini * answers // groups, parallel)


def _micro_batches(settings: Settings, part: str, mini_per_process: int, parallel: int) -> list[Problem]:
    if settings[f"{part}.use_dynamic_bsz"]:
        key = f"{part}.ppo_max_token_len_per_gpu"
        room = settings[key] * parallel
        longest = settings["data.max_prompt_length"] + settings["data.max_response_length"]
        if room >= longest:
            return []
        why = f"{room} tokens have no room for one prompt and answer of {longest}."
        return [Problem(key, settings[key], why, f"Set it to {-(-longest // parallel)} or more.")]
    problems = _one_of(settings, part, "ppo_micro_batch_size", f"{part}.use_dynamic_bsz=true")
    key = f"{part}.ppo_micro_batch_size_per_gpu"
    if not problems and settings[key] is not None:
        problems += _divides(key, settings[key], mini_per_process, "answers of each GPU's update")
    return problems


def _log_probs(settings: Settings, answers_per_process: int) -> list[Problem]:
    problems: list[Problem] = []
    for part in (_ROLLOUT, _REF) if has_reference(settings) else (_ROLLOUT,):
        if part == _REF and settings[f"{_REF}.log_prob_use_dynamic_bsz"]:
            continue
        name = "log_prob_micro_batch_size"
        found = _one_of(settings, part, name, f"{_ACTOR}.use_dynamic_bsz=true")
        key = f"{part}.{name}_per_gpu"
        if not found and settings[key] is not None:
            found = _divides(key, settings[key], answers_per_process, "answers of each GPU")
        problems += found
    return problems


def _one_of(settings: Settings, part: str, name: str, otherwise: str) -> list[Problem]:
    """Check that the size for each GPU is set, and the old one for all of them is not set beside it."""
    old, new = f"{part}.{name}", f"{part}.{name}_per_gpu"
    if settings[old] is None and settings[new] is None:
        return [Problem(new, None, "verl wants it when batches are not sized by tokens.", f"Set it, or {otherwise}.")]
    if settings[old] is not None and settings[new] is not None:
        return [Problem(old, settings[old], f"is set together with {new}.", f"Keep {new} alone.")]
    return []


def _sequence_parallel(settings: Settings, key: str, packing: str, processes: int) -> list[Problem]:
    parallel = int(settings.number(key, 1))
    if processes % parallel:
        near = max(n for n in range(1, processes + 1) if processes % n == 0 and n <= parallel)
        return [Problem(key, parallel, f"{parallel} does not divide the {processes} GPUs.", f"Set it to {near}.")]
    if parallel > 1 and not settings[packing]:
        return [Problem(key, parallel, f"sequences are split only where {packing} is true.", "Set it to true.")]
    return []


def _nearest_multiple(value: int, divisor: int) -> int:
    return max(divisor, round(value / divisor) * divisor)


def _divides(key: str, micro: int, whole: int, what: str) -> list[Problem]:
    if micro > 0 and whole % micro == 0:
        return []
    fitting = max((n for n in range(1, min(max(micro, 1), whole) + 1) if whole % n == 0), default=1)
    return [Problem(key, micro, f"{micro} does not divide the {whole} {what}.", f"Set it to {fitting}.")]
