"""Recipes: the list, texts and their versions, forms, checks."""

from __future__ import annotations

from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field

from verl_lab.domain.recipe import LONGEST_NAME, NAME
from verl_lab.errors import InvalidInputError, NotFoundError, VerlLabError
from verl_lab.lab.form import form, keys
from verl_lab.lab.launching.validation import validation
from verl_lab.lab.recipe_text import saved_text, shown_text
from verl_lab.server.faults import ConflictError
from verl_lab.server.routing import Asked, Nothing, Override, Routes, Text

if TYPE_CHECKING:
    from collections.abc import Generator

    from verl_lab.domain.recipe import Problem
    from verl_lab.lab import Lab
    from verl_lab.recipes.book import RecipeBook
    from verl_lab.recipes.entries import Entry, Source
    from verl_lab.server import answers
    from verl_lab.server.answers import (
        CanUndo,
        Form,
        KeyList,
        RecipeList,
        RecipeRow,
        RecipeText,
        RecipeVersion,
        Rules,
        Undone,
        Validation,
    )

ROUTES = Routes()

Name = Annotated[str, Field(pattern=NAME, max_length=LONGEST_NAME)]
Yaml = Annotated[str, Field(max_length=200_000)]
Version = Annotated[str, Field(pattern=r"^[0-9a-f]{6,64}$")]

_BUILTIN = "built-in"


class Search(Asked):
    """Words that all must be found."""

    search: Text = ""


class OfVersion(Asked):
    """Which version; the one that is there now, if none is given."""

    version: Version | None = None


class Save(Asked):
    """A recipe's text, and the version it was changed from."""

    text: Yaml
    version: Version


class New(Asked):
    """A recipe's name, and what it is made of: another recipe, or a text."""

    name: Name
    fork: Name | None = None
    text: Yaml | None = None


class Rename(Asked):
    """The other name."""

    to: Name


class Validate(Asked):
    """What to check a recipe with."""

    overrides: Annotated[list[Override], Field(max_length=500, default_factory=list[str])]
    preset: Text | None = None
    host: Text = "local"


@ROUTES.add("GET", "recipes", query=Search)
def recipes(lab: Lab, query: Search) -> RecipeList:
    """List the recipes, those that are broken too."""
    found = lab.recipes.search(query.search) if query.search.strip() else lab.recipes.list()
    return {"rows": [_row(entry) for entry in found]}


@ROUTES.add("POST", "recipes", body=New, status=201)
def make(lab: Lab, body: New) -> RecipeText:
    """Make a recipe of another one, or of a text."""
    if (body.fork is None) == (body.text is None):
        raise InvalidInputError("fork: give either fork or text.", "A recipe is made of another one, or of a text.")
    if body.name in lab.recipes.names():
        raise ConflictError(f"name: there is a recipe {body.name!r} already.", "Choose another name.")
    if body.fork is not None:
        lab.recipes.fork(body.fork, body.name)
    else:
        lab.recipes.save_text(body.name, body.text or "")
    return _shown(lab.recipes, lab.recipes.source(body.name))


@ROUTES.add("GET", "recipes/{recipe}", query=OfVersion)
def recipe_(lab: Lab, recipe: str, query: OfVersion) -> RecipeText:
    """Give a recipe's text, what it comes to with what it extends, and the versions it had."""
    return _shown(lab.recipes, lab.recipes.source(recipe, query.version), query.version)


@ROUTES.add("PUT", "recipes/{recipe}", body=Save)
def save(lab: Lab, recipe: str, body: Save) -> RecipeText:
    """Save a recipe's text, if nobody else has changed it since it was read."""
    book = lab.recipes
    source = _own(book, recipe)
    _same(source, body.version)
    text = saved_text(book, recipe, body.text)
    try:
        book.save_text(recipe, text, version=source.version)
    except InvalidInputError:
        _same(book.source(recipe), body.version)  # changed at this moment: that is another kind of refusal
        raise
    return _shown(book, book.source(recipe))


@ROUTES.add("DELETE", "recipes/{recipe}")
def delete(lab: Lab, recipe: str) -> CanUndo:
    """Remove a recipe; it can be undone."""
    _own(lab.recipes, recipe)
    with _others_allow():
        lab.recipes.delete(recipe)
    return {"undo": True}


@ROUTES.add("POST", "recipes/{recipe}/undo", body=Nothing)
def undo(lab: Lab, recipe: str, body: Nothing) -> Undone:
    """Take back the last change of a recipe, its removal too."""
    del body
    with _others_allow():
        change = lab.recipes.undo(recipe)
    return {"action": change.action, "name": change.name}


@ROUTES.add("POST", "recipes/{recipe}/rename", body=Rename)
def rename(lab: Lab, recipe: str, body: Rename) -> RecipeText:
    """Give a recipe another name."""
    _own(lab.recipes, recipe)
    with _others_allow():
        lab.recipes.rename(recipe, body.to)
    return _shown(lab.recipes, lab.recipes.source(body.to))


@ROUTES.add("GET", "recipes/{recipe}/form")
def form_(lab: Lab, recipe: str) -> Form:
    """Give the settings that people change most, with their values in this recipe."""
    return {"fields": form(lab.recipes.get(recipe))}


@ROUTES.add("GET", "recipes/{recipe}/keys", query=Search)
def keys_(lab: Lab, recipe: str, query: Search) -> KeyList:
    """Find up to 50 of verl's keys."""
    return {"rows": keys(lab.recipes.get(recipe), query.search)}


@ROUTES.add("POST", "recipes/{recipe}/validate", body=Validate, is_slow=True)
def validate(lab: Lab, recipe: str, body: Validate) -> Validation:
    """Say everything that is wrong with a recipe and overrides, and what would run."""
    found = validation(lab, recipe, body.overrides, preset=body.preset, host=body.host)
    rules: Rules | None = None if found.rules is None else {"with_data": found.rules[0], "total": found.rules[1]}
    return {
        "problems": [_problem(one) for one in found.problems],
        "command": found.command,
        "rules": rules,
        "facts": [{"name": name, "value": value} for name, value in found.facts],
    }


@contextmanager
def _others_allow() -> Generator[None]:
    """Take what is refused for what other recipes, or a change of the file, do not allow: the name was right."""
    try:
        yield
    except InvalidInputError as error:
        raise ConflictError(error.message, error.hint) from error


def _own(book: RecipeBook, name: str) -> Source:
    source = book.source(name)
    if source.place == _BUILTIN:
        raise ConflictError(f"The recipe {name!r} is built in, and stays as it is.", "Fork it, and change the copy.")
    return source


def _same(source: Source, version: str) -> None:
    if source.version != version:
        raise ConflictError(
            f"version: {source.name} was changed since it was read: it is at {source.version[:12]} by now.",
            "Read it again; what you wrote is not lost as long as you keep it.",
        )


def _row(entry: Entry) -> RecipeRow:
    recipe = entry.recipe
    changed: float | None = None
    with suppress(OSError):  # gone a moment ago
        changed = entry.path.stat().st_mtime
    origin = None if recipe is None else recipe.origin
    return {
        "name": entry.name,
        "algorithm": None if recipe is None else recipe.algorithm,
        "trainer": None if recipe is None else recipe.trainer,
        "model": None if recipe is None else recipe.model,
        "place": _place(entry.place),
        "version": None if origin is None else origin.version,
        "extends": None if recipe is None else recipe.extends,
        "description": "" if recipe is None else recipe.description,
        "notes": "" if recipe is None else recipe.notes,
        "changed": changed,
        "problem": entry.problem,
    }


def _shown(book: RecipeBook, source: Source, version: str | None = None) -> RecipeText:
    merged: dict[str, Any] | None = None
    problem: str | None = None
    try:
        merged = book.get(source.name, version).model_dump(mode="json")
    except VerlLabError as error:  # a broken one is there to be mended
        problem = error.message
    versions: list[RecipeVersion] = []
    with suppress(NotFoundError):
        versions = [{"version": v.version, "time": v.time, "action": v.action} for v in book.versions(source.name)]
    return {
        "name": source.name,
        "text": shown_text(source.text),
        "version": source.version,
        "place": _place(source.place),
        "editable": source.place != _BUILTIN and version is None,
        "recipe": merged,
        "problem": problem,
        "versions": versions,
    }


def _place(place: str) -> str:
    return "builtin" if place == _BUILTIN else place


def _problem(problem: Problem) -> answers.Problem:
    return {
        "severity": problem.severity,
        "key": problem.key,
        "value": problem.value,
        "message": problem.message,
        "valid": problem.suggestion,
    }
