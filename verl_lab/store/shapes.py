"""Metric names as numbers, and sets of them as shapes, shared by all runs."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, TypeVar

from sqlalchemy import insert, select

from verl_lab.store import packing, tables

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from sqlalchemy import Connection

T = TypeVar("T")

LONGEST_NAME = 500
_QUERY_SIZE = 500


def why_no_name(name: str) -> str | None:
    """Return why a metric name cannot be stored; None if it can."""
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters; {LONGEST_NAME} are the most"
    if "\0" in name:
        return "its name holds a NUL character"
    try:
        name.encode()
    except UnicodeEncodeError:
        return "its name is no Unicode text"
    return None


class Shapes:
    """Numbers of names and shapes, remembered: they never change once committed.

    New ones made in a transaction are kept aside until ``committed`` says that they exist, so that
    a transaction that failed leaves nothing behind.
    """

    def __init__(self) -> None:
        self._key_of_name: dict[str, int] = {}
        self._key_of_shape: dict[tuple[str, ...], int] = {}
        self._names_of_shape: dict[int, tuple[str, ...]] = {}

    def known(self, names: tuple[str, ...]) -> int | None:
        """Return a shape's key if it is remembered."""
        return self._key_of_shape.get(names)

    def keys(self, connection: Connection, wanted: Collection[tuple[str, ...]]) -> dict[tuple[str, ...], int]:
        """Return the keys of shapes, making those that do not exist yet."""
        found = {names: key for names in wanted if (key := self._key_of_shape.get(names)) is not None}
        missing = [names for names in dict.fromkeys(wanted) if names not in found]
        if missing:
            numbers = self.name_keys(connection, {name for names in missing for name in names}, make=True)
            for names in missing:
                found[names] = _shape_key(connection, [numbers[name] for name in names])
        return found

    def committed(self, made: dict[tuple[str, ...], int]) -> None:
        """Remember keys whose transaction has been committed."""
        for names, key in made.items():
            self._key_of_shape[names] = key
            self._names_of_shape[key] = names

    def names(self, connection: Connection, shapes: Iterable[int]) -> dict[int, tuple[str, ...]]:
        """Return the metric names of shapes, in the order of their values."""
        wanted = set(shapes)
        found = {key: self._names_of_shape[key] for key in wanted if key in self._names_of_shape}
        missing = sorted(wanted - set(found))
        packed = self.metrics(connection, missing)
        numbers = sorted({number for keys in packed.values() for number in keys})
        name_of: dict[int, str] = {}
        for part in _parts(numbers):
            rows = connection.execute(select(tables.names).where(tables.names.c.key.in_(part)))
            name_of.update({row.key: row.name for row in rows})
        for key, keys in packed.items():
            found[key] = tuple(name_of[number] for number in keys)
        return found

    def metrics(self, connection: Connection, shapes: Iterable[int]) -> dict[int, list[int]]:
        """Return the keys of the names of shapes, in the order of their values."""
        found: dict[int, list[int]] = {}
        table = tables.shapes
        for part in _parts(sorted(set(shapes))):
            rows = connection.execute(select(table.c.key, table.c.names).where(table.c.key.in_(part)))
            found.update({row.key: packing.unpack_keys(row.names) for row in rows})
        return found

    def remember(self, found: dict[int, tuple[str, ...]]) -> None:
        """Remember names read outside a write transaction."""
        self._names_of_shape.update(found)

    def name_keys(self, connection: Connection, names: Iterable[str], *, make: bool = False) -> dict[str, int]:
        """Return the keys of metric names; those that do not exist are made or left out."""
        wanted = set(names)
        found = {name: key for name in wanted if (key := self._key_of_name.get(name)) is not None}
        table = tables.names
        for part in _parts(sorted(wanted - set(found))):
            rows = connection.execute(select(table.c.name, table.c.key).where(table.c.name.in_(part)))
            found.update({row.name: row.key for row in rows})
        missing = sorted(wanted - set(found))
        if make and missing:
            connection.execute(insert(table), [{"name": name} for name in missing])
            return self.name_keys(connection, wanted)
        return found

    def remember_names(self, found: dict[str, int]) -> None:
        """Remember keys of names read outside a write transaction."""
        self._key_of_name.update(found)


def _shape_key(connection: Connection, numbers: list[int]) -> int:
    packed = packing.pack_keys(numbers)
    digest = hashlib.blake2b(packed, digest_size=16).digest()
    table = tables.shapes
    key = connection.scalar(select(table.c.key).where(table.c.digest == digest))
    if key is None:
        made = connection.execute(insert(table).values(digest=digest, names=packed)).inserted_primary_key
        key = int(made[0]) if made is not None else 0
    return key


def _parts(items: Sequence[T]) -> Iterable[Sequence[T]]:
    return (items[i : i + _QUERY_SIZE] for i in range(0, len(items), _QUERY_SIZE))
