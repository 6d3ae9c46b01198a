"""Data sets by the hash of their content, the places they were seen at, and the hashes of single files."""

from __future__ import annotations

import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import bindparam, delete, insert, select, update

from verl_lab.domain.dataset import DatasetFile, DatasetVersion
from verl_lab.store import tables

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sqlalchemy import Connection, Row

    from verl_lab.store.engine import Database


class Place(NamedTuple):
    """Where a version was seen, under which name, and whether someone said that this is what lies there."""

    hash: str
    path: str
    name: str
    declared: bool
    seen: float


class Datasets:
    """The data sets that were added or trained on."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def put(self, version: DatasetVersion, *, path: str, name: str, declared: bool) -> None:
        """Add a version, or a place of one that is known; what was learnt about it last counts."""
        facts = orjson.dumps(
            {"files": [asdict(file) for file in version.files], "schema": version.schema, "note": version.note}
        )
        c, p = tables.datasets.c, tables.dataset_places.c
        now = time.time()
        with self._database.write() as connection:
            known = update(tables.datasets).where(c.hash == version.hash).values(facts=facts)
            if connection.execute(known).rowcount == 0:
                connection.execute(insert(tables.datasets).values(hash=version.hash, added=now, facts=facts))
            here = (p.hash == version.hash) & (p.path == path)
            before = connection.execute(select(p.name, p.declared).where(here)).one_or_none()
            # A launch names nothing anew that a person has named.
            kept = before is not None and before.declared and not declared
            values = {"name": before.name if kept and before else name, "declared": int(declared or kept), "seen": now}
            if before is None:
                connection.execute(insert(tables.dataset_places).values(hash=version.hash, path=path, **values))
            else:
                connection.execute(update(tables.dataset_places).where(here).values(**values))

    def get(self, dataset_hash: str) -> DatasetVersion | None:
        """Return one version by its whole hash; None if there is none."""
        found = self._read(dataset_hash)
        return found[0] if found else None

    def list(self) -> list[DatasetVersion]:
        """Return every version, the one seen last first."""
        return self._read(None)

    def places(self, path: str) -> list[Place]:
        """Return what was seen at a path, the newest first."""
        table = tables.dataset_places
        with self._database.read() as connection:
            query = select(table).where(table.c.path == path).order_by(table.c.seen.desc())
            return [_place(row) for row in connection.execute(query)]

    def remove(self, dataset_hash: str) -> bool:
        """Forget a version and its places; False if there is none. Its files are not touched."""
        with self._database.write() as connection:
            connection.execute(delete(tables.dataset_places).where(tables.dataset_places.c.hash == dataset_hash))
            done = connection.execute(delete(tables.datasets).where(tables.datasets.c.hash == dataset_hash))
            return done.rowcount > 0

    def hashes(self, paths: Iterable[str]) -> dict[str, tuple[str, str]]:
        """Return stamp and hash of the files that were hashed before, by path."""
        table = tables.file_hashes
        query = select(table.c.stamp, table.c.hash).where(table.c.path == bindparam("path"))
        with self._database.read() as connection:
            found = {path: connection.execute(query, {"path": path}).one_or_none() for path in paths}
        return {path: (row.stamp, row.hash) for path, row in found.items() if row is not None}

    def remember(self, hashes: Mapping[str, tuple[str, str]]) -> None:
        """Keep stamps and hashes of files, by path."""
        if not hashes:
            return
        table = tables.file_hashes
        with self._database.write() as connection:
            _forget(connection, hashes)
            rows = [{"path": path, "stamp": stamp, "hash": found} for path, (stamp, found) in hashes.items()]
            connection.execute(insert(table), rows)

    def hashed_paths(self) -> list[str]:
        """Return the paths of all files whose hash is kept."""
        with self._database.read() as connection:
            return list(connection.scalars(select(tables.file_hashes.c.path)))

    def forget_hashes(self, paths: Iterable[str]) -> None:
        """Drop the hashes of files."""
        with self._database.write() as connection:
            _forget(connection, paths)

    def _read(self, dataset_hash: str | None) -> list[DatasetVersion]:
        versions, places = select(tables.datasets), select(tables.dataset_places)
        if dataset_hash is not None:
            versions = versions.where(tables.datasets.c.hash == dataset_hash)
            places = places.where(tables.dataset_places.c.hash == dataset_hash)
        with self._database.read() as connection:
            found = [_version(row) for row in connection.execute(versions)]
            seen = [_place(row) for row in connection.execute(places.order_by(tables.dataset_places.c.seen.desc()))]
        by_hash: dict[str, list[Place]] = {}
        for place in seen:
            by_hash.setdefault(place.hash, []).append(place)
        order = {known: number for number, known in enumerate(by_hash)}
        found.sort(key=lambda version: order.get(version.hash, len(order)))
        return [_placed(version, by_hash.get(version.hash, [])) for version in found]


def _placed(version: DatasetVersion, places: list[Place]) -> DatasetVersion:
    # A name that someone gave goes before one that a launch took from the file's.
    names = [place.name for place in sorted(places, key=lambda place: not place.declared)]
    return replace(version, names=tuple(dict.fromkeys(names)), places=tuple(place.path for place in places))


def _version(row: Row[Any]) -> DatasetVersion:
    facts: dict[str, Any] = orjson.loads(row.facts)
    files = tuple(DatasetFile(**file) for file in facts["files"])
    return DatasetVersion(row.hash, files, facts["schema"], facts["note"], added=row.added)


def _place(row: Row[Any]) -> Place:
    return Place(row.hash, row.path, row.name, bool(row.declared), row.seen)


def _forget(connection: Connection, paths: Iterable[str]) -> None:
    gone = [{"gone": path} for path in paths]
    if gone:
        connection.execute(delete(tables.file_hashes).where(tables.file_hashes.c.path == bindparam("gone")), gone)
