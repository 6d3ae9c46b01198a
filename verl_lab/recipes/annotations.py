"""The types and choices that verl declares for its settings, as the snapshot keeps them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

Kinds = frozenset[str] | None
"""Which of bool, int, float, str, list, dict and null a setting takes; None where anything goes."""


@dataclass(frozen=True)
class Field:
    """One field of a configuration class.

    Attributes
    ----------
    kinds
        The kinds of value it takes; None where anything goes.
    choices
        The texts it takes; empty where any will do.
    holds
        The configuration class it holds, if it does.
    """

    kinds: Kinds
    choices: tuple[str, ...]
    holds: str | None


class Declarations:
    """What verl's source says of its settings.

    Parameters
    ----------
    file
        ``declarations.json`` of a snapshot.
    """

    def __init__(self, file: Path) -> None:
        record = json.loads(file.read_bytes())
        self._classes: dict[str, dict[str, Any]] = record["classes"]
        self._choices: dict[str, list[str]] = record["choices"]

    def fields(self, name: str) -> dict[str, Field]:
        """Return the fields of a class and its bases; empty if it is unknown."""
        found = self._classes.get(name)
        if found is None:
            return {}
        declared: dict[str, Field] = {}
        for base in found["bases"]:
            declared.update(self.fields(base))
        declared.update({field: _field(entry) for field, entry in found["fields"].items()})
        demands: Mapping[str, list[str]] = found["demands"]
        for field in demands.keys() & declared.keys():
            known = declared[field]
            declared[field] = Field(known.kinds, tuple(demands[field]), known.holds)
        return declared

    def choices(self, tree: str, key: str) -> tuple[str, ...]:
        """Return the texts that verl's code knows for a key of a tree; empty where it is not one of these."""
        for pattern, names in self._choices.items():
            only, _, name = pattern.rpartition(":")
            if only in ("", tree) and fnmatchcase(key, name):
                return tuple(names)
        return ()


def kind_of(value: object) -> str:
    """Return the kind of a value: bool, int, float, str, list, dict or null."""
    return "null" if value is None else type(value).__name__


def _field(entry: Mapping[str, Any]) -> Field:
    kinds = entry.get("kinds")
    return Field(None if kinds is None else frozenset(kinds), tuple(entry.get("choices", ())), entry.get("class"))
