"""A nested configuration as one line a key, to be shown and compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import orjson


def flatten(config: Mapping[str, Any]) -> dict[str, str]:
    """Return every leaf's value as text by its dotted key, in the configuration's order.

    An empty mapping is a leaf; so is a list.
    """
    leaves: dict[str, str] = {}
    _collect(config, "", leaves)
    return leaves


def _collect(branch: Mapping[str, Any], prefix: str, leaves: dict[str, str]) -> None:
    for key, value in branch.items():
        if isinstance(value, Mapping) and value:
            _collect(cast("Mapping[str, Any]", value), f"{prefix}{key}.", leaves)
        else:
            leaves[f"{prefix}{key}"] = _text(cast("object", value))


def _text(value: object) -> str:
    if isinstance(value, str):
        return value
    try:
        return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
    except orjson.JSONEncodeError:
        return str(value)
