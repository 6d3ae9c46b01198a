"""A recipe turned into what is launched: command, environment and verl's configuration."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from verl_lab.recipes.layers import MODEL_KEY, environment
from verl_lab.recipes.validate import check, refuse

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from omegaconf import DictConfig

    from verl_lab.domain.recipe import Algorithm, Device, Problem, Recipe, Trainer
    from verl_lab.recipes.device import ChosenDevice
    from verl_lab.recipes.validate import Checked

_MODULES: Mapping[Trainer, str] = {
    "sft": "verl_lab.verl_plugin.train_sft",
    "dpo": "verl_lab.verl_plugin.train_dpo",
    "ppo": "verl_lab.verl_plugin.train_ppo",
}
# Hydra's own log file repeats the run's log; it goes where all is removed at the end.
_HYDRA = ('hydra.run.dir="@scratch@/hydra"', "hydra.output_subdir=null")


@dataclass(frozen=True)
class Rendered:
    """What is launched. Tokens like ``@attempt@`` stand for folders that the supervisor fills in.

    Attributes
    ----------
    recipe
        The recipe, with the overrides of its own fields applied.
    argv
        The command that trains.
    env
        What its environment gets in addition.
    config
        verl's configuration, composed as its trainer will compose it.
    config_yaml
        The same with every reference resolved, as YAML.
    command
        ``env`` and ``argv`` as one line for a shell.
    overrides
        The Hydra overrides in ``argv`` that are verl's settings.
    total_steps
        Steps the run will take; None where only verl can tell.
    callbacks
        Dotted names of the recipe's callbacks.
    warnings
        Problems that do not refuse a launch.
    checked
        What was learnt in checking: rows, memory, settings.
    """

    recipe: Recipe
    algorithm: Algorithm
    device: ChosenDevice
    argv: tuple[str, ...]
    env: dict[str, str]
    config: DictConfig
    config_yaml: str
    command: str
    overrides: tuple[str, ...]
    total_steps: int | None
    callbacks: tuple[str, ...]
    warnings: tuple[Problem, ...]
    checked: Checked


def render(
    recipe: Recipe, overrides: Sequence[str] = (), *, device: Device = "auto", python: str = sys.executable
) -> Rendered:
    """Check a recipe with a user's overrides and turn it into what is launched.

    Parameters
    ----------
    overrides
        ``key=value`` with verl's keys, or with ``model``, ``data.train``, ``data.val``,
        ``reward.path``, ``reward.name``, ``resources.device``, ``resources.gpus``, ``checks.on_critical``;
        the last one wins.
    device
        ``auto`` takes what the recipe says and this machine has; ``cpu`` and ``gpu`` are taken as said.
    python
        The interpreter that trains.

    Raises
    ------
    InvalidConfigurationError
        With every problem that was found.
    """
    return render_checked(check(recipe, overrides, device=device), python=python)


def render_checked(checked: Checked, *, python: str = sys.executable) -> Rendered:
    """Turn what was checked into what is launched. Parameters and errors as ``render``."""
    from omegaconf import OmegaConf

    plan, config = checked.plan, checked.config
    if checked.errors or config is None:
        raise refuse(plan.recipe, checked.problems)
    settings = plan.hydra_overrides()
    trainer = plan.recipe.trainer
    argv = (*_program(python, trainer, int(config.trainer.n_gpus_per_node)), *_HYDRA, *settings)
    env = environment(trainer, plan.device, local_model=Path(str(plan.values[MODEL_KEY[trainer]])).is_dir())
    if plan.recipe.callbacks:
        env["VERL_LAB_CALLBACKS"] = ",".join(plan.recipe.callbacks)
    return Rendered(
        recipe=plan.recipe,
        algorithm=plan.recipe.algorithm,
        device=plan.device,
        argv=argv,
        env=env,
        config=config,
        config_yaml=OmegaConf.to_yaml(config, resolve=True),
        command=shlex.join(["env", *(f"{name}={value}" for name, value in env.items()), *argv]),
        overrides=settings,
        total_steps=checked.total_steps,
        callbacks=plan.recipe.callbacks,
        warnings=checked.warnings,
        checked=checked,
    )


def _program(python: str, trainer: Trainer, processes: int) -> tuple[str, ...]:
    """SFT and DPO run one process a GPU, started by torchrun; Ray starts the processes of the others."""
    module = _MODULES[trainer]
    if trainer != "ppo" and processes > 1:
        torchrun = ("-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}")
        return (python, *torchrun, "-m", module)
    return (python, "-m", module)
