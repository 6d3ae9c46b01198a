"""A recipe as its fields, one path each: what two of them differ in, and what a file has to say itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Recipe
from verl_lab.errors import InvalidInputError
from verl_lab.recipes.catalog import MERGED_LEVELS, absolute, lay_over
from verl_lab.recipes.edit import drop, put, write
from verl_lab.recipes.overrides import flatten

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from verl_lab.recipes.catalog import Catalog

Fields = dict[tuple[str, ...], Any]
"""By path: ``("data", "train")``, ``("parameters", "trainer.total_epochs")``, ``("notes",)``."""

_ABSENT = object()


def fields_of(recipe: Recipe) -> Fields:
    """Return all fields of a recipe but its name, those with their default value included."""
    return _fields(_plain(recipe))


def as_text(recipe: Recipe) -> str:
    """Return a recipe as YAML that needs no other: what it extends is part of it. Equal ones give equal text."""
    usual = _usual()
    said = {
        path: value for path, value in sorted(fields_of(recipe).items()) if not _same(value, usual.get(path, _ABSENT))
    }
    said.pop(("extends",), None)
    order = list(Recipe.model_fields)
    return write(dict(sorted(said.items(), key=lambda item: order.index(item[0][0]))))


def as_written(recipe: Recipe, text: str, file: Path, catalog: Catalog) -> str:
    """Return ``text`` changed, and as little as possible, so that ``file`` holds ``recipe``.

    Parameters
    ----------
    text
        What the file holds now, or another recipe's text to begin with; empty to write it anew.

    Raises
    ------
    InvalidInputError
        The recipe leaves out what it inherits from the one that it extends, or holds what no recipe can.
    """
    wanted = _fields(absolute(_plain(recipe), Path.cwd()))
    base = _fields(lay_over(_plain_defaults(), catalog.inherited(recipe.extends, file) | {"extends": None}))
    own = _fields(catalog.own(text, file)) if text.strip() else {}
    new = {
        path: value
        for path, value in wanted.items()
        if not _same(value, own[path] if path in own else base.get(path, _ABSENT))
    }
    if own.get(("name",), recipe.name) != recipe.name:
        new["name",] = recipe.name
    changed = text
    if own:
        for path in sorted(own.keys() - wanted.keys() - {("name",)}):
            changed = drop(changed, _names(path))
        for path, value in new.items():
            changed = put(changed, _names(path), value)
    else:
        order = list(Recipe.model_fields)
        changed = text + write(dict(sorted(new.items(), key=lambda item: order.index(item[0][0]))))
    _verify(catalog.load_text(changed, file), wanted, file)
    return changed


def changes(old: Recipe, new: Recipe) -> list[str]:
    """Say what differs between two recipes, one line a field: ``+`` added, ``-`` removed, ``~`` changed."""
    before, after = fields_of(old), fields_of(new)
    return list(_differences(before, after))


def _differences(before: Fields, after: Fields) -> Iterator[str]:
    for path in sorted(before.keys() | after.keys()):
        name = ".".join(path[1:] if path[0] == "parameters" and len(path) > 1 else path)
        # The address of a webhook may hold a token.
        secret = path == ("alerts", "webhook")
        old, new = (fields.get(path, _ABSENT) for fields in (before, after))
        if _same(old, new):
            continue
        if old is _ABSENT:
            yield f"+ {name}: {new!r}"
        elif new is _ABSENT:
            yield f"- {name}: {old!r}"
        else:
            yield f"~ {name}" if secret else f"~ {name}: {old!r} → {new!r}"


def _verify(found: Recipe, wanted: Fields, file: Path) -> None:
    got = fields_of(found)
    kept = sorted(".".join(path) for path in got.keys() - wanted.keys())
    if kept:
        raise InvalidInputError(
            f"{', '.join(kept[:5])}: is part of {found.extends!r}, which {found.name!r} extends; that stays.",
            "Give it another value, or set extends to None: the recipe then holds everything itself.",
        )
    other = sorted(".".join(path) for path in wanted if path not in got or not _same(got[path], wanted[path]))
    if other:
        raise InvalidInputError(
            f"{file}: the way it is written does not allow to change {', '.join(other[:5])}.",
            "Change the file by hand, or save its text with %%verl_recipe.",
        )


def _same(one: object, other: object) -> bool:
    if isinstance(one, list) and isinstance(other, list):
        mine, others = cast("list[object]", one), cast("list[object]", other)
        return len(mine) == len(others) and all(map(_same, mine, others))
    if isinstance(one, float) and isinstance(other, float) and math.isnan(one):
        return math.isnan(other)
    return one == other and isinstance(one, bool) == isinstance(other, bool)  # True == 1


def _names(path: tuple[str, ...]) -> tuple[str, ...]:
    return (path[0], *path[1].split(".")) if path[0] == "parameters" and len(path) > 1 else path


def _fields(mapping: Mapping[str, Any]) -> Fields:
    found: Fields = {}
    for name, value in mapping.items():
        found.update(_below((name,), value, MERGED_LEVELS.get(name, 0)))
    return found


def _below(path: tuple[str, ...], value: object, levels: int) -> Iterator[tuple[tuple[str, ...], Any]]:
    if levels and isinstance(value, dict):
        for name, inner in cast("dict[str, object]", value).items():
            yield from _below((*path, name), inner, levels - 1)
    else:
        yield path, value


def _plain(recipe: Recipe) -> dict[str, Any]:
    """Return a recipe as its YAML would hold it, without its name."""
    found = recipe.model_dump(exclude={"name", "expected", "alerts"})
    webhook = recipe.alerts.webhook
    return found | {
        "callbacks": list(recipe.callbacks),
        "parameters": {name: _listed(value) for name, value in flatten(recipe.parameters)},
        "alerts": {
            "command": list(recipe.alerts.command),
            "webhook": None if webhook is None else webhook.get_secret_value(),
        },
        "expected": {name: one.model_dump(exclude_none=True) for name, one in recipe.expected.items()},
    }


def _listed(value: object) -> Any:
    """YAML knows one kind of list."""
    if isinstance(value, (list, tuple)):
        return [_listed(item) for item in cast("list[object]", value)]
    if isinstance(value, dict):
        return {name: _listed(item) for name, item in cast("dict[str, object]", value).items()}
    return value


def _plain_defaults() -> dict[str, Any]:
    defaults = _plain(Recipe(name="x", algorithm="sft"))
    return {name: value for name, value in defaults.items() if name != "algorithm"}


def _usual() -> Fields:
    return _fields(_plain_defaults())
