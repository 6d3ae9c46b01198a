"""Whether batches divide as verl demands, and how many steps a run takes.

The rules are verl's own: ``verl.utils.config.validate_config``, ``ActorConfig.validate``,
``TrainingWorker.train_mini_batch``, ``prepare_micro_batches`` and the two trainers' data loaders.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from verl_lab.domain.recipe import Problem

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.domain.recipe import Trainer

_ACTOR = "actor_rollout_ref.actor"
_ROLLOUT = "actor_rollout_ref.rollout"
_REF = "actor_rollout_ref.ref"


def batch_problems(trainer: Trainer, settings: Mapping[str, Any], rows: Mapping[str, int | None]) -> list[Problem]:
    """Return what is wrong with batch sizes, given verl's settings and the rows of the data."""
    processes = settings["trainer.n_gpus_per_node"] * settings["trainer.nnodes"]
    batch = settings["data.train_batch_size"]
    if (
        problems := _not_positive(settings, ["data.train_batch_size", "trainer.n_gpus_per_node", "trainer.nnodes"])
    ) or (problems := _too_few_rows(trainer, batch, rows)):
        return problems
    if trainer != "ppo":
        return _sft(settings, processes)
    return _ppo(settings, processes)


def step_problems(trainer: Trainer, settings: Mapping[str, Any], rows: Mapping[str, int | None]) -> list[Problem]:
    """Return what is wrong with the length of the run and with how often it saves and validates."""
    problems = _not_positive(settings, ["trainer.total_epochs"])
    wanted = settings["trainer.total_training_steps"]
    if wanted is not None:
        problems += _not_positive(settings, ["trainer.total_training_steps"])
    if not problems and wanted is not None and (each := _steps_an_epoch(settings, rows)) is not None:
        epochs = settings["trainer.total_epochs"]
        if each * epochs < wanted:
            enough = -(-wanted // each) if each else None
            problems.append(
                Problem(
                    "trainer.total_training_steps",
                    wanted,
                    f"{epochs} epochs of {each} steps are {each * epochs} steps, fewer than {wanted}.",
                    f"Set trainer.total_epochs={enough}." if enough else None,
                )
            )
    if trainer != "ppo":
        # SFTTrainer.fit takes the step modulo these; -1 is how verl says never.
        for key in ("trainer.save_freq", "trainer.test_freq"):
            if settings[key] == 0:
                problems.append(Problem(key, 0, "verl divides by it.", "Set -1 for never."))
    return problems


def planned_steps(trainer: Trainer, settings: Mapping[str, Any], rows: Mapping[str, int | None]) -> int | None:
    """Return how many steps the run will take; None where only verl can tell."""
    wanted = settings["trainer.total_training_steps"]
    if wanted is not None:
        return int(wanted)
    if trainer == "ppo" and settings["data.filter_overlong_prompts"]:
        return None  # the tokenizer decides how many rows are left
    each = _steps_an_epoch(settings, rows)
    return None if each is None else each * int(settings["trainer.total_epochs"])


def _steps_an_epoch(settings: Mapping[str, Any], rows: Mapping[str, int | None]) -> int | None:
    count, most = rows["train"], settings["data.train_max_samples"]
    if count is None or settings["data.train_batch_size"] <= 0:
        return None
    return (min(count, most) if most and most > 0 else count) // settings["data.train_batch_size"]


def _not_positive(settings: Mapping[str, Any], keys: list[str]) -> list[Problem]:
    return [
        Problem(key, settings[key], f"is {settings[key]}; it must be above 0.") for key in keys if settings[key] <= 0
    ]


def _too_few_rows(trainer: Trainer, batch: int, rows: Mapping[str, int | None]) -> list[Problem]:
    problems: list[Problem] = []
    # Incomplete batches are dropped from training, and by SFT from validation too (its loss is then NaN).
    for part, key in (("train", "data.train_files"), ("val", "data.val_files")):
        count = rows[part]
        if count is not None and count < batch and (part == "train" or trainer != "ppo"):
            why = f"has {count} rows, fewer than one batch of {batch}."
            problems.append(Problem(key, count, why, f"Set data.train_batch_size to {count} or less."))
    return problems


def _sft(settings: Mapping[str, Any], processes: int) -> list[Problem]:
    batch, micro = settings["data.train_batch_size"], settings["data.micro_batch_size_per_gpu"]
    if batch % processes:
        return [Problem("data.train_batch_size", batch, f"{batch} does not divide among {processes} GPUs.")]
    if settings["data.use_dynamic_bsz"]:
        room, longest = settings["data.max_token_len_per_gpu"], settings["data.max_length"]
        if room < longest:
            why = f"{room} tokens have no room for one row of {longest} (data.max_length)."
            return [Problem("data.max_token_len_per_gpu", room, why, f"Set it to {longest} or more.")]
        return []
    return _divides("data.micro_batch_size_per_gpu", micro, batch // processes, "rows of each GPU's batch")


def _ppo(settings: Mapping[str, Any], processes: int) -> list[Problem]:
    batch, answers = settings["data.train_batch_size"], settings[f"{_ROLLOUT}.n"]
    mini = settings[f"{_ACTOR}.ppo_mini_batch_size"]
    problems = _not_positive(settings, [f"{_ROLLOUT}.n", f"{_ACTOR}.ppo_mini_batch_size"])
    if problems:
        return problems
    if mini > batch:
        why = f"{mini} prompts an update are more than the batch has (data.train_batch_size={batch})."
        problems.append(Problem(f"{_ACTOR}.ppo_mini_batch_size", mini, why, f"Set it to {batch} or a divisor of it."))
    elif batch % mini:
        why = f"does not divide data.train_batch_size={batch}; verl fills the last update up with padding."
        problems.append(Problem(f"{_ACTOR}.ppo_mini_batch_size", mini, why, severity="warning"))
    if mini * answers % processes:
        why = f"{mini} prompts x {answers} answers do not divide among {processes} GPUs."
        problems.append(Problem(f"{_ACTOR}.ppo_mini_batch_size", mini, why))
    if answers == 1:
        why = "with one answer a prompt there is no group to compare with."
        problems.append(Problem(f"{_ROLLOUT}.n", 1, why, "Set it to 4 or more.", severity="warning"))
    parallel = settings[f"{_ROLLOUT}.tensor_model_parallel_size"]
    if parallel <= 0 or processes % parallel:
        why = f"{parallel} does not divide the {processes} GPUs."
        problems.append(Problem(f"{_ROLLOUT}.tensor_model_parallel_size", parallel, why, "Set it to 1."))
    return problems + _ppo_micro_batches(settings, mini * answers // processes)


def _ppo_micro_batches(settings: Mapping[str, Any], mini_per_process: int) -> list[Problem]:
    if settings[f"{_ACTOR}.use_dynamic_bsz"]:
        room = settings[f"{_ACTOR}.ppo_max_token_len_per_gpu"] * settings[f"{_ACTOR}.ulysses_sequence_parallel_size"]
        longest = settings["data.max_prompt_length"] + settings["data.max_response_length"]
        if room >= longest:
            return []
        why = f"{room} tokens have no room for one prompt and answer of {longest}."
        return [Problem(f"{_ACTOR}.ppo_max_token_len_per_gpu", room, why, f"Set it to {longest} or more.")]
    problems: list[Problem] = []
    needed = [(_ACTOR, "ppo_micro_batch_size"), (_ROLLOUT, "log_prob_micro_batch_size")]
    if settings[f"{_ACTOR}.use_kl_loss"] or settings["algorithm.use_kl_in_reward"]:
        needed.append((_REF, "log_prob_micro_batch_size"))
    for group, name in needed:
        old, new = f"{group}.{name}", f"{group}.{name}_per_gpu"
        if settings[old] is not None and settings[new] is not None:
            problems.append(Problem(old, settings[old], f"is set together with {new}.", f"Keep {new} alone."))
        elif settings[old] is None and settings[new] is None:
            way_out = f"Set it, or set {_ACTOR}.use_dynamic_bsz=true."
            problems.append(Problem(new, None, "verl wants it when batches are not sized by tokens.", way_out))
    micro = settings[f"{_ACTOR}.ppo_micro_batch_size_per_gpu"]
    if micro is not None:
        key = f"{_ACTOR}.ppo_micro_batch_size_per_gpu"
        problems += _divides(key, micro, mini_per_process, "answers of each GPU's update")
    return problems


def _divides(key: str, micro: int, whole: int, what: str) -> list[Problem]:
    if micro > 0 and whole % micro == 0:
        return []
    fitting = max((n for n in range(1, max(micro, 1) + 1) if whole % n == 0), default=1)
    return [Problem(key, micro, f"{micro} does not divide the {whole} {what}.", f"Set it to {fitting}.")]
