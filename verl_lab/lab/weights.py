"""How large a model is, from its folder alone: nothing is loaded."""

from __future__ import annotations

import json
import math
import re
from typing import TYPE_CHECKING, Any, cast

from verl_lab.errors import TransportError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from verl_lab.transport.base import Host

_SIZE_IN_NAME = re.compile(r"(?<![A-Za-z0-9.])(\d+(?:\.\d+)?)([bBmM])(?![A-Za-z0-9])")
_FACTOR = {"b": 1e9, "m": 1e6}
_HEADER_LARGEST_BYTES = 100 << 20


def count_parameters(host: Host, model: str | None) -> int | None:
    """Return how many parameters a model has.

    Parameters
    ----------
    model
        A folder with safetensors files, whose headers say it exactly; or the name of a model, which may hold it,
        such as ``Qwen2.5-0.5B``.

    Returns
    -------
    int or None
        None where nothing tells.
    """
    if model is None:
        return None
    try:
        exact = _in_folder(host, model) if model.startswith("/") else 0
    except (TransportError, ValueError, KeyError, TypeError):  # no such folder, or not what it was taken for
        exact = 0
    named = _SIZE_IN_NAME.search(model.rstrip("/").rpartition("/")[2])
    return exact or (int(float(named[1]) * _FACTOR[named[2].lower()]) if named else None)


def _in_folder(host: Host, folder: str) -> int:
    files = [name for name in host.list_folder(folder) if name.endswith(".safetensors")]
    return sum(_in_file(host, f"{folder}/{name}") for name in files)


def _in_file(host: Host, path: str) -> int:
    """Sum up the shapes in a file's header: 8 bytes of its length, then JSON."""
    length = int.from_bytes(host.read(path, 0, 8), "little")
    if length > _HEADER_LARGEST_BYTES:
        return 0
    header = cast("Mapping[str, Mapping[str, Any]]", json.loads(host.read(path, 8, length)))
    return sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
