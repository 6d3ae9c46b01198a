from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import select, text, update

from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError, StoreError
from verl_lab.store import Store, tables
from verl_lab.store.key_places import FileKeys, NoAnswerError
from verl_lab.store.secrets import Secrets

if TYPE_CHECKING:
    import random
    from collections.abc import Callable

BESIDE = Path(__file__).parent / "programs" / "secrets_beside.py"
PLANTED = "planted-5f0d-password"


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


@pytest.fixture
def secrets(store: Store, home: Path) -> Secrets:
    return store.secrets(home)


def key_ids(store: Store, *, active: int) -> set[str]:
    c = tables.secret_keys.c
    with store._database.read() as connection:
        return set(connection.scalars(select(c.id).where(c.active == active)))


def key_files(home: Path) -> set[str]:
    return {path.name for path in (home / "keys").iterdir()}


def reveal(secrets: Secrets, owner: str, kind: str = "password") -> str | None:
    found = secrets.get(owner, kind)
    return None if found is None else found.reveal()


def beside(url: str, home: Path, task: str, name: str, start_at: float = 0.0) -> subprocess.Popen[bytes]:
    argv = [sys.executable, str(BESIDE), url, str(home), task, name, str(start_at)]
    return subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def test_a_secret_comes_back_and_is_replaced(secrets: Secrets, store: Store, home: Path) -> None:
    assert secrets.get("host:box", "password") is None
    secrets.put("host:box", "password", Secret("first"))
    secrets.put("host:box", "password", Secret(PLANTED))
    secrets.put("host:box", "passphrase", Secret("ü \n '\";--"))
    assert reveal(secrets, "host:box") == PLANTED
    assert reveal(store.secrets(home), "host:box", "passphrase") == "ü \n '\";--"
    assert secrets.kinds("host:box") == ["passphrase", "password"]
    assert secrets.remove("host:box", "password")
    assert not secrets.remove("host:box", "password")
    assert secrets.get("host:box", "password") is None
    assert len(key_ids(store, active=1)) == 1


@pytest.mark.parametrize(
    ("owner", "kind"),
    [("box", "password"), ("host:a\nb", "password"), ("host:a", "pass\nword"), ("", ""), ("host:a", "A")],
)
def test_owners_and_kinds_have_a_shape(secrets: Secrets, owner: str, kind: str) -> None:
    with pytest.raises(InvalidInputError):
        secrets.put(owner, kind, Secret("x"))
    with pytest.raises(InvalidInputError):
        secrets.get(owner, kind)


def test_a_secret_is_nowhere_in_the_clear(tmp_path: Path) -> None:
    """Search all files, arguments and environments for it, through a whole life of a secret."""
    home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'lab.db'}"
    store = Store.open(url)
    secrets = store.secrets(home)
    for n in range(50):
        secrets.put(f"host:box{n}", "password", Secret(f"{PLANTED}-{n}"))
    before = {path.name: path.read_bytes() for path in (home / "keys").iterdir()}
    secrets.rotate()
    secrets.remove("host:box1", "password")
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {"lab.db", "lab.db-wal"} <= {path.name for path in files}
    store.close()
    files += [path for path in tmp_path.rglob("*") if path.is_file()]
    held = [path.read_bytes() for path in files if path.exists()]
    processes = [path.read_bytes() for n in ("cmdline", "environ") for path in [Path("/proc/self") / n]]
    assert not [found for found in [*held, *processes] if PLANTED.encode() in found]
    (old_key,) = before.values()
    assert not [found for found in held if old_key in found]


def test_no_error_shows_a_secret_or_a_key(
    secrets: Secrets, store: Store, home: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    secrets.put("host:box", "password", Secret(PLANTED))
    (file,) = (home / "keys").iterdir()
    key = file.read_text()
    with store._database.write() as connection:
        connection.execute(update(tables.secrets).values(ciphertext=b"gAAAAA-damaged"))
    said: list[str] = [caplog.text, repr(secrets), str(vars(secrets))]
    for task in (lambda: secrets.get("host:box", "password"), secrets.rotate):
        with pytest.raises(StoreError, match="password of host:box is damaged") as caught:
            task()
        said += traceback.TracebackException.from_exception(caught.value, capture_locals=True).format()
    with store._database.write() as connection:
        connection.execute(text("DROP TABLE secrets"))
    with pytest.raises(StoreError) as refused:
        secrets.put("host:box", "password", Secret(PLANTED))
    said += traceback.TracebackException.from_exception(refused.value, capture_locals=True).format()
    ours = [part for part in said if Path(__file__).name not in part]  # this test's own variables hold it
    assert [part for part in ours if "in put" in part]
    assert not [part for part in ours if PLANTED in part or key in part]


def test_a_secret_cannot_be_given_to_another_owner(secrets: Secrets, store: Store) -> None:
    secrets.put("host:box", "password", Secret(PLANTED))
    with store._database.write() as connection:
        connection.execute(update(tables.secrets).values(owner="host:evil"))
    with pytest.raises(StoreError, match="damaged"):
        secrets.get("host:evil", "password")


def test_a_key_that_others_can_read_is_refused_with_what_mends_it(secrets: Secrets, store: Store, home: Path) -> None:
    secrets.put("host:box", "password", Secret(PLANTED))
    (file,) = (home / "keys").iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert file.parent.stat().st_mode & 0o777 == 0o700
    for mode in (0o640, 0o604, 0o620, 0o666, 0o610):
        file.chmod(mode)
        fresh = store.secrets(home)
        for task in (
            lambda s=fresh: s.get("host:box", "password"),
            lambda s=fresh: s.put("host:b", "password", Secret("x")),
            fresh.rotate,
        ):
            with pytest.raises(StoreError, match=f"mode {mode:04o}") as caught:
                task()
            assert f"chmod 600 {file}" in (caught.value.hint or "")
    subprocess.run((caught.value.hint or "").partition(",")[0].removeprefix("Run: ").split(), check=True)
    assert reveal(store.secrets(home), "host:box") == PLANTED
    assert len(key_files(home)) <= 1 + 5  # what a refused change of keys made, until the next one


def test_a_key_of_another_user_or_a_link_is_refused(secrets: Secrets, store: Store, home: Path) -> None:
    secrets.put("host:box", "password", Secret(PLANTED))
    (file,) = (home / "keys").iterdir()
    kept = file.rename(home / "elsewhere")
    file.symlink_to(kept)
    with pytest.raises(StoreError, match="Could not read"):
        store.secrets(home).get("host:box", "password")
    file.unlink()
    os.mkfifo(file, 0o600)
    with pytest.raises(StoreError, match="no plain file"):
        store.secrets(home).get("host:box", "password")
    file.unlink()
    kept.rename(file)
    if os.geteuid() == 0:  # only root can give a file away
        os.chown(file, 65534, 65534)
        with pytest.raises(StoreError, match="another user"):
            store.secrets(home).get("host:box", "password")


def test_a_key_that_is_gone_is_said_and_a_new_secret_gets_a_new_one(secrets: Secrets, store: Store, home: Path) -> None:
    secrets.put("host:box", "password", Secret(PLANTED))
    for file in (home / "keys").iterdir():
        file.unlink()
    fresh = store.secrets(home)
    with pytest.raises(StoreError, match="its key is not on this machine") as caught:
        fresh.get("host:box", "password")
    assert "Give the secret again" in (caught.value.hint or "")
    fresh.put("host:other", "password", Secret("other"))
    rotation = fresh.rotate()
    assert (rotation.renewed, rotation.left, rotation.place) == (1, 1, "file")
    fresh.put("host:box", "password", Secret("again"))
    assert (reveal(fresh, "host:box"), reveal(fresh, "host:other")) == ("again", "other")
    assert fresh.rotate().left == 0


def test_a_folder_that_cannot_be_written_is_said(secrets: Secrets, home: Path) -> None:
    home.write_text("a file where the folder should be")
    with pytest.raises(StoreError, match="Could not write"):
        secrets.put("host:box", "password", Secret(PLANTED))


def test_rotating_encrypts_all_anew_and_leaves_one_key(secrets: Secrets, store: Store, home: Path) -> None:
    for n in range(20):
        secrets.put(f"host:box{n}", "password", Secret(f"{PLANTED}-{n}"))
    old_keys, other = key_files(home), store.secrets(home)
    assert reveal(other, "host:box3") == f"{PLANTED}-3"
    with store._database.read() as connection:
        old = set(connection.scalars(select(tables.secrets.c.ciphertext)))
    assert secrets.rotate().renewed == 20
    with store._database.read() as connection:
        new = set(connection.scalars(select(tables.secrets.c.ciphertext)))
    assert not old & new
    assert len(key_files(home)) == 1
    assert not key_files(home) & old_keys
    # One that read before goes on, with what it remembers and what it writes.
    assert reveal(other, "host:box3") == f"{PLANTED}-3"
    other.put("host:late", "password", Secret("late"))
    assert reveal(secrets, "host:late") == "late"
    assert key_ids(store, active=1) == {name.removesuffix(".key") for name in key_files(home)}
    assert key_ids(store, active=0) == set()


def test_eight_processes_that_keep_their_first_secret_make_one_key(
    tmp_path: Path, rounds: Callable[[int], int]
) -> None:
    for n in range(rounds(10)):
        home = tmp_path / str(n)
        url = f"sqlite:///{home / 'lab.db'}"
        Store.open(url).close()
        start_at = time.time() + 2.5
        for process in [beside(url, home, "put", f"box{worker}", start_at) for worker in range(8)]:
            _, said = process.communicate(timeout=120)
            assert process.returncode == 0, said.decode()
        store = Store.open(url)
        secrets = store.secrets(home)
        assert [reveal(secrets, f"host:box{worker}") for worker in range(8)] == [f"planted-box{w}" for w in range(8)]
        assert {f"{key}.key" for key in key_ids(store, active=1)} == key_files(home)
        assert len(key_files(home)) == 1
        assert key_ids(store, active=0) == set()
        store.close()


def test_killed_while_rotating_leaves_every_secret_readable(
    tmp_path: Path, dice: random.Random, rounds: Callable[[int], int]
) -> None:
    home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'lab.db'}"
    store = Store.open(url)
    first = store.secrets(home)
    expected = {f"host:box{n}": f"{PLANTED}-{n}" for n in range(30)}
    for owner, value in expected.items():
        first.put(owner, "password", Secret(value))
    for n in range(rounds(100)):
        process = beside(url, home, "rotate", "r")
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(dice.uniform(0, 0.08))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        secrets = store.secrets(home)
        expected[f"host:new{n}"] = f"new-{n}"
        secrets.put(f"host:new{n}", "password", Secret(f"new-{n}"))
        assert {owner: reveal(secrets, owner) for owner in expected} == expected
    assert store.secrets(home).rotate().left == 0
    # What the killed ones left behind is gone with the next change of keys.
    assert {path.removesuffix(".key") for path in key_files(home)} == key_ids(store, active=1)
    assert len(key_files(home)) == 1
    store.close()


def test_rotating_beside_readers_and_writers_loses_nothing(tmp_path: Path, rounds: Callable[[int], int]) -> None:
    home, url = tmp_path / "home", f"sqlite:///{tmp_path / 'home' / 'lab.db'}"
    store = Store.open(url)
    secrets = store.secrets(home)
    rotating = [beside(url, home, "rotate", "r") for _ in range(2)]
    try:
        for process in rotating:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
        for n in range(rounds(500)):
            with contextlib.suppress(NoAnswerError):
                secrets.put(f"host:box{n % 7}", "password", Secret(f"{PLANTED}-{n}"))
            assert reveal(secrets, f"host:box{n % 7}") == f"{PLANTED}-{n}"
        assert all(process.poll() is None for process in rotating)
    finally:
        for process in rotating:
            process.kill()
            _, said = process.communicate()
            assert process.returncode == -signal.SIGKILL, said.decode()
    store.close()


class OvertakenKeys(FileKeys):
    """Keys that someone else changes in the moment after one was read."""

    overtake: Callable[[], object] | None = None

    def read(self, key_id: str) -> Secret | None:
        found, overtake, self.overtake = super().read(key_id), self.overtake, None
        if overtake is not None:
            overtake()
        return found


def test_a_secret_is_not_kept_with_a_key_that_was_just_deleted(store: Store, secrets: Secrets, home: Path) -> None:
    secrets.put("host:box", "password", Secret("first"))
    keys = OvertakenKeys(home / "keys")
    keys.overtake = secrets.rotate
    Secrets(store._database, home, {"file": keys}).put("host:box2", "password", Secret(PLANTED))
    assert reveal(store.secrets(home), "host:box2") == PLANTED
    keys.overtake = secrets.rotate
    assert reveal(Secrets(store._database, home, {"file": keys}), "host:box2") == PLANTED


class ElsewhereKeys(FileKeys):
    """A keyring that is locked as long as ``locked`` says so."""

    locked = False

    def read(self, key_id: str) -> Secret | None:
        if self.locked:
            raise NoAnswerError("The keyring did not answer.", "Unlock it.")
        return super().read(key_id)

    def write(self, key_id: str, key: Secret) -> None:
        if self.locked:
            raise NoAnswerError("The keyring did not answer.", "Unlock it.")
        super().write(key_id, key)


def test_a_locked_keyring_hides_old_secrets_and_keeps_no_new_ones(store: Store, tmp_path: Path) -> None:
    keyring, files = ElsewhereKeys(tmp_path / "ring"), FileKeys(tmp_path / "keys")
    secrets = Secrets(store._database, tmp_path, {"keyring": keyring, "file": files})
    secrets.put("host:box", "password", Secret(PLANTED))
    keyring.locked = True
    later = Secrets(store._database, tmp_path, {"keyring": keyring, "file": files})
    with pytest.raises(NoAnswerError, match="did not answer") as caught:
        later.get("host:box", "password")
    assert caught.value.hint == "Unlock it."
    later.put("host:box2", "password", Secret("second"))
    assert len(list((tmp_path / "keys").iterdir())) == 1
    assert later.rotate().left == 1
    keyring.locked = False
    assert reveal(later, "host:box") == PLANTED
    rotation = later.rotate()
    assert (rotation.renewed, rotation.left, rotation.place) == (2, 0, "keyring")
    assert reveal(later, "host:box2") == "second"
    assert list((tmp_path / "keys").iterdir()) == []
