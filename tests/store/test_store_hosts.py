from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from sqlalchemy import inspect, text

from verl_lab.domain.host import HostEntry, Jump
from verl_lab.domain.run import RunState, Status
from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError, NotFoundError
from verl_lab.store import RunRow, Store
from verl_lab.store.hosts import owner

if TYPE_CHECKING:
    from pathlib import Path

FINGERPRINT = "SHA256:" + "Ab+/" * 10 + "xyz"


def box(**changes: object) -> HostEntry:
    return HostEntry.of(**{"name": "box", "hostname": "gpu.example.org", **changes})


def test_a_host_comes_back_as_it_was_added(store: Store) -> None:
    entry = box(
        port=2222, user="me", identity="~/.ssh/my key", proxy_jump="a@gate:23,[::1]", runs_root="/data", auth=["key"]
    )
    store.hosts.add(entry)
    store.hosts.add(HostEntry(name="alpha", hostname="h"))
    row = store.hosts.get("box")
    assert row is not None
    assert row.entry == entry
    assert isinstance(row.entry.proxy_jump[0], Jump)
    assert row.added > 0
    assert (row.last_contact, row.host_key) == (None, None)
    assert [one.entry.name for one in store.hosts.list()] == ["alpha", "box"]
    assert store.hosts.get("no") is None


def test_a_name_is_taken_once(store: Store) -> None:
    store.hosts.add(box())
    with pytest.raises(InvalidInputError, match="there is a host 'box' already"):
        store.hosts.add(box(hostname="other"))
    row = store.hosts.get("box")
    assert row is not None
    assert row.entry == box()


def test_what_was_not_checked_is_checked_before_it_is_kept(store: Store) -> None:
    with pytest.raises(InvalidInputError, match=r"^hostname: "):
        store.hosts.add(box().model_copy(update={"hostname": "-oProxyCommand=x"}))
    assert store.hosts.list() == []


def test_editing_changes_only_what_is_said(store: Store) -> None:
    store.hosts.add(box(user="me"))
    assert store.hosts.edit("box", runs_root="/data") == box(user="me", runs_root="/data")
    for field, value in (("port", 0), ("hostname", "a;b"), ("portt", 1), ("name", "other")):
        with pytest.raises(InvalidInputError):
            store.hosts.edit("box", **{field: value})
    with pytest.raises(NotFoundError, match=r"no host 'bos'\.\nThe nearest: box"):
        store.hosts.edit("bos", port=1)
    row = store.hosts.get("box")
    assert row is not None
    assert row.entry == box(user="me", runs_root="/data")


def test_another_machine_is_a_stranger_again(store: Store) -> None:
    store.hosts.add(box())
    for changes, is_known in (
        ({"user": "you"}, True),
        ({"port": 23}, False),
        ({"hostname": "h"}, False),
        ({"proxy_jump": "g"}, False),
    ):
        store.hosts.contacted("box", 5.0)
        store.hosts.accept_key("box", FINGERPRINT)
        store.hosts.edit("box", **changes)
        row = store.hosts.get("box")
        assert row is not None
        assert (row.last_contact, row.host_key) == ((5.0, FINGERPRINT) if is_known else (None, None))


def test_contact_and_key_are_noted(store: Store) -> None:
    store.hosts.add(box())
    store.hosts.contacted("box")
    store.hosts.contacted("gone")
    store.hosts.accept_key("box", FINGERPRINT)
    row = store.hosts.get("box")
    assert row is not None
    assert row.host_key == FINGERPRINT
    assert row.last_contact is not None
    assert row.last_contact >= row.added
    with pytest.raises(InvalidInputError, match=r"^host_key: "):
        store.hosts.accept_key("box", "MD5:aa")
    with pytest.raises(NotFoundError):
        store.hosts.accept_key("gone", FINGERPRINT)


def test_a_host_with_live_runs_stays_unless_told(store: Store) -> None:
    store.hosts.add(box())
    for n in range(7):
        store.runs.upsert(RunRow(id=f"far-{n}", name="x", folder="/", host="box", created=float(n)))
    store.runs.set_status(Status("far-6", 1, RunState.COMPLETED))
    assert store.hosts.live_runs("box") == [f"far-{n}" for n in (5, 4, 3, 2, 1, 0)]
    with pytest.raises(InvalidInputError, match=r"not over: far-5, far-4, far-3, far-2, far-1 and 1 more\."):
        store.hosts.remove("box")
    assert store.hosts.get("box") is not None
    store.hosts.remove("box", with_live_runs=True)
    assert store.hosts.list() == []
    assert store.runs.get("far-0") is not None
    with pytest.raises(NotFoundError, match="no host 'box'"):
        store.hosts.remove("box")


def test_a_host_whose_runs_are_over_is_removed(store: Store) -> None:
    store.hosts.add(box())
    store.runs.upsert(RunRow(id="far", name="x", folder="/", host="box"))
    store.runs.set_status(Status("far", 1, RunState.FAILED))
    store.hosts.remove("box")
    assert store.hosts.list() == []


def test_a_host_takes_its_secrets_with_it(store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")
    secrets = store.secrets(tmp_path)
    for name in ("box", "box2"):
        store.hosts.add(HostEntry(name=name, hostname="h"))
        secrets.put(owner(name), "password", Secret("planted"))
    store.hosts.remove("box")
    assert secrets.kinds(owner("box")) == []
    assert secrets.kinds(owner("box2")) == ["password"]


def test_a_database_of_before_gets_the_tables(url: str, store: Store) -> None:
    names = ("hosts", "secret_keys", "secrets")

    def shapes() -> list[object]:
        with store._database.read() as connection:
            found = inspect(connection)
            columns = [(one["name"], str(one["type"]), one["nullable"]) for n in names for one in found.get_columns(n)]
            return [columns, *(found.get_pk_constraint(name)["constrained_columns"] for name in names)]

    new = shapes()
    with store._database.write() as connection:
        for name in names:
            connection.execute(text(f"DROP TABLE {name}"))
        connection.execute(text("UPDATE schema_version SET version = 2"))
    Store.open(url).close()
    assert shapes() == new
    store.hosts.add(box())
    assert store.runs.get("run-1") is not None
