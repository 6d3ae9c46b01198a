"""Everything about a run that can be known to be wrong before it is launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Device, Problem, Recipe
from verl_lab.errors import InvalidConfigurationError
from verl_lab.recipes.advice import advice_problems
from verl_lab.recipes.arithmetic import READS, batch_problems, planned_steps, step_problems
from verl_lab.recipes.composed import Settings
from verl_lab.recipes.device import Machine, this_machine
from verl_lab.recipes.inputs import DataReport, check_data
from verl_lab.recipes.layers import CPU_ROLLOUT, MODEL_KEY, REWARD_KEY, TRAIN_KEY, VAL_KEY
from verl_lab.recipes.lengths import length_problems, parallel_problems, row_length_problems
from verl_lab.recipes.limits import limit_problems
from verl_lab.recipes.memory import MemoryEstimate, estimate, memory_problems
from verl_lab.recipes.model_folder import ModelFacts, check_model, check_tokenizer, facts_of, local_folder
from verl_lab.recipes.plan import Plan, make_plan
from verl_lab.recipes.reward import check_reward, try_reward
from verl_lab.recipes.schema import compose_values
from verl_lab.recipes.shapes import fault_finder, needed_columns, read_suffixes
from verl_lab.recipes.snapshot import chosen_version, installed_version

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

    from verl_lab.domain.recipe import Trainer


GPUS_KEY = "resources.gpus"


@dataclass(frozen=True)
class Checked:
    """A plan, verl's configuration composed from it, and all that is wrong with the two.

    Attributes
    ----------
    config
        verl's configuration; None if Hydra refused to compose it.
    settings
        The same, resolved, by dotted key; None with it.
    total_steps
        Steps the run will take; None where only verl can tell, and where a problem refuses the launch.
    rows
        Rows of ``train`` and ``val``; None where unknown.
    memory
        What it needs on each device; None where the model's shape is not known here.
    machine
        What it was checked against.
    """

    plan: Plan
    config: DictConfig | None
    settings: Settings | None
    total_steps: int | None
    problems: tuple[Problem, ...]
    rows: Mapping[str, int | None]
    memory: MemoryEstimate | None
    machine: Machine

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that refuse a launch."""
        return tuple(problem for problem in self.problems if problem.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """The problems that are only told."""
        return tuple(problem for problem in self.problems if problem.severity == "warning")


def check(
    recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto", machine: Machine | None = None
) -> Checked:
    """Compose a recipe with a user's overrides and collect every problem, raising for none of them.

    Neither verl nor torch is needed. A reward function is called on one row, in a process of its own.

    Parameters
    ----------
    device
        What it is to train on; ``auto`` is what the recipe says and this machine has.
    machine
        The one that it is to fit on; by default this one.
    """
    from omegaconf.errors import OmegaConfBaseException

    machine = machine or this_machine()
    plan = make_plan(recipe, overrides, device)
    problems = [*plan.problems, *_version_problems()]
    try:
        config = compose_values(recipe.trainer, plan.values)
        settings = Settings(config)
    except OmegaConfBaseException as error:
        key = getattr(error, "full_key", None) or "configuration"
        problems.append(Problem(key, None, f"Hydra refuses it: {str(error).splitlines()[0].rstrip('.')}."))
        return Checked(plan, None, None, None, tuple(problems), {"train": None, "val": None}, None, machine)
    references = _reference_problems(plan, settings)
    problems += references
    # What follows computes with numbers, and a reference may have come out as anything.
    if references:
        return Checked(plan, config, settings, None, tuple(problems), {"train": None, "val": None}, None, machine)
    problems += limit_problems(plan, settings)
    model = _model_problems(plan, settings, problems)
    rows = _input_problems(plan, settings, model, problems)
    # A number that was refused leaves another one behind; arithmetic on that would mislead.
    memory = None
    if not _are_sizes_refused(recipe.trainer, problems):
        problems += batch_problems(recipe.trainer, settings, rows)
        problems += step_problems(settings, rows)
        problems += length_problems(recipe.trainer, settings, model)
        problems += parallel_problems(settings, model)
        if not _are_sizes_refused(recipe.trainer, problems):
            memory = estimate(plan, settings, model, machine)
            problems += memory_problems(plan, settings, memory)
    problems += advice_problems(recipe.trainer, settings, model, device=plan.device)
    problems += _device_problems(plan, settings, machine)
    sound = all(problem.severity == "warning" for problem in problems)
    total = planned_steps(recipe.trainer, settings, rows) if sound else None
    return Checked(plan, config, settings, total, tuple(_told_once(problems)), rows, memory, machine)


def validate(recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto") -> tuple[Problem, ...]:
    """Return every problem of a recipe with a user's overrides, warnings included."""
    return check(recipe, overrides, device=device).problems


def refuse(recipe: Recipe, problems: Sequence[Problem]) -> InvalidConfigurationError:
    """Return the error that tells all ``problems`` of ``recipe`` at once, warnings after what refuses the launch."""
    errors = [problem for problem in problems if problem.severity == "error"]
    count = f"{len(errors)} problem{'' if len(errors) == 1 else 's'}"
    lines = [str(problem) for problem in errors]
    lines += [f"warning: {problem}" for problem in problems if problem.severity == "warning"]
    return InvalidConfigurationError(f"Recipe {recipe.name!r} cannot be launched: {count}.", None, lines)


def _are_sizes_refused(trainer: Trainer, problems: Sequence[Problem]) -> bool:
    refused = {problem.key for problem in problems if problem.severity == "error"}
    return bool(refused & READS[trainer]) or any(key.endswith("_parallel_size") for key in refused)


def _version_problems() -> list[Problem]:
    """Say when what was checked is not what is installed."""
    installed, taken = installed_version(), chosen_version()
    if installed is None:
        why = f"is not installed here; settings were checked against those of verl {taken}."
        return [Problem("verl", None, why, "Install the training or cpu environment to launch.", severity="warning")]
    if installed != taken:
        why = f"{installed} is installed; settings were checked against those of verl {taken}."
        return [Problem("verl", installed, why, f"Install verl {taken}.", severity="warning")]
    return []


def _model_problems(plan: Plan, settings: Settings, problems: list[Problem]) -> ModelFacts | None:
    """Check the model's folder, tokenizer and template; return its shape, None where it is not known here."""
    key = MODEL_KEY[plan.recipe.trainer]
    if key in {problem.key for problem in plan.problems}:
        return None
    value = plan.values.get(key)
    found = check_model(key, value)
    problems += found
    folder = local_folder(value)
    if found or folder is None:
        return None
    part = key.rpartition(".")[0]
    if not settings[f"{part}.tokenizer_path"]:
        plain = bool(settings["dpo.plain_text"]) if plan.recipe.trainer == "dpo" else False
        needs_template = not plain and not settings[f"{part}.custom_chat_template"]
        problems += check_tokenizer(key, folder, needs_template=needs_template)
    return facts_of(folder)


def _input_problems(
    plan: Plan, settings: Settings, model: ModelFacts | None, problems: list[Problem]
) -> dict[str, int | None]:
    """Check what the run reads; return the rows of ``train`` and ``val``, None where unknown."""
    refused, trainer = {problem.key for problem in plan.problems}, plan.recipe.trainer
    reports = {"train": DataReport(), "val": DataReport()}
    columns, suffixes = needed_columns(trainer, settings), read_suffixes(trainer, settings)
    for name, key, needed in (("train", TRAIN_KEY, True), ("val", VAL_KEY, trainer == "ppo")):
        value = plan.values.get(key)
        if key not in refused and (needed or value is not None):
            reports[name] = check_data(
                key,
                value,
                columns=columns,
                suffixes=suffixes,
                fault_of=fault_finder(trainer, settings),
                also=[name for name in ("extra_info", "reward_model", settings["dpo.prompt_key"]) if name],
            )
            problems += reports[name].problems
    sample = reports["train"].sample
    if model is not None and columns:
        problems += row_length_problems(trainer, settings, sample, model.folder)
    problems += _reward_problems(plan, settings, sample)
    return {name: report.rows for name, report in reports.items()}


def _reward_problems(plan: Plan, settings: Settings, sample: Sequence[Mapping[str, Any]]) -> list[Problem]:
    path, name = plan.values.get(f"{REWARD_KEY}.path"), str(settings[f"{REWARD_KEY}.name"])
    if not isinstance(path, str):
        return []
    found = check_reward(REWARD_KEY, path, name)
    if found or not sample or "reward_model" not in sample[0]:
        return found
    arguments = cast("Mapping[str, Any]", settings[f"{REWARD_KEY}.reward_kwargs"] or {})
    source = settings["data.reward_fn_key"]
    return try_reward(REWARD_KEY, path, name, sample[0], source_key=source, arguments=arguments)


def _reference_problems(plan: Plan, settings: Settings) -> list[Problem]:
    """Check what references to other keys came out as; their kind is known only now."""
    found: list[Problem] = []
    for name, value in plan.values.items():
        key = plan.schema.keys.get(name)
        if key is not None and isinstance(value, str) and "${" in value and not key.takes(settings[name]):
            found.append(Problem(name, value, f"{value} is {settings[name]!r}, which will not do."))
    return found


def _device_problems(plan: Plan, settings: Settings, machine: Machine) -> list[Problem]:
    """Check that the device is there, and that the rollout runs on it."""
    wanted, there = plan.recipe.resources.gpus, machine.gpu_memories
    if plan.device == "gpu":
        if there is None or wanted <= len(there):
            return []
        asked = f"{wanted} GPUs are" if wanted > 1 else "A GPU is"
        why = f"{asked} asked for, and {machine.name} has {len(there) or 'none'}."
        return [Problem(GPUS_KEY, wanted, why, f"Set it to {len(there)}." if there else None)]
    key = "actor_rollout_ref.rollout.name"
    if plan.recipe.trainer != "ppo" or settings[key] == CPU_ROLLOUT:
        return []
    return [Problem(key, settings[key], f"{settings[key]!r} needs a GPU.", f"On a CPU, leave it at {CPU_ROLLOUT}.")]


def _told_once(problems: Sequence[Problem]) -> list[Problem]:
    """Leave out what was told in the same words, as of one file for training and validation."""
    seen: set[tuple[str, str]] = set()
    found: list[Problem] = []
    for problem in problems:
        if (problem.key, problem.message) not in seen:
            seen.add((problem.key, problem.message))
            found.append(problem)
    return found
