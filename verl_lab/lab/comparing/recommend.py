"""What to try, from what worked: this lab's own completed runs on the like of what is to be trained."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from verl_lab import inputs
from verl_lab.domain.noise import is_noise
from verl_lab.domain.recipe import Algorithm, Recipe
from verl_lab.domain.run import RunState
from verl_lab.errors import NotFoundError, VerlLabError
from verl_lab.lab.comparing.origins import checkpoint_of, read_origins
from verl_lab.lab.comparing.sides import recipe_of
from verl_lab.lab.table import Table
from verl_lab.lab.weights import count_parameters
from verl_lab.recipes.diff import diff
from verl_lab.recipes.layers import MODEL_KEY, RESERVED
from verl_lab.recipes.overrides import flatten, parse_override
from verl_lab.recipes.plan import RECIPE_FIELDS

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from verl_lab.lab.comparing.origins import Origins
    from verl_lab.lab.lab import Lab
    from verl_lab.lab.run import Run

_SIZE_FACTOR = 2.0
# Of held-out data, best first; only values of one metric are compared with each other.
_SCORES = (
    (re.compile(r"val-core/.+/acc/mean@\d+"), 1),
    (re.compile(r"val-core/.+/reward/mean@\d+"), 1),
    (re.compile(r"val-core/.+/mean@\d+"), 1),
    (re.compile(r"val/rewards/accuracies"), 1),
    (re.compile(r"val/loss"), -1),
)
# What belongs to the machine, the length of the run or the data, rather than to what makes it train well.
_NOT_CARRIED_OVER = re.compile(
    r"trainer\.|ray_kwargs\.|data\.(train|val)_files|.*(^|\.)(path|num_workers|tensor_model_parallel_size)$"
    r"|.*(gpu_memory_utilization|_per_gpu|max_num_seqs)$|reward\.|global_profiler\."
)


@dataclass(frozen=True)
class Evidence:
    """One completed run on the like of what is to be trained.

    Attributes
    ----------
    metric, score, step
        The best held-out value, of which metric and at which step.
    parameters
        How many the model has; None where that is not known.
    """

    run: str
    name: str
    metric: str
    score: float
    step: int
    parameters: int | None = None

    def __str__(self) -> str:
        return f"{self.run} ({self.name}): {self.metric} {self.score:.4g} at step {self.step}"


@dataclass(frozen=True)
class Recommendation:
    """What to try; empty where there is no evidence, with the reason.

    Attributes
    ----------
    reason
        Why this, or why nothing.
    best
        The run that went best.
    evidence
        All that it was compared with, best first.
    recipe
        The name of that run's recipe.
    overrides
        What to change in the recipe that was asked about, as ``key=value``.
    """

    reason: str
    best: Evidence | None = None
    evidence: tuple[Evidence, ...] = ()
    recipe: str | None = None
    overrides: tuple[str, ...] = field(default=())

    def __bool__(self) -> bool:
        return self.best is not None

    def text(self) -> str:
        """Return it as text."""
        if self.best is None:
            return f"No recommendation: {self.reason}"
        changes = [f"  --set {one}" for one in self.overrides] or ["  nothing: the recipe says the same already"]
        return "\n".join([f"As in {self.best.run} ({self.best.name}): {self.reason}", "Change:", *changes])

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain values."""
        return {
            "reason": self.reason,
            "best": None if self.best is None else vars(self.best),
            "evidence": [vars(one) for one in self.evidence],
            "recipe": self.recipe,
            "overrides": list(self.overrides),
        }

    def __repr__(self) -> str:
        return "\n\n".join([self.text(), *([repr(self._table())] if len(self.evidence) > 1 else [])])

    def _repr_html_(self) -> str:
        from html import escape

        table = self._table().to_html() if len(self.evidence) > 1 else ""
        return f"<pre>{escape(self.text())}</pre>{table}"

    def _table(self) -> Table:
        rows = tuple((one.run, one.name, one.metric, f"{one.score:.4g}", str(one.step)) for one in self.evidence)
        return Table(("run", "name", "metric", "best", "at step"), rows, "")


@dataclass(frozen=True)
class _Target:
    """What is to be trained."""

    algorithm: str
    model: str | None
    parameters: int | None
    data: frozenset[str]
    settings: Mapping[str, Any] | None


@dataclass(frozen=True)
class _Past:
    """One completed run of the same algorithm."""

    run: Run
    recipe: Recipe
    settings: Mapping[str, Any]
    found: Evidence
    sense: int
    tier: int
    held_out: frozenset[str]


_TIERS = (
    "on the same data, with the same model",
    "on the same data, with a model of like size",
    "on the same data",
    "with a model of like size",
    "on any data, since neither data nor a model was given",
)


def recommend(
    lab: Lab, recipe_or_algorithm: str | Recipe, model: str | None, data: Sequence[str] | str | None
) -> Recommendation:
    """Return what worked best so far on the like of this; see ``Lab.recommend``."""
    target = _target(lab, recipe_or_algorithm, model, data)
    past, unscored, others = _past(lab, target)
    if not past:
        return Recommendation(_why_none(target, unscored, others))
    tier = min(one.tier for one in past)
    nearest = [one for one in past if one.tier == tier]
    group = _largest_group(nearest)
    group.sort(key=lambda one: (-one.sense * one.found.score, one.found.run))
    best = group[0]
    return Recommendation(
        reason=_reason(target, group, tier, others=len(nearest) - len(group)),
        best=best.found,
        evidence=tuple(one.found for one in group),
        recipe=best.recipe.name,
        overrides=tuple(_changes(target, best)),
    )


def _target(
    lab: Lab, recipe_or_algorithm: str | Recipe, model: str | None, data: Sequence[str] | str | None
) -> _Target:
    recipe, algorithm = None, str(recipe_or_algorithm)
    names = lab.recipes.names()
    if isinstance(recipe_or_algorithm, Recipe):
        recipe = recipe_or_algorithm
    elif algorithm in names:
        recipe = lab.recipes.get(algorithm)
    elif algorithm not in get_args(Algorithm):
        raise NotFoundError.of("recipe or algorithm", algorithm, [*names, *get_args(Algorithm)])
    wanted = model or (recipe.model if recipe else None)
    files = data if data is not None else recipe.data.train if recipe else None
    listed = [files] if isinstance(files, str) else list(files or ())
    return _Target(
        algorithm=recipe.algorithm if recipe else algorithm,
        model=wanted,
        parameters=count_parameters(lab.host, wanted),
        data=frozenset(name for one in listed for name in (_identity(lab, one), _real(one))),
        settings=dict(flatten(recipe.parameters)) if recipe else None,
    )


def _past(lab: Lab, target: _Target) -> tuple[list[_Past], int, int]:
    """Return the runs that say something, how many said nothing of held-out data, and how many were on unlike ones."""
    found: list[_Past] = []
    unscored = others = 0
    for run in lab.runs():
        row = run.row
        if row.kind != "run" or row.algorithm != target.algorithm:
            continue
        try:
            if run.state is not RunState.COMPLETED:
                continue
            origins = read_origins(run.launcher.read_record(run.folder))
            recipe, overrides = recipe_of(run)
            tier = _tier(lab, target, origins)
            score = _score(run)
        except (VerlLabError, TypeError, AttributeError):  # a run that cannot be read is no evidence
            continue
        if score is None:
            unscored += 1
        elif tier is None:
            others += 1
        else:
            metric, sense, value, step = score
            evidence = Evidence(run.id, row.name, metric, value, step, origins.parameters)
            held_out = frozenset(_key(one.hash, one.paths) for one in origins.datasets if one.role == "val")
            found.append(_Past(run, recipe, _settings(recipe, overrides), evidence, sense, tier, held_out))
    return found, unscored, others


def _tier(lab: Lab, target: _Target, origins: Origins) -> int | None:
    """Return how near a run is to what is to be trained, 0 the nearest; None where it says nothing about it."""
    sources = [one for one in origins.datasets if one.role == "train"]
    theirs = {_key(one.hash, one.paths) for one in sources} | {_real(path) for one in sources for path in one.paths}
    same_data = bool(target.data & theirs)
    same_model = target.model is not None and _model_of(target.model) == _model_of(origins.model)
    size = origins.parameters or count_parameters(lab.host, origins.model)
    like = same_model or _is_like(target.parameters, size)
    if same_data:
        return 0 if same_model else 1 if like else 2
    if like:  # the data is new, or nothing is known of it: then the model alone says something
        return 3
    return 4 if not target.data and target.model is None else None


def _is_like(one: int | None, other: int | None) -> bool:
    return bool(one and other) and max(one or 0, other or 0) <= _SIZE_FACTOR * min(one or 0, other or 0)


def _largest_group(past: Sequence[_Past]) -> list[_Past]:
    """Return the most runs whose scores can be compared: one metric, on the same held-out data."""
    groups: dict[tuple[str, frozenset[str]], list[_Past]] = {}
    for one in past:
        groups.setdefault((one.found.metric, one.held_out), []).append(one)
    return max(groups.values(), key=lambda group: (len(group), max(one.found.run for one in group)))


def _score(run: Run) -> tuple[str, int, float, int] | None:
    names = run.metric_names()
    for pattern, sense in _SCORES:
        matching = [name for name in names if pattern.fullmatch(name)]
        if matching:
            steps, values = run.metrics(matching[0])
            finite = np.isfinite(values)
            if finite.any():
                at = int(np.argmax(np.where(finite, sense * values, -np.inf)))
                return matching[0], sense, float(values[at]), int(steps[at])
    return None


def _settings(recipe: Recipe, overrides: Sequence[str]) -> dict[str, Any]:
    found = dict(flatten(recipe.parameters))
    for text in overrides:
        item = parse_override(text)
        if item.key not in RECIPE_FIELDS:
            found |= dict(flatten({item.key: item.value}))
    return found


def _changes(target: _Target, best: _Past) -> list[str]:
    """Return what makes the target's settings those of the best run, as far as they carry over."""
    before = target.settings or dict[str, Any]()
    carried = {key: value for key, value in best.settings.items() if _carries_over(key, best.recipe)}
    return diff({key: value for key, value in before.items() if key in carried}, carried).as_overrides()


def _carries_over(key: str, recipe: Recipe) -> bool:
    belongs = _NOT_CARRIED_OVER.fullmatch(key) or _NOT_CARRIED_OVER.match(key)
    return not (belongs or is_noise(key) or key in RESERVED or key == MODEL_KEY[recipe.trainer])


def _reason(target: _Target, group: Sequence[_Past], tier: int, *, others: int) -> str:
    best, rest = group[0].found, group[1:]
    reached = f"{best.metric} reached {best.score:.4g} at step {best.step}"
    on = _TIERS[tier]
    beside = f" {others} more were scored on other held-out data, or by another metric." if others else ""
    if not rest:
        only = "a" if others else "the only"
        return f"{only} completed {target.algorithm} run {on}: {reached}. One run is little evidence.{beside}"
    scores = [one.found.score for one in rest]
    span = f"{min(scores):.4g}" if min(scores) == max(scores) else f"{min(scores):.4g} to {max(scores):.4g}"
    return f"the best of {len(group)} completed {target.algorithm} runs {on}: {reached}, the others {span}.{beside}"


def _why_none(target: _Target, unscored: int, others: int) -> str:
    if not unscored and not others:
        return f"no {target.algorithm} run has completed here yet."
    said: list[str] = []
    if others:
        runs = "run is" if others == 1 else "runs are"
        said.append(f"{others} completed {target.algorithm} {runs} on other data and with a model of another size")
    if unscored:
        runs = "run was" if unscored == 1 else "runs were"
        said.append(f"{unscored} completed {runs} never scored on held-out data (set trainer.test_freq)")
    return "; ".join(said) + "."


def _identity(lab: Lab, data: str) -> str:
    """Return what tells training data from others: the hash of its content where that is known, else its path."""
    with suppress(VerlLabError):
        is_path = "/" in data or Path(data).exists()
        return (lab.datasets.at(data) if is_path else lab.datasets.get(data)).hash
    return _real(data)


def _key(hashed: str | None, paths: Sequence[str]) -> str:
    return hashed or (_real(paths[0]) if paths else "")


def _real(path: str) -> str:
    return str(inputs.path_here("path", path).resolve()) if inputs.is_path_here(path) else path


def _model_of(model: str | None) -> str | None:
    """Return what tells a model from others; the checkpoints of one run count as one."""
    if model is None:
        return None
    found = checkpoint_of(model)
    return found[1] if found else _real(model)
