"""``lab.datasets``: what data there is, whether it is fit to train on, and what runs trained on."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from verl_lab.datasets import (
    Fingerprints,
    Snapshots,
    check_splits,
    count_tokens,
    describe,
    diff_rows,
    find,
    parts_of,
    preview,
)
from verl_lab.datasets.far import FarCopies
from verl_lab.domain.dataset import Change, DatasetVersion, changes, check_name, name_from
from verl_lab.domain.host import LOCAL
from verl_lab.domain.recipe import TRAINERS, Algorithm
from verl_lab.domain.wire import RunLayout
from verl_lab.errors import InvalidInputError, NotFoundError

if TYPE_CHECKING:
    from verl_lab.datasets import Fingerprint, Found, Kept, Part, RowDiff
    from verl_lab.datasets.fingerprint import Progress
    from verl_lab.domain.dataset import TokenCounts
    from verl_lab.domain.recipe import Problem
    from verl_lab.lab.lab import Lab

    Thing = DatasetVersion | str | os.PathLike[str]

_HASH = re.compile(rb"\b[0-9a-f]{64}\b")
_PREFIX = re.compile(r"[0-9a-f]{6,64}")


@dataclass(frozen=True)
class Collected:
    """Copies of data that no run needs.

    Attributes
    ----------
    copies
        Each with its bytes.
    removed
        Whether they were removed, or only looked up.
    recent
        Copies on a host that no run names either, and that stay for a day: a launch may be on its way to them.
    """

    copies: tuple[Kept, ...]
    removed: bool
    recent: tuple[Kept, ...] = ()

    @property
    def size(self) -> int:
        """Their bytes in all."""
        return sum(kept.size for kept in self.copies)


class Datasets:
    """The data sets of a lab. A version is a content: the same bytes are the same version wherever they lie.

    Attributes
    ----------
    progress
        Called while large files are read or copied: what is being done, bytes done, bytes in all.
    """

    def __init__(self, lab: Lab) -> None:
        self._lab = lab
        self._index = lab.store.datasets
        self._fingerprints = Fingerprints(self._index)
        self.snapshots = Snapshots(lab.settings.datasets_folder, self._fingerprints)
        self.progress: Progress | None = None

    @property
    def fingerprints(self) -> Fingerprints:
        """What hashes paths, and knows what need not be read again."""
        return self._fingerprints

    def add(self, path: str | os.PathLike[str], name: str | None = None) -> DatasetVersion:
        """Say that a file, or a folder of files, is a data set, as it is now.

        Nothing is copied. From here on a launch refuses the path when it holds anything else, until it is
        added again.

        Parameters
        ----------
        path
            JSONL, JSON, CSV, Parquet, or a folder of some, such as one saved by Hugging Face's ``datasets``.
        name
            What to call it: letters, digits, ``.``, ``_``, ``-``; by default what the file is called.

        Raises
        ------
        NotFoundError
            There is nothing at ``path``.
        InvalidInputError
            The name will not do, or the folder holds what is no plain file or leads out of it.
        TransportError
            It cannot be read, or is being written.
        """
        found = find(path)
        called = _name_of(found.path) if name is None else check_name(name)
        version, _ = self._look(found, anew=True)
        self._index.put(version, path=str(found.path), name=called, declared=True)
        return self.get(version.hash)

    def list(self) -> list[DatasetVersion]:
        """Return every version that was added or trained on, the one seen last first."""
        return self._index.list()

    def get(self, hash_or_name: str) -> DatasetVersion:
        """Return a version by its hash, the beginning of it (six or more), or the newest of a name.

        Raises
        ------
        NotFoundError
            There is none; the nearest names are told.
        InvalidInputError
            Several hashes begin so.
        """
        versions = self.list()
        named = [version for version in versions if hash_or_name in version.names]
        if named:
            return named[0]
        found = [v for v in versions if _PREFIX.fullmatch(hash_or_name) and v.hash.startswith(hash_or_name)]
        if len(found) > 1:
            hint = f"Give more of it: {', '.join(version.hash[:16] for version in found[:5])}."
            raise InvalidInputError(f"data set: {hash_or_name!r} is the beginning of {len(found)} hashes.", hint)
        if not found:
            known = [name for version in versions for name in version.names]
            hint = "%verl_data lists them." if versions else "lab.datasets.add(path) makes the first."
            raise NotFoundError.of("data set", hash_or_name, known, hint)
        return found[0]

    def check(self, path: Thing, *, algorithm: Algorithm | None = None, held_out: Thing | None = None) -> list[Problem]:
        """Read every row and return all that is wrong with them, the errors first.

        Missing and empty values, rows that repeat an earlier one, and held-out rows that ask what a row
        that is trained on asks. Rows are numbered from 0.

        Parameters
        ----------
        path
            A file or folder, or a data set's hash or name. In a folder, the splits are compared.
        algorithm
            What it is for; None guesses by its columns.
        held_out
            What must not share a question with ``path``.

        Raises
        ------
        NotFoundError
            There is no such data set or algorithm.
        """
        if algorithm is not None and algorithm not in TRAINERS:
            raise NotFoundError.of("algorithm", algorithm, get_args(Algorithm))
        parts = self.parts(path)
        splits: dict[str, list[Part]] = {}
        if held_out is not None:
            splits = {"train": parts, "held-out": self.parts(held_out)}
        else:
            for part in sorted(parts, key=lambda part: part.split != "train"):
                splits.setdefault(part.split or Path(part.name).name, []).append(part)
        if not parts:
            splits = {str(path): []}
        return check_splits(splits, TRAINERS[algorithm] if algorithm else None)

    def diff(self, before: Thing, after: Thing, *, key: str | None = None) -> RowDiff:
        """Compare two versions row by row.

        Parameters
        ----------
        before, after
            Files or folders, or hashes or names of data sets.
        key
            A column that tells which row is which: rows with the same key and other content are changed.

        Raises
        ------
        NotFoundError
            There is no such data set or column, or its bytes are nowhere any more.
        """
        return diff_rows(self.parts(before), self.parts(after), key=key)

    def preview(self, thing: Thing, rows: int = 5) -> list[dict[str, Any]]:
        """Return the first rows, long texts and lists cut short. Errors as ``diff``."""
        return preview(self.parts(thing), rows)

    def tokens(self, thing: Thing, tokenizer: str | os.PathLike[str]) -> TokenCounts | None:
        """Count the tokens of the first 10,000 rows; None if there are no rows.

        Parameters
        ----------
        tokenizer
            A model's folder with a ``tokenizer.json``, or that file.

        Raises
        ------
        NotFoundError
            There is no such data set or tokenizer.
        EnvironmentMismatchError
            The package ``tokenizers`` is not installed.
        """
        return count_tokens(self.parts(thing), Path(tokenizer))

    def changed(self, thing: DatasetVersion | str) -> tuple[Change, ...]:
        """Return what is different now at the place where a version was seen last; nothing if it is as it was."""
        version = thing if isinstance(thing, DatasetVersion) else self.get(thing)
        try:
            return changes(version.files, self.at(version.places[0]).files)
        except NotFoundError:
            return changes(version.files, ())

    def at(self, path: str | os.PathLike[str]) -> DatasetVersion:
        """Return the version that lies at a path now, without adding it. Errors as ``add``."""
        return self._look(find(path))[0]

    def remove(self, hash_or_name: str) -> DatasetVersion:
        """Forget a version; files, copies and runs are not touched. Errors as ``get``."""
        version = self.get(hash_or_name)
        self._index.remove(version.hash)
        return version

    def collect(self, *, confirm: bool = False, host: str = LOCAL) -> Collected:
        """Return the copies that no run's record names; with ``confirm`` remove them.

        Parameters
        ----------
        host
            The machine they lie on. On a host these are copies of models, checkpoints and reward functions too, and
            it is the runs there that count, whoever launched them.

        Raises
        ------
        NotFoundError
            There is no such host.
        InvalidInputError
            A launch is making copies at this moment.
        TransportError
            The host was not reached, or cannot do it.
        """
        if host != LOCAL:
            hosts = self._lab.hosts
            copies = FarCopies(hosts.get(host), hosts.root(host), python=hosts.python(host))
            free, recent = copies.collect(f"{hosts.root(host)}/runs", dry_run=not confirm)
            return Collected(tuple(free), removed=confirm, recent=tuple(recent))
        kept = self.snapshots.collect(self._needed, dry_run=not confirm)
        if confirm:
            self._fingerprints.forget_missing()
        return Collected(tuple(kept), removed=confirm)

    def pin(self, path: str, *, copy: bool) -> tuple[DatasetVersion, Path]:
        """Return what lies at a path, and where it will stay as it is. Call it while ``snapshots.in_use()``.

        Raises
        ------
        InvalidInputError
            It is not what was added there.
        TransportError
            It cannot be read or copied, or is being written.
        """
        found = find(path)
        version, fingerprint = self._look(found)
        self._refuse_other(found, version)
        self._index.put(version, path=str(found.path), name=_name_of(found.path), declared=False)
        kept = self.snapshots.keep(found, fingerprint, self.progress) if copy else found.path
        return self.get(version.hash), kept

    def parts(self, thing: Thing) -> list[Part]:
        """Return the files with rows of a path, or of a version wherever its bytes still are."""
        return parts_of(self._bytes_of(thing))

    def _bytes_of(self, thing: Thing) -> Found:
        if not isinstance(thing, DatasetVersion):
            text = os.fspath(thing)
            if os.path.lexists(Path(text).expanduser()) or "/" in text or not isinstance(thing, str):
                return find(text)
            thing = self.get(text)
        for place in (*thing.places, *map(str, self.snapshots.of(thing.hash))):
            if self.snapshots.intact(Path(place), thing.hash):
                return find(place)
        looked = ", ".join(thing.places[:3])
        raise NotFoundError(
            f"The bytes of {thing.name} ({thing.hash[:12]}) are nowhere any more.", f"Seen at {looked}."
        )

    def _look(self, found: Found, *, anew: bool = False) -> tuple[DatasetVersion, Fingerprint]:
        fingerprint = self._fingerprints.of(found, self.progress)
        known = None if anew else self._index.get(fingerprint.hash)
        if known is None:
            known = describe(found, fingerprint)
            self._fingerprints.still(found, fingerprint)
        return known, fingerprint

    def _refuse_other(self, found: Found, version: DatasetVersion) -> None:
        """Refuse content that is not what someone said lies there."""
        declared = next((place for place in self._index.places(str(found.path)) if place.declared), None)
        if declared is None or declared.hash == version.hash:
            return
        before = self._index.get(declared.hash)
        what = "; ".join(map(str, changes(before.files, version.files)[:5])) if before else "it has other content"
        copies = self.snapshots.of(declared.hash)
        was = f" As it was, it is kept at {copies[0]}." if copies else ""
        raise InvalidInputError(
            f"data: {found.path} is not what was added as {declared.name!r}: {what}.",
            f"To train on it as it is now, add it again: %verl_data {found.path}{was}",
        )

    @property
    def _needed(self) -> set[str]:
        """Every hash that a run's record names: also of one that is damaged, and that nothing else can read."""
        folders = {row.folder for row in self._lab.store.runs.list(kind="run")}
        root = self._lab.settings.runs_root
        folders |= {str(root / name) for name in self._lab.host.list_folder(str(root))}
        found: set[str] = set()
        for folder in folders:
            record = RunLayout(Path(folder)).record
            if self._lab.host.stat(str(record)) is not None:
                found |= {text.decode() for text in _HASH.findall(self._lab.host.read(str(record)))}
        return found


def _name_of(path: Path) -> str:
    return name_from(path.stem if path.suffix and not path.is_dir() else path.name)
