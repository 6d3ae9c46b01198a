"""A recipe and a user's overrides brought together, before verl's configuration is composed."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from pydantic import ValidationError

from verl_lab.domain.recipe import Device, Problem, Recipe
from verl_lab.errors import InvalidInputError
from verl_lab.recipes.device import ChosenDevice, choose, has_gpu
from verl_lab.recipes.layers import MODEL_KEY, RESERVED, REWARD_KEY, TRAIN_KEY, VAL_KEY, base_settings
from verl_lab.recipes.overrides import Assignment, flatten, literal, parse_override, why_unsafe
from verl_lab.recipes.paths import locate, locate_model
from verl_lab.recipes.schema import Schema, schema_of

if TYPE_CHECKING:
    from collections.abc import Sequence

RECIPE_FIELDS = (
    "model",
    "data.train",
    "data.val",
    "data.snapshot",
    "reward.path",
    "reward.name",
    "resources.device",
    "resources.gpus",
    "checks.on_critical",
)
"""Fields of a recipe that an override may set beside verl's own keys."""

_EXPECTED = {"str": "text", "bool": "true or false", "int": "a whole number", "float": "a number", "null": "null"}


@dataclass(frozen=True)
class Plan:
    """What is to be trained, and what was wrong with how it was asked for.

    Attributes
    ----------
    recipe
        The recipe with the overrides of its own fields applied.
    values
        Every setting that differs from verl's defaults; what had a problem was not taken over.
    problems
        Unknown keys, wrong types and values that are not accepted.
    """

    recipe: Recipe
    device: ChosenDevice
    schema: Schema
    values: dict[str, Any]
    problems: list[Problem]

    def hydra_overrides(self) -> tuple[str, ...]:
        """Return the settings as Hydra reads them; a key that verl's files do not have gets a ``+``."""
        return tuple(f"{self._sign(key)}{key}={literal(value)}" for key, value in self.values.items())

    def _sign(self, key: str) -> str:
        known = self.schema.keys.get(key)
        if known is not None and known.is_own:
            return "++"  # whether the trainer's own files have it or not
        return "+" if known is None or known.declared_only else ""


def make_plan(recipe: Recipe, overrides: Sequence[str], device: Device) -> Plan:
    """Lay the user's overrides over the recipe, and check every key and type."""
    problems: list[Problem] = []
    assignments = _parse(overrides, problems)
    changed = _with_fields(recipe, [item for item in assignments if item.key in RECIPE_FIELDS], problems)
    chosen = _device(changed, device, problems)
    schema = schema_of(changed.trainer)
    values = {key.name: key.default for key in schema.keys.values() if key.is_own} | base_settings(changed, chosen)
    for key, value in flatten(changed.parameters):
        _set(values, Assignment(key, value, str(value)), schema, problems)
    for item in assignments:
        if item.key not in RECIPE_FIELDS:
            for key, value in _leaves(item, problems):
                _set(values, Assignment(key, value, item.text), schema, problems)
    _locate(values, changed)
    # Fields of the recipe are no parameters, so they come past the check above.
    fields = (MODEL_KEY[changed.trainer], TRAIN_KEY, VAL_KEY, f"{REWARD_KEY}.path", f"{REWARD_KEY}.name")
    problems += [Problem(key, values.pop(key), why) for key in fields if (why := why_unsafe(values.get(key)))]
    return Plan(changed, chosen, schema, values, problems)


def _parse(overrides: Sequence[str], problems: list[Problem]) -> list[Assignment]:
    found: list[Assignment] = []
    for text in overrides:
        try:
            found.append(parse_override(text))
        except InvalidInputError as error:
            problems.append(Problem(text.partition("=")[0].strip() or text, text, error.message, error.hint))
    return found


def _with_fields(recipe: Recipe, assignments: Sequence[Assignment], problems: list[Problem]) -> Recipe:
    raw = recipe.model_dump()
    for item in assignments:
        part, _, field = item.key.partition(".")
        named_by_number = item.key.endswith(("model", "path", "name")) and _is_number(item.value)
        value = item.text if named_by_number else item.value
        if field:
            raw[part] = (raw[part] or {}) | {field: value}
        else:
            raw[part] = value
    try:
        return Recipe.model_validate(raw)
    except ValidationError as error:
        problems += [
            Problem(".".join(str(part) for part in issue["loc"]), issue["input"], issue["msg"] + ".")
            for issue in error.errors()
        ]
        return recipe


def _device(recipe: Recipe, device: Device, problems: list[Problem]) -> ChosenDevice:
    wanted = recipe.resources.device if device == "auto" else device
    if device == "auto" and wanted == "gpu" and not has_gpu():
        problems.append(
            Problem(
                "resources.device",
                "gpu",
                "the recipe asks for an NVIDIA GPU, and there is none here.",
                "Take a recipe for CPU, or set resources.device=cpu.",
            )
        )
    return choose(wanted)


def _leaves(item: Assignment, problems: list[Problem]) -> list[tuple[str, Any]]:
    if not isinstance(item.value, dict) or not item.value:
        return [(item.key, item.value)]
    try:
        return list(flatten({item.key: cast("dict[str, Any]", item.value)}))
    except InvalidInputError as error:
        problems.append(Problem(item.key, item.value, error.message, error.hint))
        return []


def _set(values: dict[str, Any], item: Assignment, schema: Schema, problems: list[Problem]) -> None:
    """Take one setting over, or note why not."""
    if item.value == {}:
        return
    fitted = _fitted(item, schema)
    problem = _problem(item.key, fitted, schema)
    if problem is None:
        values[item.key] = fitted
    else:
        problems.append(problem)


def _fitted(item: Assignment, schema: Schema) -> Any:
    """Take a number for text where verl wants text: ``experiment_name=7`` means the name 7."""
    key = schema.keys.get(item.key)
    if key is not None and _is_number(item.value) and not key.takes(item.value) and key.takes(item.text):
        return item.text
    return item.value


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _problem(name: str, value: object, schema: Schema) -> Problem | None:  # noqa: PLR0911  one return a mistake
    if name in RESERVED:
        return Problem(name, value, "is set by verl-lab.", RESERVED[name])
    if why := why_unsafe(value):
        return Problem(name, value, why)
    key = schema.keys.get(name)
    if key is not None:
        if key.takes(value):
            return None
        expected = " or ".join(_EXPECTED.get(kind, f"a {kind}") for kind in sorted(key.kinds or ()))
        return Problem(name, value, f"{value!r} will not do; expected {expected}.", f"The default is {key.default!r}.")
    if name in schema.groups:
        inside = ", ".join(schema.complete(f"{name}.")[:3])
        return Problem(name, value, "is a group of settings, not one setting.", f"In it: {inside} …")
    if schema.is_open(name):
        return None
    near = schema.nearest(name)
    return Problem(name, value, "verl has no such setting.", f"The nearest: {', '.join(near)}." if near else None)


def _locate(values: dict[str, Any], recipe: Recipe) -> None:
    """Make paths absolute: training does not run in the folder the user stands in."""
    here = Path.cwd()
    model = MODEL_KEY[recipe.trainer]
    if model in values:
        values[model] = locate_model(values[model], here)
    for key in (TRAIN_KEY, VAL_KEY, f"{REWARD_KEY}.path"):
        if key in values:
            values[key] = locate(values[key], here)
