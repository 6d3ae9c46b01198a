"""Paths in recipes and overrides, made independent of where they are used from."""

from __future__ import annotations

import os.path
from pathlib import Path
from typing import cast

_ELSEWHERE = ("hdfs://", "s3://", "gs://", "http://", "https://", "pkg://")


def is_elsewhere(text: str) -> bool:
    """Whether a path names something other than a local file, which verl fetches itself."""
    return text.startswith(_ELSEWHERE)


def locate(value: object, base: Path) -> object:
    """Make a path, or each of a list of paths, absolute below ``base``; other values stay as they are."""
    if isinstance(value, list):
        return [locate(item, base) for item in cast("list[object]", value)]
    if not isinstance(value, str) or not value or is_elsewhere(value):
        return value
    # Not resolved: a link stays the link that the user chose.
    return os.path.normpath(base / Path(value).expanduser())


def locate_model(value: object, base: Path) -> object:
    """Make a model's path absolute where it is one; else it is the id of a model on the hub."""
    if isinstance(value, str) and (is_path(value) or (value and (base / value).is_dir())):
        return locate(value, base)
    return value


def is_path(text: str) -> bool:
    """Whether a model is written as a path: hub ids are a name, or an owner and a name."""
    return text.startswith((".", "/", "~")) or text.count("/") > 1
