"""What can be compared: a run, a recipe or a configuration file, as one flat mapping."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast

from verl_lab import inputs
from verl_lab.domain.dataset import DatasetVersion
from verl_lab.domain.recipe import Recipe
from verl_lab.errors import FormatError, InvalidInputError, NotFoundError
from verl_lab.lab.comparing.origins import HASH_SHOWN, read_origins
from verl_lab.lab.run import Run
from verl_lab.recipes.diff import flat
from verl_lab.recipes.layers import REWARD_KEY
from verl_lab.recipes.overrides import flatten, parse_override
from verl_lab.recipes.plan import RECIPE_FIELDS
from verl_lab.recipes.render import render
from verl_lab.recipes.source import parse_mapping, read_mapping

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

    from verl_lab.domain.recipe import Trainer
    from verl_lab.lab.lab import Lab

    Thing = Run | Recipe | DatasetVersion | str | os.PathLike[str]
    Found = Run | Recipe | DatasetVersion | Path

View = Literal["recipe", "configuration", "dataset"]

_CONFIGURATIONS = (".yaml", ".yml", ".json")
_ROWS = (".jsonl", ".parquet", ".csv", ".arrow")
_LARGEST_JSON_BYTES = 4 << 20


@dataclass(frozen=True)
class Side:
    """One of the things that are compared.

    Attributes
    ----------
    label
        What it is, for a person.
    values
        Its settings, flat.
    given
        The keys that it sets itself; None where that is not known.
    verl
        The version of verl whose defaults the rest has; None where that is not known.
    trainer
        Whose configuration it is; None where that is not known.
    contents
        What lies at the paths that some keys name, as a hash.
    """

    label: str
    values: Mapping[str, Any]
    given: frozenset[str] | None = None
    verl: str | None = None
    trainer: Trainer | None = None
    contents: Mapping[str, str] = field(default_factory=dict[str, str])


def find(lab: Lab, thing: Thing) -> Found:
    """Return what a word, a path or an object stands for.

    A path is a path; then the id of a run, or its beginning, is a run; a recipe's name is a recipe; a run's name is
    the newest run of that name. ``run:NAME``, ``recipe:NAME`` and ``dataset:NAME`` say which is meant.

    Raises
    ------
    NotFoundError
        It is none of these; the nearest are named.
    """
    if isinstance(thing, (Run, Recipe, DatasetVersion)):
        return thing
    text = str(thing)
    kind, _, name = text.partition(":")
    if name and kind in ("run", "recipe", "dataset"):
        return _of_kind(lab, kind, name)
    path = inputs.path_here("run or recipe", text)
    if not isinstance(thing, str) or "/" in text or (path.suffix in _CONFIGURATIONS and path.exists()):
        return _of_path(lab, path)
    runs, recipes = lab.store.runs.ids(), lab.recipes.names()
    if text in recipes and not any(one.startswith(text) for one in runs):
        return lab.recipes.get(text)
    try:
        return lab.run(text)
    except NotFoundError:
        known = [*recipes, *runs, *(run.name for run in lab.runs())]
        raise NotFoundError.of("run or recipe", text, known, "A file is given by its path, with a '/' in it.") from None


def _of_kind(lab: Lab, kind: str, name: str) -> Found:
    if kind == "run":
        return lab.run(name)
    if kind == "recipe":
        return lab.recipes.get(name)
    return lab.datasets.at(name) if "/" in name else lab.datasets.get(name)


def sides(lab: Lab, things: list[Thing]) -> tuple[list[Side], View]:
    """Return things as they can be compared, and as what.

    Runs and files are compared as configurations; where all else are recipes, a run counts as the recipe it
    was launched with. A data set is compared with data sets.

    Raises
    ------
    NotFoundError
        One of them does not exist.
    InvalidInputError
        One of them has no configuration.
    """
    found = [find(lab, thing) for thing in things]
    data = [one for one in found if isinstance(one, DatasetVersion)]
    if data and len(data) < len(found):
        raise InvalidInputError("A data set can only be compared with a data set.", "Give two of them.")
    if data:
        return [_dataset_side(one) for one in data], "dataset"
    found = [one for one in found if not isinstance(one, DatasetVersion)]
    as_recipes = any(isinstance(one, Recipe) for one in found) and not any(isinstance(one, Path) for one in found)
    if as_recipes:
        return [_recipe_side(one) for one in found if not isinstance(one, Path)], "recipe"
    return [_configuration_side(one) for one in found], "configuration"


def recipe_of(run: Run) -> tuple[Recipe, list[str]]:
    """Return the recipe that a run was launched with, and its overrides.

    Raises
    ------
    InvalidInputError
        The run is none of ours, or its recipe cannot be read any more.
    """
    if run.is_attached:
        raise InvalidInputError(f"{run.id} is a log that something else writes.", "It has no recipe.")
    record = run.launcher.read_record(run.folder)
    raw: dict[str, Any] = record.get("recipe") or {}
    try:
        recipe = Recipe.model_validate(_with_address(run, raw))
    except ValueError as error:
        raise InvalidInputError(
            f"run: the recipe of {run.id} cannot be read by this version of verl-lab.", str(error)[:300]
        ) from error
    return recipe, [str(one) for one in record.get("overrides") or ()]


def _with_address(run: Run, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Put back the address of a webhook, which the launch record does not show."""
    alerts: Mapping[str, Any] = raw.get("alerts") or {}
    if not alerts.get("webhook"):
        return dict(raw)
    path = str(run.layout.checks)
    kept: dict[str, Any] = json.loads(run.host.read(path)) if run.host.stat(path) else {}
    return {**raw, "alerts": {**alerts, "webhook": (kept.get("alerts") or {}).get("webhook")}}


def _of_path(lab: Lab, path: Path) -> Found:
    if not path.exists():
        raise NotFoundError(f"There is nothing at {path}.", "Give a run, a recipe, or a YAML or JSON file.")
    folder = path if path.is_dir() else path.parent
    if (folder / "run.json").exists() and path in (folder, folder / "config.yaml"):
        return lab.attach(folder)
    if path.is_dir() or path.suffix in _ROWS:
        return lab.datasets.at(path)
    if path.suffix in (".yaml", ".yml"):
        raw = read_mapping(path)
        is_recipe = raw.keys() <= Recipe.model_fields.keys() and ("extends" in raw or "algorithm" in raw)
        if is_recipe and not isinstance(raw.get("algorithm"), dict):
            return lab.recipes.load_file(path)
    return path


def _recipe_side(one: Run | Recipe) -> Side:
    recipe, overrides = recipe_of(one) if isinstance(one, Run) else (one, [])
    raw = recipe.model_dump(mode="json", exclude={"parameters"}, exclude_none=True)
    values = {key: value for key, value in flat(raw).items() if value != {}} | dict(flatten(recipe.parameters))
    for text in overrides:
        item = parse_override(text)
        if item.key not in RECIPE_FIELDS:  # those were applied to the recipe before it was recorded
            values |= dict(flatten({item.key: item.value}))
    label = f"run {one.id} ({one.name})" if isinstance(one, Run) else f"recipe {recipe.name} (version {recipe.version})"
    return Side(label, values, trainer=recipe.trainer)


def _dataset_side(one: DatasetVersion) -> Side:
    values: dict[str, Any] = {"rows": one.rows, "size_bytes": one.size}
    values |= {f"columns.{name}": kind for name, kind in one.schema.items()}
    values |= {f"rows_in.{split}": rows for split, rows in one.splits.items() if split}
    values |= {f"files.{file.path}": file.hash[:HASH_SHOWN] for file in one.files} if len(one.files) > 1 else {}
    return Side(f"data set {one.name} ({one.hash[:HASH_SHOWN]})", values)


def _configuration_side(one: Run | Recipe | Path) -> Side:
    if isinstance(one, Path):
        return Side(str(one), flat(_read(one)))
    if isinstance(one, Recipe):
        rendered = render(one)
        values = flat(parse_mapping(rendered.config_yaml, one.name))
        given = frozenset(_key_of(text) for text in rendered.overrides)
        return Side(f"recipe {one.name} (version {one.version})", values, given, trainer=one.trainer)
    if one.is_attached:
        raise InvalidInputError(
            f"{one.id} is a log that something else writes.", "Its configuration is not known; give its file instead."
        )
    record = one.launcher.read_record(one.folder)
    launch: Mapping[str, Any] = record.get("launch") or {}
    versions: Mapping[str, Any] = record.get("versions") or {}
    given = frozenset(_key_of(text) for text in launch.get("argv") or () if "=" in text)
    return Side(
        f"run {one.id} ({one.name})",
        flat(parse_mapping(one.host.read(str(one.layout.config)).decode(), str(one.layout.config))),
        given,
        versions.get("verl"),
        recipe_of(one)[0].trainer,
        _contents(record),
    )


def _contents(record: Mapping[str, Any]) -> dict[str, str]:
    """Return the hashes of what a run read, by verl's key of its path."""
    origins = read_origins(record)
    hashes: dict[str, list[str | None]] = {}
    for source in origins.datasets:
        hashes.setdefault(f"data.{source.role}_files", []).append(source.hash)
    found = {key: " ".join(one or "" for one in some) for key, some in hashes.items() if all(some)}
    return found | ({f"{REWARD_KEY}.path": origins.reward_hash} if origins.reward_hash else {})


def _read(path: Path) -> dict[str, Any]:
    if path.suffix != ".json":
        return read_mapping(path)
    content = path.read_bytes()
    if len(content) > _LARGEST_JSON_BYTES:
        raise FormatError(f"{path}: a configuration is at most {_LARGEST_JSON_BYTES >> 20} MiB.")
    try:
        found: object = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise FormatError(f"{path}: is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FormatError(f"{path}: expected an object of names and values.")
    return cast("dict[str, Any]", found)


def _key_of(override: str) -> str:
    return override.partition("=")[0].lstrip("+~")
