"""Answers as JSON: every float as one, whatever it is, and every text as one."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from enum import Enum
from pathlib import PurePath
from typing import Any, cast

import orjson

_LARGEST = 2**63
_SAID = {math.inf: "Infinity", -math.inf: "-Infinity"}


def encode(answer: object) -> bytes:
    """Return an answer as JSON.

    In mappings and sequences NaN and infinities become the texts ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``;
    in a dataclass, whose fields say that they may be null, NaN is null.
    """
    plain = _plain(answer)
    try:
        return orjson.dumps(plain, default=_plain, option=orjson.OPT_SERIALIZE_NUMPY)
    except TypeError:  # a name with bytes that are no text
        text = json.dumps(_bare(plain), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8", "backslashreplace")


def _plain(value: object) -> Any:  # noqa: PLR0911  one for each kind
    if value is None or isinstance(value, str | bool) or dataclasses.is_dataclass(value):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else _SAID.get(float(value), "NaN")
    if isinstance(value, int):
        return int(value) if -_LARGEST <= value < _LARGEST else str(value)
    if isinstance(value, Mapping):
        mapping = cast("Mapping[object, object]", value)
        return {key if type(key) is str else str(key): _plain(item) for key, item in mapping.items()}
    if isinstance(value, bytes):
        return value.decode(errors="backslashreplace")
    if isinstance(value, Sequence | AbstractSet):
        return [_plain(item) for item in cast("Sequence[object]", value)]
    return str(value) if isinstance(value, PurePath) else _other(value)


def _other(value: object) -> Any:
    """Return what YAML files may hold besides, such as dates, as text; numpy's numbers as numbers."""
    item = getattr(value, "item", None)
    return _plain(item()) if callable(item) else str(value)


def _bare(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        return _bare(fields)
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in cast("dict[str, Any]", value).items()}
    if isinstance(value, list | tuple):
        return [_bare(item) for item in cast("Sequence[Any]", value)]
    if isinstance(value, float) and math.isnan(value):
        return None
    return value
