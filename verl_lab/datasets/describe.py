"""What a data set is: kinds, rows, columns and splits of its files."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

import orjson

from verl_lab.datasets.kinds import kind_of
from verl_lab.datasets.rows import count_rows
from verl_lab.datasets.schema import schema_of
from verl_lab.domain.dataset import DatasetFile, DatasetVersion
from verl_lab.errors import EnvironmentMismatchError, FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.datasets.fingerprint import Fingerprint
    from verl_lab.datasets.folder import Found
    from verl_lab.domain.dataset import Kind

_SPLITS = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval", "evaluation"),
    "held-out": ("heldout", "holdout"),
}
_SPLIT_OF_WORD = {word: split for split, words in _SPLITS.items() for word in words}
# What Hugging Face writes beside the rows.
_ABOUT = frozenset(("dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json"))
_LARGEST_STATE = 2**20


def describe(found: Found, fingerprint: Fingerprint) -> DatasetVersion:
    """Look into every file; what cannot be read there is told in the version's note.

    Raises
    ------
    TransportError
        A file cannot be read at all.
    """
    kinds = kinds_of(found)
    files: list[DatasetFile] = []
    schema: dict[str, str] = {}
    notes: list[str] = []
    for name, path in found.files.items():
        kind, rows = kinds[name], None
        try:
            if kind != "other":
                rows = count_rows(path, kind)
                for column, words in schema_of(path, kind).items():
                    schema[column] = words if schema.get(column, words) == words else "mixed"
        except (FormatError, EnvironmentMismatchError) as error:
            notes.append(error.message)
        split = split_of(name) if found.is_folder else ""
        one = fingerprint.files[name]
        files.append(DatasetFile(name, one.hash, one.size, kind, rows, split))
    if all(file.kind == "other" for file in files):
        notes.append("It holds no rows that are read here: JSONL, JSON, CSV, Parquet or Arrow.")
    return DatasetVersion(fingerprint.hash, tuple(files), schema, " ".join(notes))


def kinds_of(found: Found) -> dict[str, Kind]:
    """Return what each file is; in a folder of ``datasets``, rows are in the files that its state names."""
    states: dict[PurePosixPath, set[str]] = {}
    for name, path in found.files.items():
        if PurePosixPath(name).name == "state.json" and found.is_folder:
            named = _state(path)
            if named is not None:
                states[PurePosixPath(name).parent] = named
    kinds: dict[str, Kind] = {}
    for name, path in found.files.items():
        pure = PurePosixPath(name)
        kind: Kind = "other" if found.is_folder and pure.name in _ABOUT else kind_of(path)
        is_left_over = kind == "arrow" and pure.parent in states and pure.name not in states[pure.parent]
        kinds[name] = "other" if is_left_over else kind
    return kinds


def split_of(name: str) -> str:
    """Return the split that a file's name, or else a folder's, speaks of; empty if none does."""
    for part in reversed(PurePosixPath(name.replace("held-out", "heldout").replace("held_out", "heldout")).parts):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in _SPLIT_OF_WORD:
                return _SPLIT_OF_WORD[word]
    return ""


def _state(path: Path) -> set[str] | None:
    with path.open("rb") as file:
        text = file.read(_LARGEST_STATE)
    try:
        state: dict[str, Any] = orjson.loads(text)
        return {str(one["filename"]) for one in state["_data_files"]}
    except (orjson.JSONDecodeError, KeyError, TypeError):
        return None
