"""New runs from old ones: with changes, from one of its checkpoints, or as many as a matrix of settings has."""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from verl_lab.domain.host import LOCAL
from verl_lab.domain.wire import RunLayout
from verl_lab.errors import InvalidInputError, LaunchError, NotFoundError
from verl_lab.lab.comparing.origins import Parent
from verl_lab.lab.comparing.sides import recipe_of
from verl_lab.recipes.overrides import check_key, literal

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.domain.recipe import Recipe
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.launching.planned import PlannedRun
    from verl_lab.lab.run import Run
    from verl_lab.recipes.render import Rendered
    from verl_lab.transport.base import Host

_STEP = "global_step_"
_NEWEST = "latest_checkpointed_iteration.txt"  # verl's note of where to go on (verl/utils/checkpoint)
_SHARD = re.compile(r"model_world_size_(\d+)_rank_(\d+)\.pt")
_RUNS_MOST = 100
_COPY_PATIENCE_S = 3600.0


@dataclass(frozen=True)
class Beginning:
    """Where a new run begins.

    Attributes
    ----------
    recipe, overrides
        What to train; the overrides of the parent come before the new ones.
    parents
        The run it comes from, if any.
    checkpoint
        The folder of the checkpoint that it goes on from; None to begin anew.
    step
        The step of that checkpoint.
    host
        The machine it lies on.
    """

    recipe: Recipe
    overrides: tuple[str, ...]
    parents: tuple[Parent, ...] = ()
    checkpoint: str | None = None
    step: int = 0
    host: str = LOCAL

    def check(self, rendered: Rendered, host: Host) -> None:
        """Refuse a configuration that cannot go on from the checkpoint.

        Raises
        ------
        InvalidInputError
            Its last step is reached, it is for another number of processes, or it does not resume.
        """
        if self.checkpoint is None:
            return
        trainer = rendered.config.trainer
        total, processes = rendered.total_steps, int(trainer.n_gpus_per_node) * int(trainer.nnodes)
        if total is not None and total <= self.step:
            raise InvalidInputError(
                f"from_step: {self.step} is not before the last step, {total}.",
                "Set trainer.total_training_steps higher, or take an earlier step.",
            )
        if trainer.resume_mode != "auto":
            raise InvalidInputError(
                f"trainer.resume_mode: {trainer.resume_mode} does not go on from a checkpoint.", "Leave it at auto."
            )
        folder = _weights(host, self.checkpoint)
        saved = 0 if folder is None else _processes(host, folder)
        if saved != processes:
            raise InvalidInputError(
                f"from_step: {self.step} was saved by {saved} processes, and this run has {processes}.",
                "Train on as many GPUs, or begin from its weights: model=run.model_path().",
            )

    def lay_down(self, host: Host, folder: str) -> None:
        """Put the checkpoint into the new run's folder, where verl finds it, at launch and at every resume.

        Its files are linked, not copied, where the file system can: neither run writes to a checkpoint again that
        it has gone beyond, and removing one leaves the other's.

        Raises
        ------
        LaunchError
            It could not be copied.
        """
        if self.checkpoint is None:
            return
        layout = RunLayout(PurePosixPath(folder))
        target = layout.checkpoints / PurePosixPath(self.checkpoint).name
        host.make_folder(str(layout.checkpoints))
        for how in ("-rl", "-r"):
            done = host.run(["cp", how, "--", self.checkpoint, str(target)], timeout_s=_COPY_PATIENCE_S)
            if not done.exit_code:
                break
            host.run(["rm", "-rf", "--", str(target)], timeout_s=_COPY_PATIENCE_S)
        else:
            said = done.stderr.decode(errors="replace").strip()
            raise LaunchError(f"The checkpoint {self.checkpoint} could not be copied: {said[-300:]}.")
        host.write_atomic(str(layout.checkpoints / _NEWEST), str(self.step).encode())


def begin(
    lab: Lab,
    recipe: str | Recipe | None,
    overrides: Sequence[str],
    parent: Run | str | None,
    from_step: int | None,
) -> Beginning:
    """Say where a new run begins: from a recipe, from another run's, or in the midst of that run.

    Raises
    ------
    NotFoundError
        There is no such recipe, run or checkpoint; the steps that there are are named.
    InvalidInputError
        Neither recipe nor parent is given, or a step without a parent.
    """
    if parent is None:
        if from_step is not None:
            raise InvalidInputError(
                "from_step: needs the run whose checkpoint it is.", "Give parent=RUN, or --from RUN."
            )
        if recipe is None:
            raise InvalidInputError("recipe: is missing.", "Give a recipe, or a run to start from: parent=RUN.")
        return Beginning(lab.recipes.get(recipe) if isinstance(recipe, str) else recipe, tuple(overrides))
    run = lab.run(parent) if isinstance(parent, str) else parent
    before: list[str] = []
    if recipe is None:
        chosen, before = recipe_of(run)
    else:
        chosen = lab.recipes.get(recipe) if isinstance(recipe, str) else recipe
    checkpoint = None if from_step is None else _checkpoint(run.host, run, from_step)
    how = "again" if from_step is None else "fork"
    parents = (Parent(run.id, from_step, how),)
    return Beginning(chosen, (*before, *overrides), parents, checkpoint, from_step or 0, run.host_name)


def steps_of(host: Host, run: Run) -> list[int]:
    """Return the steps of a run's checkpoints that training can go on from, in order.

    verl removes the weights of older checkpoints and leaves their folders. What is newer than the one that it
    noted last is not complete.
    """
    root = run.layout.checkpoints
    note = str(root / _NEWEST)
    if host.stat(note) is None:
        return []
    noted = host.read(note).decode(errors="replace").strip()
    names = [name.removeprefix(_STEP) for name in host.list_folder(str(root)) if name.startswith(_STEP)]
    steps = sorted(int(name) for name in names if name.isdecimal())
    newest = int(noted) if noted.isdecimal() else 0
    return [step for step in steps if step <= newest and _weights(host, str(root / f"{_STEP}{step}")) is not None]


def matrix(
    lab: Lab,
    recipe: str | Recipe,
    values: Mapping[str, Sequence[Any]],
    overrides: Sequence[str] = (),
    name: str | None = None,
    host: str = LOCAL,
) -> list[PlannedRun]:
    """Plan a run for each combination of some settings' values; see ``Lab.matrix``."""
    from verl_lab.lab.launching.planned import PlannedRun

    for key, some in values.items():
        check_key(key)
        if not some or isinstance(some, str):
            raise InvalidInputError(f"{key}: {some!r} is no list of values.", f"Give one like {key}=1,2.")
    count = 1
    for some in values.values():
        count *= len(some)
    if not values or count > _RUNS_MOST:
        raise InvalidInputError(f"matrix: stands for {count if values else 0} runs.", f"Give 1 to {_RUNS_MOST}.")
    planned: list[PlannedRun] = []
    for chosen in itertools.product(*values.values()):
        settings = {key: literal(value) for key, value in zip(values, chosen, strict=True)}
        base = name or (recipe if isinstance(recipe, str) else recipe.name)
        words = [f"{key.rpartition('.')[2]}={text}" for key, text in settings.items()]
        every = [*overrides, *(f"{key}={text}" for key, text in settings.items())]
        one = lab.train(recipe, every, name=",".join([base, *words]), host=host, dry_run=True)
        assert isinstance(one, PlannedRun)  # noqa: S101  what a dry run gives
        planned.append(one)
    return planned


def _checkpoint(host: Host, run: Run, step: int) -> str:
    if run.is_attached:
        raise InvalidInputError(f"{run.id} is a log that something else writes.", "It has no checkpoints.")
    have = steps_of(host, run)
    if step not in have:
        known = ", ".join(map(str, have))
        hint = f"It can go on from step {known}." if have else "It has none: set trainer.save_freq."
        raise NotFoundError(f"{run.id} has no checkpoint of step {step} to go on from.", hint)
    return str(run.layout.checkpoints / f"{_STEP}{step}")


def _weights(host: Host, checkpoint: str) -> str | None:
    """Return the folder in a checkpoint that holds the model's parts, if all of them are there."""
    for folder in (checkpoint, f"{checkpoint}/actor"):
        if _processes(host, folder):
            return folder
    return None


def _processes(host: Host, folder: str) -> int:
    """Return how many processes saved the model in a folder; 0 where a part is missing."""
    parts = [found for name in host.list_folder(folder) if (found := _SHARD.fullmatch(name))]
    sizes = {int(part[1]) for part in parts}
    ranks = {int(part[2]) for part in parts}
    size = max(sizes, default=0)
    return size if len(sizes) == 1 and ranks == set(range(size)) else 0
