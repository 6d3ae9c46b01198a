"""The columns of rows that bring no schema, learnt from their first values."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from verl_lab.datasets.rows import arrow_schema, read_rows

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.domain.dataset import Kind

    # A type is a word, a list of one, or the types of a mapping's values.
    Type = str | list["Type"] | dict[str, "Type"]

_ROWS = 1000
_DEEPEST = 16


def schema_of(path: Path, kind: Kind) -> dict[str, str]:
    """Return the type of each column in Arrow's words; where rows bring none, from the first 1,000.

    Raises
    ------
    FormatError
        Something in it is no row.
    EnvironmentMismatchError
        It takes pyarrow to read it, which is not installed.
    """
    if kind in ("parquet", "arrow"):
        return arrow_schema(path, kind)
    found: dict[str, Any] = {}
    for row in islice(read_rows(path, kind), _ROWS):
        for name, value in row.items():
            found[name] = _merged(found.get(name, "null"), _type(value, 0))
    return {name: _words(kind) for name, kind in found.items()}


def _type(value: object, depth: int) -> Type:
    if depth > _DEEPEST:
        return "…"
    if isinstance(value, dict):
        return {str(k): _type(v, depth + 1) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, list):
        inside: Type = "null"
        for item in cast("list[object]", value):
            inside = _merged(inside, _type(item, depth + 1))
        return [inside]
    return _SIMPLE.get(type(value), "string")


_SIMPLE: dict[type, str] = {str: "string", bool: "bool", int: "int64", float: "double", type(None): "null"}


def _merged(one: Type, two: Type) -> Type:
    """Return what fits both."""
    if two in (one, "null"):
        return one
    if one == "null":
        return two
    if isinstance(one, dict) and isinstance(two, dict):
        return {name: _merged(one.get(name, "null"), two.get(name, "null")) for name in {**one, **two}}
    if isinstance(one, list) and isinstance(two, list):
        return [_merged(one[0], two[0])]
    return "double" if {str(one), str(two)} == {"int64", "double"} else "mixed"


def _words(kind: Type) -> str:
    if isinstance(kind, list):
        return f"list<{_words(kind[0])}>"
    if isinstance(kind, dict):
        return f"struct<{', '.join(f'{name}: {_words(inside)}' for name, inside in kind.items())}>"
    return kind
