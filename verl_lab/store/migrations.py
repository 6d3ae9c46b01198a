"""Brings a database to the newest schema, one numbered step after the other, in one transaction."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, inspect, select, text

from verl_lab.errors import StoreError
from verl_lab.store import tables

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import Connection


def add_datasets(connection: Connection) -> None:
    """Version 2: what data sets there are, and the hashes of files that were read."""
    blob = "BYTEA" if connection.dialect.name == "postgresql" else "BLOB"
    rowid = " WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    real = "DOUBLE PRECISION NOT NULL"
    columns = f"hash TEXT NOT NULL, added {real}, facts {blob} NOT NULL, PRIMARY KEY (hash)"
    connection.execute(text(f"CREATE TABLE datasets ({columns}){rowid}"))
    columns = f"hash TEXT NOT NULL, path TEXT NOT NULL, name TEXT NOT NULL, declared INTEGER NOT NULL, seen {real}"
    connection.execute(text(f"CREATE TABLE dataset_places ({columns}, PRIMARY KEY (hash, path)){rowid}"))
    columns = "path TEXT NOT NULL, stamp TEXT NOT NULL, hash TEXT NOT NULL, PRIMARY KEY (path)"
    connection.execute(text(f"CREATE TABLE file_hashes ({columns}){rowid}"))


def add_hosts(connection: Connection) -> None:
    """Version 3: hosts, and their secrets, encrypted."""
    blob, real = ("BYTEA", "DOUBLE PRECISION") if connection.dialect.name == "postgresql" else ("BLOB", "DOUBLE")
    rowid = " WITHOUT ROWID" if connection.dialect.name == "sqlite" else ""
    columns = f"name TEXT NOT NULL, entry {blob} NOT NULL, added {real} NOT NULL, last_contact {real}, host_key TEXT"
    connection.execute(text(f"CREATE TABLE hosts ({columns}, PRIMARY KEY (name)){rowid}"))
    columns = f"id TEXT NOT NULL, place TEXT NOT NULL, made {real} NOT NULL, active INTEGER NOT NULL"
    connection.execute(text(f"CREATE TABLE secret_keys ({columns}, PRIMARY KEY (id)){rowid}"))
    columns = f"owner TEXT NOT NULL, kind TEXT NOT NULL, key TEXT NOT NULL, ciphertext {blob} NOT NULL"
    columns = f"{columns}, updated {real} NOT NULL, PRIMARY KEY (owner, kind)"
    connection.execute(text(f"CREATE TABLE secrets ({columns}){rowid}"))


# Version n+1 is reached from version n by STEPS[n - 1]. A step spells its statements out instead of using
# ``tables``, which describe the newest version only. A database without any table starts at the newest version.
STEPS: tuple[Callable[[Connection], None], ...] = (add_datasets, add_hosts)
NEWEST = 1 + len(STEPS)


def is_newest(connection: Connection) -> bool:
    """Say whether there is nothing to migrate; who only reads that waits for no writer."""
    return inspect(connection).has_table(tables.schema_version.name) and _version(connection) == NEWEST


def migrate(connection: Connection) -> None:
    """Make or update the tables, inside the caller's write transaction.

    Raises
    ------
    StoreError
        If the database was made by a newer verl-lab, or holds tables of something else.
    """
    present = set(inspect(connection).get_table_names())
    version = tables.schema_version
    if version.name not in present:
        foreign = present & set(tables.metadata.tables)
        if foreign:
            raise StoreError(
                f"The database has tables that are not verl-lab's: {', '.join(sorted(foreign))}.",
                "Give verl-lab a database of its own (VERL_LAB_DATABASE).",
            )
        tables.metadata.create_all(connection, checkfirst=False)
        connection.execute(insert(version).values(version=NEWEST, applied=time.time()))
        return
    found = _version(connection)
    if found > NEWEST:
        raise StoreError(
            f"The database is at schema version {found}; this verl-lab knows versions up to {NEWEST}.",
            "Upgrade verl-lab, or point VERL_LAB_DATABASE at another database.",
        )
    for step in range(found, NEWEST):
        STEPS[step - 1](connection)
        connection.execute(insert(version).values(version=step + 1, applied=time.time()))


def _version(connection: Connection) -> int:
    return connection.scalar(select(func.max(tables.schema_version.c.version))) or 0
