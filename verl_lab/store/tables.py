"""The tables, as they are in the newest schema version.

A metric record is kept whole and packed: ``tail`` has one row a record, its values as float64 in
the order of its *shape* (a set of metric names, stored once for all runs). Records are then folded into
*blocks* of up to 1,024: one ``blocks`` row (steps, sequence numbers, times) and one ``chunks`` row for
each metric, so that reading one metric touches that metric's values only. Only the last block of an
attempt may hold fewer; it is rewritten until it is full.

``sqlite_with_rowid=False``: a row that is found by its key alone needs no second tree. Other databases
ignore the option.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import BigInteger, Column, Double, Index, Integer, LargeBinary, MetaData, Table, Text

metadata = MetaData()


def _key(name: str, kind: type[Integer | BigInteger | Text] = Integer) -> Column[Any]:
    return Column(name, kind, primary_key=True, autoincrement=False)


schema_version = Table("schema_version", metadata, _key("version"), Column("applied", Double, nullable=False))

runs = Table(
    "runs",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("id", Text, nullable=False, unique=True),
    Column("name", Text, nullable=False),
    Column("folder", Text, nullable=False),
    Column("host", Text, nullable=False),
    Column("kind", Text, nullable=False),
    Column("algorithm", Text),
    Column("recipe", Text),
    Column("state", Text, nullable=False),
    Column("step", BigInteger),
    Column("total", BigInteger),
    Column("reason", Text),
    Column("attempt", Integer, nullable=False),
    Column("created", Double, nullable=False),
    Column("started", Double),
    Column("updated", Double),
    Column("ended", Double),
    Column("last_shape", Integer),
    Column("last_values", LargeBinary),
    Index("runs_by_age", "created", "id"),
)

names = Table(
    "names", metadata, Column("key", Integer, primary_key=True), Column("name", Text, nullable=False, unique=True)
)

shapes = Table(
    "shapes",
    metadata,
    Column("key", Integer, primary_key=True),
    Column("digest", LargeBinary(16), nullable=False, unique=True),
    Column("names", LargeBinary, nullable=False),
)

files = Table(
    "files",
    metadata,
    _key("run"),
    _key("attempt"),
    _key("file", Text),
    Column("generation", Integer, nullable=False),
    Column("offset", BigInteger, nullable=False),
    Column("fingerprint", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

attempts = Table(
    "attempts",
    metadata,
    _key("run"),
    _key("attempt"),
    Column("generation", Integer, nullable=False),
    Column("resumed_from", BigInteger),
    Column("first_step", BigInteger),
    sqlite_with_rowid=False,
)

tail = Table(
    "tail",
    metadata,
    _key("run"),
    _key("attempt"),
    _key("generation"),
    _key("offset", BigInteger),
    Column("seq", BigInteger, nullable=False),
    Column("step", BigInteger, nullable=False),
    Column("time", Double),
    Column("shape", Integer, nullable=False),
    Column("values", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

blocks = Table(
    "blocks",
    metadata,
    _key("run"),
    _key("attempt"),
    _key("generation"),
    _key("block"),
    Column("rows", Integer, nullable=False),
    Column("metrics", LargeBinary, nullable=False),
    Column("first_step", BigInteger, nullable=False),
    Column("last_step", BigInteger, nullable=False),
    Column("steps", LargeBinary, nullable=False),
    Column("seqs", LargeBinary, nullable=False),
    Column("times", LargeBinary),
    sqlite_with_rowid=False,
)

chunks = Table(
    "chunks",
    metadata,
    _key("run"),
    _key("metric"),
    _key("attempt"),
    _key("generation"),
    _key("block"),
    Column("present", LargeBinary),
    Column("values", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

events = Table(
    "events",
    metadata,
    _key("run"),
    _key("attempt"),
    _key("generation"),
    _key("file", Text),
    _key("offset", BigInteger),
    Column("seq", BigInteger, nullable=False),
    Column("time", Double),
    Column("kind", Text, nullable=False),
    Column("step", BigInteger),
    Column("source", Text, nullable=False),
    Column("data", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

quarantine = Table(
    "quarantine",
    metadata,
    _key("run"),
    _key("attempt"),
    _key("generation"),
    _key("file", Text),
    _key("offset", BigInteger),
    _key("part"),
    Column("metric", LargeBinary),
    Column("reason", LargeBinary, nullable=False),
    Column("text", LargeBinary),
    sqlite_with_rowid=False,
)

datasets = Table(
    "datasets",
    metadata,
    _key("hash", Text),
    Column("added", Double, nullable=False),
    Column("facts", LargeBinary, nullable=False),
    sqlite_with_rowid=False,
)

# ``declared``: someone said that this content is what the path holds, so that another one there is a surprise.
dataset_places = Table(
    "dataset_places",
    metadata,
    _key("hash", Text),
    _key("path", Text),
    Column("name", Text, nullable=False),
    Column("declared", Integer, nullable=False),
    Column("seen", Double, nullable=False),
    sqlite_with_rowid=False,
)

# ``stamp``: device, inode, size and times that the file had when its bytes were hashed.
file_hashes = Table(
    "file_hashes",
    metadata,
    _key("path", Text),
    Column("stamp", Text, nullable=False),
    Column("hash", Text, nullable=False),
    sqlite_with_rowid=False,
)

hosts = Table(
    "hosts",
    metadata,
    _key("name", Text),
    Column("entry", LargeBinary, nullable=False),
    Column("added", Double, nullable=False),
    Column("last_contact", Double),
    Column("host_key", Text),
    sqlite_with_rowid=False,
)

# The keys themselves are in the keyring or in files. ``active``: new secrets may be encrypted with it.
secret_keys = Table(
    "secret_keys",
    metadata,
    _key("id", Text),
    Column("place", Text, nullable=False),
    Column("made", Double, nullable=False),
    Column("active", Integer, nullable=False),
    sqlite_with_rowid=False,
)

secrets = Table(
    "secrets",
    metadata,
    _key("owner", Text),
    _key("kind", Text),
    Column("key", Text, nullable=False),
    Column("ciphertext", LargeBinary, nullable=False),
    Column("updated", Double, nullable=False),
    sqlite_with_rowid=False,
)
