"""What a model's folder says of it: its shape and size, its tokenizer and chat template. Nothing is loaded."""

from __future__ import annotations

import json
import math
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from verl_lab.domain.recipe import Problem
from verl_lab.recipes.paths import is_elsewhere, is_path

if TYPE_CHECKING:
    from collections.abc import Mapping

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")
_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
_TEMPLATES = ("chat_template.jinja", "chat_template.json")
_LARGEST_JSON_BYTES = 64 * 1024 * 1024
_LARGEST_HEADER_BYTES = 100 * 1024 * 1024  # what the safetensors library itself accepts


@dataclass(frozen=True)
class ModelFacts:
    """The shape of a model, from its ``config.json``; None for what that does not say.

    Attributes
    ----------
    parameters
        How many there are.
    is_counted
        Whether they were counted in the weights' headers, rather than computed from the shape.
    positions
        The longest sequence it was made for, in tokens.
    has_scaled_positions
        Whether its positions are stretched (``rope_scaling``), so that ``positions`` may not be the end.
    """

    folder: Path
    parameters: int | None
    is_counted: bool
    layers: int | None
    hidden: int | None
    heads: int | None
    kv_heads: int | None
    head_size: int | None
    vocabulary: int | None
    positions: int | None
    has_scaled_positions: bool


def check_model(key: str, value: object) -> list[Problem]:  # noqa: PLR0911  one return a mistake
    """Check that the model is a folder in Hugging Face's layout, or could be an id on the hub."""
    example = "Set model to a folder with a config.json, or to the id of a model on the hub."
    if not isinstance(value, str) or not value:
        return [Problem(key, value, "no model is given.", example)]
    if is_elsewhere(value):
        return []
    if not is_path(value):
        return [] if _HUB_ID.fullmatch(value) else [Problem(key, value, f"{value!r} is no model.", example)]
    folder = Path(value)
    if not folder.exists():
        return [Problem(key, value, f"{value} does not exist.", example)]
    if not (folder / "config.json").is_file():
        return [Problem(key, value, f"{value} is no model folder: it has no config.json.", example)]
    try:
        if not isinstance(_json(folder / "config.json"), dict):
            return [Problem(key, value, f"{value}/config.json holds no object.", example)]
    except ValueError as error:
        return [Problem(key, value, f"{value}/config.json is no JSON: {error}.", example)]
    return []


def check_tokenizer(key: str, folder: Path, *, needs_template: bool) -> list[Problem]:
    """Check that a model's folder has a tokenizer and, where rows are conversations, a chat template."""
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        files = f"Expected one of {', '.join(_TOKENIZERS[:3])} beside config.json."
        return [Problem(key, str(folder), f"{folder} has no tokenizer.", files)]
    if not needs_template or any((folder / name).is_file() for name in _TEMPLATES):
        return []
    try:
        settings = _json(folder / "tokenizer_config.json")
    except (OSError, ValueError):
        settings = {}
    if isinstance(settings, dict) and cast("dict[str, Any]", settings).get("chat_template"):
        return []
    why = f"{folder} has no chat template, so conversations cannot be turned into text."
    way_out = f"Add a chat_template.jinja to it, or set {key.rpartition('.')[0]}.custom_chat_template."
    return [Problem(key, str(folder), why, way_out)]


def local_folder(model: object) -> Path | None:
    """Return where a model's files lie here: its folder, or its place in the hub's cache; None if nowhere."""
    if not isinstance(model, str) or not model or is_elsewhere(model):
        return None
    folder = Path(model)
    if is_path(model) or folder.is_dir():
        return folder if (folder / "config.json").is_file() else None
    home = Path(os.environ.get("HF_HOME") or Path.home() / ".cache" / "huggingface")
    cache = Path(os.environ.get("HF_HUB_CACHE") or home / "hub") / f"models--{model.replace('/', '--')}" / "snapshots"
    found = [path.parent for path in cache.glob("*/config.json")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)


def facts_of(folder: Path) -> ModelFacts | None:
    """Return the shape of the model in a folder; None where its ``config.json`` says nothing."""
    try:
        return _facts(folder, (folder / "config.json").stat().st_mtime_ns)
    except (OSError, ValueError):
        return None


@lru_cache(maxsize=32)
def _facts(folder: Path, changed_ns: int) -> ModelFacts | None:
    del changed_ns  # a changed file is read anew
    found = _json(folder / "config.json")
    if not isinstance(found, dict):
        return None
    whole = cast("dict[str, Any]", found)
    config: Mapping[str, Any] = whole | (whole.get("text_config") or {})
    heads, hidden = _first(config, "num_attention_heads", "n_head"), _first(config, "hidden_size", "n_embd")
    head_size = _first(config, "head_dim") or (hidden // heads if hidden and heads else None)
    counted = _counted(folder)
    return ModelFacts(
        folder=folder,
        parameters=counted if counted is not None else _computed(config, head_size),
        is_counted=counted is not None,
        layers=_first(config, "num_hidden_layers", "n_layer"),
        hidden=hidden,
        heads=heads,
        kv_heads=_first(config, "num_key_value_heads") or heads,
        head_size=head_size,
        vocabulary=_first(config, "vocab_size"),
        positions=_first(config, "max_position_embeddings", "n_positions"),
        has_scaled_positions=_is_scaled(config),
    )


def _is_scaled(config: Mapping[str, Any]) -> bool:
    scaling = config.get("rope_scaling") or config.get("rope_parameters")
    if not isinstance(scaling, dict):
        return False
    settings = cast("dict[str, Any]", scaling)
    return settings.get("rope_type", settings.get("type", "default")) != "default"


def _first(config: Mapping[str, Any], *names: str) -> int | None:
    for name in names:
        value = config.get(name)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None


def _counted(folder: Path) -> int | None:
    """Count the parameters in the headers of the weights' files; None without such files."""
    files = sorted(folder.glob("*.safetensors"))
    total = 0
    for file in files:
        with file.open("rb") as stream:
            size = int.from_bytes(stream.read(8), "little")
            if size > _LARGEST_HEADER_BYTES:
                return None
            header = json.loads(stream.read(size))
        total += sum(math.prod(tensor["shape"]) for name, tensor in header.items() if name != "__metadata__")
    return total or None


def _computed(config: Mapping[str, Any], head_size: int | None) -> int | None:
    """Compute the parameters of a decoder with gated feed-forward layers, from its shape."""
    layers, hidden = _first(config, "num_hidden_layers", "n_layer"), _first(config, "hidden_size", "n_embd")
    vocabulary, heads = _first(config, "vocab_size"), _first(config, "num_attention_heads", "n_head")
    if not (layers and hidden and vocabulary and heads and head_size):
        return None
    kv_heads = _first(config, "num_key_value_heads") or heads
    attention = 2 * hidden * heads * head_size + 2 * hidden * kv_heads * head_size
    experts = _first(config, "num_experts", "num_local_experts", "n_routed_experts") or 1
    inner = _first(config, "moe_intermediate_size") if experts > 1 else None
    inner = inner or _first(config, "intermediate_size", "n_inner") or 4 * hidden
    embeddings = vocabulary * hidden * (1 if config.get("tie_word_embeddings") else 2)
    return layers * (attention + 3 * hidden * inner * experts + 2 * hidden) + embeddings


def _json(file: Path) -> object:
    if file.stat().st_size > _LARGEST_JSON_BYTES:
        raise ValueError(f"larger than {_LARGEST_JSON_BYTES >> 20} MiB")
    return json.loads(file.read_bytes())
