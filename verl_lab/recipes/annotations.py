"""The types verl declares for its settings, read from its source without running it."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Kinds = frozenset[str] | None
"""Which of bool, int, float, str, list, dict and null a setting takes; None where anything goes."""

_FOLDERS = ("workers/config", "trainer/config", "utils/profiler")
_CONTAINERS = {"list": "list", "List": "list", "tuple": "list", "Tuple": "list", "dict": "dict", "Dict": "dict"}
_SCALARS = frozenset({"bool", "int", "float", "str"})


class Declarations:
    """The fields of verl's configuration dataclasses, by the name of the class.

    Parameters
    ----------
    package
        verl's folder. Files that are missing or do not parse declare nothing.
    """

    def __init__(self, package: Path) -> None:
        self._classes: dict[str, ast.ClassDef] = {}
        for folder in _FOLDERS:
            for file in sorted((package / folder).glob("*.py")):
                try:
                    tree = ast.parse(file.read_bytes())
                except (OSError, SyntaxError):
                    continue
                self._classes.update({node.name: node for node in tree.body if isinstance(node, ast.ClassDef)})

    def fields(self, name: str) -> dict[str, ast.expr]:
        """Return the public fields of a class and its bases with their annotations; empty if unknown."""
        declared: dict[str, ast.expr] = {}
        found = self._classes.get(name)
        if found is None:
            return declared
        for base in found.bases:
            if isinstance(base, ast.Name) and base.id != name:
                declared.update(self.fields(base.id))
        declared.update(_annotated(found))
        return declared

    def is_class(self, annotation: ast.expr) -> str | None:
        """Return the name of the configuration class an annotation stands for, if it is one."""
        for node in ast.walk(annotation):
            if isinstance(node, ast.Name) and node.id in self._classes:
                return node.id
        return None


def kinds(annotation: ast.expr) -> Kinds:  # noqa: PLR0911  one return a form of annotation
    """Return which kinds of value an annotation admits."""
    if isinstance(annotation, ast.Name):
        name = annotation.id
        return frozenset({name}) if name in _SCALARS else _container(name)
    if isinstance(annotation, ast.Constant):
        if annotation.value is None:
            return frozenset({"null"})
        return kinds(ast.parse(annotation.value, mode="eval").body) if isinstance(annotation.value, str) else None
    if isinstance(annotation, ast.BinOp):
        return _union([annotation.left, annotation.right])
    if isinstance(annotation, ast.Subscript) and isinstance(annotation.value, ast.Name):
        name, inner = annotation.value.id, annotation.slice
        parts = list(inner.elts) if isinstance(inner, ast.Tuple) else [inner]
        if name == "Optional":
            return _union([*parts, ast.Constant(None)])
        if name == "Union":
            return _union(parts)
        if name == "Literal":
            return frozenset(type(part.value).__name__ for part in parts if isinstance(part, ast.Constant))
        return _container(name)
    return None


def kind_of(value: object) -> str:
    """Return the kind of a value: bool, int, float, str, list, dict or null."""
    return "null" if value is None else type(value).__name__


def _annotated(found: ast.ClassDef) -> Iterator[tuple[str, ast.expr]]:
    for node in found.body:
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and not node.target.id.startswith("_"):
            yield node.target.id, node.annotation


def _container(name: str) -> Kinds:
    kind = _CONTAINERS.get(name)
    return frozenset({kind}) if kind else None


def _union(parts: list[ast.expr]) -> Kinds:
    found: frozenset[str] = frozenset()
    for part in parts:
        one = kinds(part)
        if one is None:
            return None
        found |= one
    return found
