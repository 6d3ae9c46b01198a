"""Everything about a run that can be known to be wrong before it is launched."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from verl_lab.domain.recipe import Device, Problem, Recipe
from verl_lab.errors import InvalidConfigurationError
from verl_lab.recipes.arithmetic import batch_problems, planned_steps, step_problems
from verl_lab.recipes.inputs import check_data, check_model, check_reward
from verl_lab.recipes.layers import CPU_ROLLOUT, MODEL_KEY, REWARD_KEY, TRAIN_KEY, VAL_KEY
from verl_lab.recipes.plan import Plan, make_plan
from verl_lab.recipes.schema import compose

if TYPE_CHECKING:
    from collections.abc import Sequence

    from omegaconf import DictConfig


@dataclass(frozen=True)
class Checked:
    """A plan, verl's configuration composed from it, and all that is wrong with the two.

    Attributes
    ----------
    config
        verl's configuration; None if Hydra refused to compose it.
    total_steps
        Steps the run will take; None where only verl can tell, and where a problem refuses the launch.
    """

    plan: Plan
    config: DictConfig | None
    total_steps: int | None
    problems: tuple[Problem, ...]

    @property
    def errors(self) -> tuple[Problem, ...]:
        """The problems that refuse a launch."""
        return tuple(problem for problem in self.problems if problem.severity == "error")


def check(recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto") -> Checked:
    """Compose a recipe with a user's overrides and collect every problem, raising for none of them.

    Raises
    ------
    EnvironmentMismatchError
        If verl is not installed here.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    plan = make_plan(recipe, overrides, device)
    problems = list(plan.problems)
    try:
        config = compose(recipe.trainer, plan.hydra_overrides())
        settings = _Settings(config)
        settings.resolve()
    except (HydraException, OmegaConfBaseException) as error:
        key = getattr(error, "full_key", None) or "configuration"
        problems.append(Problem(key, None, f"Hydra refuses it: {str(error).splitlines()[0].rstrip('.')}."))
        return Checked(plan, None, None, tuple(problems))
    rows = _input_problems(plan, settings, problems)
    references = _reference_problems(plan, settings)
    problems += references
    bad = {problem.key for problem in problems}
    # A number that was refused leaves another one behind; arithmetic on that would mislead.
    if not references and not bad & _ARITHMETIC[recipe.trainer]:
        problems += batch_problems(recipe.trainer, settings, rows)
        problems += step_problems(recipe.trainer, settings, rows)
    if plan.device == "cpu" and recipe.trainer == "ppo":
        problems += _rollout_problems(settings)
    sound = all(problem.severity == "warning" for problem in problems)
    total = planned_steps(recipe.trainer, settings, rows) if sound else None
    return Checked(plan, config, total, tuple(problems))


def validate(recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto") -> tuple[Problem, ...]:
    """Return every problem of a recipe with a user's overrides, warnings included. Errors as ``check``."""
    return check(recipe, overrides, device=device).problems


def refuse(recipe: Recipe, problems: Sequence[Problem]) -> InvalidConfigurationError:
    """Return the error that tells all ``problems`` of ``recipe`` at once."""
    count = f"{len(problems)} problem{'s' if len(problems) > 1 else ''}"
    lines = [str(problem) for problem in problems]
    return InvalidConfigurationError(f"Recipe {recipe.name!r} cannot be launched: {count}.", None, lines)


_ENGINE_ARITHMETIC = frozenset({"data.train_batch_size", "data.micro_batch_size_per_gpu", "trainer.total_epochs"})
_ARITHMETIC = {
    "sft": _ENGINE_ARITHMETIC,
    "dpo": _ENGINE_ARITHMETIC,
    "ppo": frozenset(
        {
            "data.train_batch_size",
            "actor_rollout_ref.actor.ppo_mini_batch_size",
            "actor_rollout_ref.rollout.n",
            "trainer.total_epochs",
        }
    ),
}


class _Settings(dict[str, Any]):
    """verl's resolved settings by dotted key."""

    def __init__(self, config: DictConfig) -> None:
        super().__init__()
        self._config = config

    def __missing__(self, key: str) -> Any:
        from omegaconf import OmegaConf

        value: Any = OmegaConf.select(self._config, key)
        self[key] = OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
        return self[key]

    def resolve(self) -> None:
        """Raise what OmegaConf raises for a reference that leads nowhere or in a circle."""
        from omegaconf import OmegaConf

        OmegaConf.to_container(self._config, resolve=True)


def _input_problems(plan: Plan, settings: _Settings, problems: list[Problem]) -> dict[str, int | None]:
    """Check what the run reads; return the rows of ``train`` and ``val``, None where unknown."""
    refused = {problem.key for problem in plan.problems}
    model = MODEL_KEY[plan.recipe.trainer]
    if model not in refused:
        problems += check_model(model, plan.values.get(model))
    rows: dict[str, int | None] = {"train": None, "val": None}
    columns, suffixes = _needed(plan, settings)
    for name, key, needed in (("train", TRAIN_KEY, True), ("val", VAL_KEY, plan.recipe.trainer == "ppo")):
        value = plan.values.get(key)
        if key not in refused and (needed or value is not None):
            report = check_data(key, value, columns, suffixes)
            problems += report.problems
            rows[name] = report.rows
    path = plan.values.get(f"{REWARD_KEY}.path")
    if isinstance(path, str):
        problems += check_reward(REWARD_KEY, path, str(settings[f"{REWARD_KEY}.name"]))
    return rows


def _needed(plan: Plan, settings: _Settings) -> tuple[list[str], list[str]]:
    """Return the columns and file types that verl's data sets read (verl/utils/dataset)."""
    if settings["data.custom_cls.path"]:
        return [], [".parquet", ".json", ".jsonl"]
    if plan.recipe.trainer == "sft":
        return [settings["data.messages_key"]], [".parquet"]
    columns = [settings["data.prompt_key"], settings["data.reward_fn_key"]]
    if settings["reward.reward_manager.name"] == "naive":
        columns.append("reward_model")
    return columns, [".parquet", ".json", ".jsonl"]


def _reference_problems(plan: Plan, settings: _Settings) -> list[Problem]:
    """Check what references to other keys came out as; their kind is known only now."""
    found: list[Problem] = []
    for name, value in plan.values.items():
        key = plan.schema.keys.get(name)
        if key is not None and isinstance(value, str) and "${" in value and not key.takes(settings[name]):
            found.append(Problem(name, value, f"{value} is {settings[name]!r}, which will not do."))
    return found


def _rollout_problems(settings: _Settings) -> list[Problem]:
    key = "actor_rollout_ref.rollout.name"
    name = settings[key]
    if name == CPU_ROLLOUT:
        return []
    return [Problem(key, name, f"{name!r} needs a GPU.", f"On a CPU, leave it at {CPU_ROLLOUT}.")]
