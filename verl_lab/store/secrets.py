"""Passwords and passphrases, encrypted: the database holds ciphertext alone, the keys are kept elsewhere."""

from __future__ import annotations

import contextlib
import logging
import re
import secrets as randomness
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, exists, insert, select, update

from verl_lab.domain.secret import Secret
from verl_lab.errors import EnvironmentMismatchError, StoreError
from verl_lab.inputs import Shape
from verl_lab.store import tables
from verl_lab.store.key_places import FileKeys, KeyringKeys, NoAnswerError

try:
    from cryptography.fernet import Fernet, InvalidToken
except ModuleNotFoundError as error:
    raise EnvironmentMismatchError(
        "Secrets cannot be kept here: the package cryptography is not installed.",
        "Install it: pip install cryptography; or use a key without passphrase, or an agent.",
    ) from error

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from sqlalchemy import Column, Connection, Row

    from verl_lab.store.engine import Database
    from verl_lab.store.key_places import KeyPlace

_OWNER = Shape(re.compile(r"[a-z]+:[A-Za-z0-9._-]+"), 100, "It is what has the secret, like host:box.")
_KIND = Shape(re.compile(r"[a-z]+"), 32, "It is what the secret is, like password or passphrase.")
_TRIES = 20
_BUSY = "The secrets' key was changed by others meanwhile."
_KEYS = tables.secret_keys
_UNUSED = ~exists().where(tables.secrets.c.key == _KEYS.c.id)

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rotation:
    """What a change of keys did.

    Attributes
    ----------
    renewed
        How many secrets are encrypted with the new key.
    left
        How many are not, since their key is not on this machine or could not be asked for.
    place
        Where the new key is: ``keyring`` or ``file``.
    """

    renewed: int
    left: int
    place: str


class Secrets:
    """Secrets by their owner (``host:box``) and kind (``password``).

    Each key has an id. Every step that a crash can come after leaves all secrets readable: a key is kept before
    anything is encrypted with it, and is deleted after nothing is.

    Parameters
    ----------
    home
        The lab's folder; keys that are in no keyring are in ``keys`` there.
    places
        Where keys may be, the preferred place first.
    """

    def __init__(self, database: Database, home: Path, places: Mapping[str, KeyPlace] | None = None) -> None:
        self._database = database
        self._places = places or {"keyring": KeyringKeys(), "file": FileKeys(home / "keys")}
        self._keys: dict[str, Secret] = {}

    def put(self, owner: str, kind: str, value: Secret) -> None:
        """Keep a secret, in place of an older one.

        Raises
        ------
        StoreError
            The key cannot be read or made.
        """
        label = _label(owner, kind)
        c = tables.secrets.c
        for _ in range(_TRIES):
            key_id, known = self._newest_key()
            key_id = key_id or self._new_key(known)
            if key_id is None:
                continue
            ciphertext = _sealed(self._keys[key_id], label, value)
            row = {"owner": owner, "kind": kind, "key": key_id, "ciphertext": ciphertext, "updated": time.time()}
            with self._database.write() as connection:
                if key_id not in _active(connection):  # someone rotated the keys just now
                    continue
                connection.execute(delete(tables.secrets).where(c.owner == owner, c.kind == kind))
                connection.execute(insert(tables.secrets).values(**row))
                return
        raise StoreError(_BUSY, "Try again.")

    def get(self, owner: str, kind: str) -> Secret | None:
        """Return a secret; None if there is none.

        Raises
        ------
        StoreError
            Its key is not on this machine or is open to others, or what is stored is damaged.
        """
        label = _label(owner, kind)
        for _ in range(_TRIES):
            row = self._row(owner, kind)
            if row is None:
                return None
            key = self._key(row.key, row.place)
            if key is not None:
                return _opened(key, label, row.ciphertext)
            again = self._row(owner, kind)
            if again is not None and again.key == row.key:
                break
        raise StoreError(
            f"The {kind} of {owner} cannot be read: its key is not on this machine.", "Give the secret again."
        )

    def kinds(self, owner: str) -> list[str]:
        """Return which secrets someone has."""
        c = tables.secrets.c
        with self._database.read() as connection:
            return list(connection.scalars(select(c.kind).where(c.owner == owner).order_by(c.kind)))

    def remove(self, owner: str, kind: str) -> bool:
        """Forget a secret; False if there is none."""
        c = tables.secrets.c
        with self._database.write() as connection:
            gone = connection.execute(delete(tables.secrets).where(c.owner == owner, c.kind == kind))
            return gone.rowcount > 0

    def rotate(self) -> Rotation:
        """Encrypt every secret anew with a new key, in one transaction, and delete the keys that nothing needs.

        Raises
        ------
        StoreError
            The new key cannot be kept, or a secret is damaged; then all is as it was.
        """
        new = self._new_key(None)
        if new is None:
            raise StoreError(_BUSY, "Try again.")
        try:
            done = self._encrypt_with(new)
        except BaseException:
            with self._database.write() as connection:
                connection.execute(update(_KEYS).where(_KEYS.c.id == new, _UNUSED).values(active=0))
            self._sweep()
            raise
        self._sweep()
        return done

    def _encrypt_with(self, new: str) -> Rotation:
        for _ in range(_TRIES):
            asked = self._ids()
            keys = {key_id: key for key_id, place in asked.items() if (key := self._key_if_here(key_id, place))}
            with self._database.write() as connection:
                rows = connection.execute(select(tables.secrets)).all()
                if {row.key for row in rows} - asked.keys():  # encrypted just now, with a key made just now
                    continue
                if new not in _active(connection):  # another change of keys overtook this one
                    break
                here = [row for row in rows if row.key in keys]
                for row in here:
                    _renew(connection, row, keys[row.key], new, keys[new])
                old = keys.keys() - {new}
                connection.execute(update(_KEYS).where(_KEYS.c.id.in_(old)).values(active=0))
            return Rotation(len(here), len(rows) - len(here), asked[new])
        raise StoreError(_BUSY, "Try again.")

    def _newest_key(self) -> tuple[str | None, set[str]]:
        """Return the newest active key that is here, and which active ones there are."""
        query = select(_KEYS).where(_KEYS.c.active == 1).order_by(_KEYS.c.made.desc(), _KEYS.c.id)
        with self._database.read() as connection:
            rows = connection.execute(query).all()
        found = (row.id for row in rows if self._key_if_here(row.id, row.place) is not None)
        return next(found, None), {row.id for row in rows}

    def _new_key(self, known: set[str] | None) -> str | None:
        """Make a key in the first place that works, and return its id.

        None if another process has made one meanwhile that is not among those ``known``; where that is None,
        it is made all the same.
        """
        key_id, key = randomness.token_hex(8), Secret(Fernet.generate_key().decode())
        refused: NoAnswerError | None = None
        for name, place in self._places.items():
            # Known before it is there, so that one that is left behind by a crash is deleted some day.
            with self._database.write() as connection:
                connection.execute(insert(_KEYS).values(id=key_id, place=name, made=time.time(), active=0))
            try:
                place.write(key_id, key)
            except StoreError as error:
                self._forget(key_id)
                if not isinstance(error, NoAnswerError):
                    raise
                _log.info("Keys are not kept in the %s: %s", name, error.message)
                refused = error
                continue
            with self._database.write() as connection:
                if known is None or not _active(connection) - known:
                    now = update(_KEYS).where(_KEYS.c.id == key_id).values(active=1, made=time.time())
                    if connection.execute(now).rowcount:
                        self._keys[key_id] = key
                        return key_id
            with contextlib.suppress(NoAnswerError):
                place.delete(key_id)
            self._forget(key_id)
            return None
        raise StoreError("There is no place to keep the key of the secrets in.") from refused

    def _sweep(self) -> None:
        """Delete the keys that nothing is encrypted with, nor will be."""
        with self._database.read() as connection:
            rows = connection.execute(select(_KEYS).where(_KEYS.c.active == 0, _UNUSED)).all()
        for row in rows:
            place = self._places.get(row.place)
            try:
                if place is not None:
                    place.delete(row.id)
            except NoAnswerError as error:
                _log.info("An old key stays in the %s until the next change of keys: %s", row.place, error.message)
                continue
            self._forget(row.id)

    def _forget(self, key_id: str) -> None:
        self._keys.pop(key_id, None)
        with self._database.write() as connection:
            connection.execute(delete(_KEYS).where(_KEYS.c.id == key_id, _KEYS.c.active == 0))

    def _ids(self) -> dict[str, str]:
        """Return the place of each key, by its id."""
        with self._database.read() as connection:
            return {row.id: row.place for row in connection.execute(select(_KEYS))}

    def _key(self, key_id: str, place: str) -> Secret | None:
        if key_id not in self._keys:
            found = self._places[place].read(key_id) if place in self._places else None
            if found is None:
                return None
            self._keys[key_id] = found
        return self._keys[key_id]

    def _key_if_here(self, key_id: str, place: str) -> Secret | None:
        try:
            return self._key(key_id, place)
        except NoAnswerError:
            return None

    def _row(self, owner: str, kind: str) -> Row[Any] | None:
        c = tables.secrets.c
        columns: list[Column[Any]] = [c.key, c.ciphertext, _KEYS.c.place]
        query = select(*columns).join_from(tables.secrets, _KEYS, c.key == _KEYS.c.id)
        with self._database.read() as connection:
            return connection.execute(query.where(c.owner == owner, c.kind == kind)).one_or_none()


def _active(connection: Connection) -> set[str]:
    return set(connection.scalars(select(_KEYS.c.id).where(_KEYS.c.active == 1)))


def _label(owner: str, kind: str) -> bytes:
    """Return what is encrypted in front of a secret, so that its row cannot be given to another owner."""
    return f"{_OWNER.check('owner', owner)}\n{_KIND.check('kind', kind)}\n".encode()


def _sealed(key: Secret, label: bytes, value: Secret) -> bytes:
    return Fernet(key.reveal()).encrypt(label + value.reveal().encode())


def _opened(key: Secret, label: bytes, ciphertext: bytes) -> Secret:
    found = _decrypted(key, label, ciphertext)
    if found is None:
        owner, kind, _ = label.decode().split("\n")
        raise StoreError(f"The {kind} of {owner} is damaged in the database.", "Give the secret again.")
    return found


def _decrypted(key: Secret, label: bytes, ciphertext: bytes) -> Secret | None:
    # Apart from who raises: no frame of a traceback holds the text.
    try:
        plain = Fernet(key.reveal()).decrypt(ciphertext)
    except InvalidToken:
        return None
    return Secret(plain[len(label) :].decode()) if plain.startswith(label) else None


def _renew(connection: Connection, row: Row[Any], old: Secret, new_id: str, new: Secret) -> None:
    c = tables.secrets.c
    label = _label(row.owner, row.kind)
    ciphertext = _sealed(new, label, _opened(old, label, row.ciphertext))
    here = update(tables.secrets).where(c.owner == row.owner, c.kind == row.kind)
    connection.execute(here.values(key=new_id, ciphertext=ciphertext))
