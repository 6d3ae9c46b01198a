"""What ``lab.recipes`` gives besides recipes: entries of the list, texts, versions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from verl_lab.recipes.edit import put
from verl_lab.recipes.fields import fields_of
from verl_lab.recipes.source import parse_mapping

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.domain.recipe import Recipe


@dataclass(frozen=True)
class Entry:
    """One recipe in the list: usable (``recipe``), or not (``problem`` says why, with line and column)."""

    name: str
    place: str
    path: Path
    recipe: Recipe | None
    problem: str | None


@dataclass(frozen=True)
class Source:
    """The text of a recipe, and where it lies (``place`` is ``built-in``, ``user`` or ``project``)."""

    name: str
    place: str
    path: Path
    text: str
    version: str


@dataclass(frozen=True)
class Version:
    """A text that a recipe had, when it got it, and how: saved, found, launched and the like."""

    version: str
    time: float
    action: str
    name: str
    parent: str | None


@dataclass(frozen=True)
class Kept:
    """What a run records of its recipe: versions of the whole of it, and of the text it was read from."""

    recipe: str
    source: str


def without_secrets(text: str) -> str:
    """Return a recipe's text with the address of a webhook blotted out."""
    alerts = parse_mapping(text, "recipe").get("alerts")
    if isinstance(alerts, dict) and "webhook" in alerts:
        return put(text, ("alerts", "webhook"), "**********")
    return text


def said(entry: Entry) -> str:
    """Return everything that a recipe can be found by, in small letters."""
    if entry.recipe is None:
        return entry.name.lower()
    fields = fields_of(entry.recipe)
    fields.pop(("alerts", "webhook"), None)
    settings = " ".join(f"{'.'.join(path)}={value}" for path, value in fields.items() if value not in (None, "", []))
    return f"{entry.name} {settings}".lower()
