"""A data set: what its bytes are, whatever they are called and wherever they lie."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from verl_lab.inputs import Shape

Kind = Literal["jsonl", "json", "csv", "parquet", "arrow", "other"]
Role = Literal["train", "val"]

_NAME = Shape(
    re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*"),
    64,
    "The name of a data set begins with a letter or digit, and has up to 64 of these, '.', '_' and '-'.",
)


@dataclass(frozen=True)
class DatasetFile:
    """One file of a data set.

    Attributes
    ----------
    path
        Below the data set's folder, with ``/`` between parts; the file's own name where there is no folder.
    hash
        BLAKE3 of its bytes, in hex; the same as ``b3sum`` prints.
    size
        In bytes.
    kind
        What its content is, whatever its name says; ``other`` is no rows that are read here.
    rows
        None where they cannot be counted here.
    split
        ``train``, ``validation``, ``test`` or what a Hugging Face folder calls it; empty where nothing tells.
    """

    path: str
    hash: str
    size: int
    kind: Kind = "other"
    rows: int | None = None
    split: str = ""


@dataclass(frozen=True)
class DatasetVersion:
    """One content. The same bytes are the same version, however they are called and wherever they lie.

    Attributes
    ----------
    hash
        Of a single file, the BLAKE3 of its bytes, whatever it is called. Of several, of their names below
        the folder and their bytes: there a name says which is which.
    files
        In the order of their paths.
    schema
        Type of each column, by name.
    note
        What could not be learnt, and why; empty mostly.
    names
        What it was called when it was added, newest first.
    places
        Where it was seen, newest first; there may be other bytes by now.
    added
        Unix time in seconds; None for what is not in the index.
    """

    hash: str
    files: tuple[DatasetFile, ...]
    schema: dict[str, str]
    note: str = ""
    names: tuple[str, ...] = ()
    places: tuple[str, ...] = ()
    added: float | None = None

    @property
    def name(self) -> str:
        """What it was called last; the beginning of its hash where it has no name."""
        return self.names[0] if self.names else self.hash[:12]

    @property
    def rows(self) -> int | None:
        """All rows; None where those of a file are not known."""
        counts = [file.rows for file in self.files if file.kind != "other"]
        known = [count for count in counts if count is not None]
        return sum(known) if counts and len(known) == len(counts) else None

    @property
    def size(self) -> int:
        """All bytes."""
        return sum(file.size for file in self.files)

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """What its files are, without those that hold no rows unless there are no others."""
        found: list[Kind] = sorted({file.kind for file in self.files})
        return tuple(kind for kind in found if kind != "other") or tuple(found)

    @property
    def splits(self) -> dict[str, int | None]:
        """Rows of each split; None where those of a file are not known."""
        found: dict[str, int | None] = {}
        for file in self.files:
            if file.kind == "other":
                continue
            before = found.get(file.split, 0)
            found[file.split] = None if before is None or file.rows is None else before + file.rows
        return found


@dataclass(frozen=True)
class TokenCounts:
    """How many tokens a row's text has, without what a chat template adds.

    Attributes
    ----------
    rows
        How many rows were counted, from the beginning.
    mean, median, p95, longest
        Tokens a row.
    """

    rows: int
    mean: float
    median: float
    p95: float
    longest: int


@dataclass(frozen=True)
class Change:
    """One file that is not what it was.

    Attributes
    ----------
    before, after
        None where there was no such file, or is none now.
    """

    path: str
    before: DatasetFile | None
    after: DatasetFile | None

    def __str__(self) -> str:
        if self.before is None:
            return f"{self.path} is new"
        if self.after is None:
            return f"{self.path} is missing"
        if self.before.size != self.after.size:
            return f"{self.path} has {self.after.size:,} bytes, not {self.before.size:,}"
        return f"{self.path} has other content of the same size"


def changes(before: tuple[DatasetFile, ...], after: tuple[DatasetFile, ...]) -> tuple[Change, ...]:
    """Return which files differ, by path. Two single files are the same one, whatever they are called."""
    if len(before) == len(after) == 1:
        same = before[0].hash == after[0].hash
        return () if same else (Change(after[0].path, before[0], after[0]),)
    old, new = ({file.path: file for file in files} for files in (before, after))
    paths = sorted(old.keys() | new.keys())
    pairs = [(path, old.get(path), new.get(path)) for path in paths]
    return tuple(
        Change(path, was, now) for path, was, now in pairs if was is None or now is None or was.hash != now.hash
    )


def check_name(name: str) -> str:
    """Return ``name`` if a data set can be called so.

    Raises
    ------
    InvalidInputError
        If it holds anything but letters, digits, ``.``, ``_`` and ``-``, or is too long.
    """
    return _NAME.check("name", name)


def name_from(text: str) -> str:
    """Make a name out of a file's name: what it may not hold becomes ``-``."""
    fitted = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")
    return fitted[:64].rstrip("-._") or "data"
