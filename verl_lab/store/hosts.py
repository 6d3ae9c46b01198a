"""The hosts' own rows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, NamedTuple

import orjson
from sqlalchemy import delete, insert, select, update

from verl_lab.domain.host import FINGERPRINT, NAME, HostEntry
from verl_lab.domain.run import RunState
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.store import tables

if TYPE_CHECKING:
    from sqlalchemy import Connection, Row

    from verl_lab.store.engine import Database

_LIVE = [state.value for state in RunState if state.is_live]
_SHOWN_RUNS = 5


class HostRow(NamedTuple):
    """What the index holds about one host.

    Attributes
    ----------
    added, last_contact
        Unix times in seconds; ``last_contact`` is None until it answered once.
    host_key
        Fingerprint of the key that was accepted for it (``SHA256:…``); None until one was.
    """

    entry: HostEntry
    added: float
    last_contact: float | None = None
    host_key: str | None = None


class Hosts:
    """The machines that are reached over SSH. No secret is among what is kept here."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, entry: HostEntry) -> None:
        """Add a host.

        Raises
        ------
        InvalidInputError
            There is one of that name, or a field holds what it may not.
        """
        row = {"name": entry.name, "entry": _packed(entry), "added": time.time()}
        with self._database.write() as connection:
            if _row(connection, entry.name) is not None:
                raise InvalidInputError(f"name: there is a host {entry.name!r} already.", "Edit it, or take another.")
            connection.execute(insert(tables.hosts).values(**row))

    def edit(self, name: str, /, **changes: Any) -> HostEntry:
        """Change fields of a host and return it.

        With another address, port or way there it is another machine: what was accepted and learnt of the
        old one is forgotten.

        Raises
        ------
        NotFoundError
            There is none of that name.
        InvalidInputError
            A field is unknown, or holds what it may not.
        """
        c = tables.hosts.c
        with self._database.write() as connection:
            before = _host(_present(connection, name)).entry
            entry = before.changed(**changes)
            values: dict[str, Any] = {"entry": _packed(entry)}
            if entry.machine != before.machine:
                values |= {"last_contact": None, "host_key": None}
            connection.execute(update(tables.hosts).where(c.name == name).values(**values))
        return entry

    def get(self, name: str) -> HostRow | None:
        """Return a host; None if there is none of that name."""
        with self._database.read() as connection:
            row = _row(connection, name)
        return None if row is None else _host(row)

    def list(self) -> list[HostRow]:
        """Return all hosts by name."""
        with self._database.read() as connection:
            return [_host(row) for row in connection.execute(select(tables.hosts).order_by(tables.hosts.c.name))]

    def remove(self, name: str, *, with_live_runs: bool = False) -> None:
        """Forget a host and its secrets. Its runs stay in the index, and their folders on the host.

        Parameters
        ----------
        with_live_runs
            Do it although runs are not over there: they go on, and are seen again once it is added again.

        Raises
        ------
        NotFoundError
            There is none of that name.
        InvalidInputError
            Runs there are not over.
        """
        with self._database.write() as connection:
            _present(connection, name)
            live = _live_runs(connection, name)
            if live and not with_live_runs:
                more = f" and {len(live) - _SHOWN_RUNS} more" if len(live) > _SHOWN_RUNS else ""
                raise InvalidInputError(
                    f"name: on {name!r} runs are not over: {', '.join(live[:_SHOWN_RUNS])}{more}.",
                    "Stop them first, or say that they shall go on unwatched.",
                )
            connection.execute(delete(tables.secrets).where(tables.secrets.c.owner == owner(name)))
            connection.execute(delete(tables.hosts).where(tables.hosts.c.name == name))

    def live_runs(self, name: str) -> list[str]:
        """Return the ids of the runs on a host that are not over, newest first."""
        with self._database.read() as connection:
            return _live_runs(connection, name)

    def contacted(self, name: str, at: float | None = None) -> None:
        """Note that a host answered, now or at a Unix time; one that was removed meanwhile is none to note."""
        values = {"last_contact": time.time() if at is None else at}
        with self._database.write() as connection:
            connection.execute(update(tables.hosts).where(tables.hosts.c.name == name).values(**values))

    def accept_key(self, name: str, fingerprint: str) -> None:
        """Note which key of a host the user accepted, by its fingerprint.

        Raises
        ------
        NotFoundError
            There is none of that name.
        InvalidInputError
            That is no fingerprint.
        """
        FINGERPRINT.check("host_key", fingerprint)
        with self._database.write() as connection:
            _present(connection, name)
            connection.execute(update(tables.hosts).where(tables.hosts.c.name == name).values(host_key=fingerprint))


def owner(name: str) -> str:
    """Name whom a host's secrets belong to, as ``Secrets`` takes it."""
    return f"host:{name}"


def _packed(entry: HostEntry) -> bytes:
    # Checked once more: pydantic's model_copy and model_construct check nothing.
    return orjson.dumps(HostEntry.of(**entry.model_dump()).model_dump())


def _host(row: Row[Any]) -> HostRow:
    return HostRow(HostEntry.of(**orjson.loads(row.entry)), row.added, row.last_contact, row.host_key)


def _row(connection: Connection, name: str) -> Row[Any] | None:
    if not NAME.pattern.fullmatch(name):  # nor could every such text be asked for
        return None
    return connection.execute(select(tables.hosts).where(tables.hosts.c.name == name)).one_or_none()


def _present(connection: Connection, name: str) -> Row[Any]:
    row = _row(connection, name)
    if row is None:
        raise NotFoundError.of("host", name, connection.scalars(select(tables.hosts.c.name)))
    return row


def _live_runs(connection: Connection, name: str) -> list[str]:
    c = tables.runs.c
    query = select(c.id).where(c.host == name, c.state.in_(_LIVE), c.kind == "run").order_by(c.created.desc())
    return list(connection.scalars(query))
