from __future__ import annotations

import os
import re
import signal
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from verl_lab.domain.secret import Secret
from verl_lab.store.key_places import FileKeys, KeyringKeys, NoAnswerError
from verl_lab.store.secrets import Secrets

if TYPE_CHECKING:
    from collections.abc import Callable

    from verl_lab.store import Store

KEYRINGS = Path(__file__).parent / "programs" / "keyrings"
KEY = Secret("planted-key-7d2e")


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], Path]:
    """Return what chooses the keyring of this test, and gives the file it writes to."""

    def choose(name: str) -> Path:
        monkeypatch.setenv("PYTHONPATH", str(KEYRINGS))
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", f"lab_keyrings.{name}")
        monkeypatch.setenv("LAB_KEYRING_FILE", str(tmp_path / "ring"))
        return tmp_path / "ring"

    return choose


def processes(marker: str) -> list[str]:
    """Return the command lines of the processes whose environment names ``marker``."""
    found: list[str] = []
    for place in Path("/proc").glob("[0-9]*"):
        try:
            environment, command = (place / "environ").read_bytes(), (place / "cmdline").read_bytes()
        except OSError:
            continue
        if marker.encode() in environment and int(place.name) != os.getpid():
            found.append(command.decode(errors="replace"))
    return found


def test_a_working_keyring_keeps_keys(use: Callable[[str], Path]) -> None:
    ring = use("Working")
    keys = KeyringKeys()
    assert keys.read("one") is None
    keys.write("one", KEY)
    assert keys.read("one") == KEY
    assert KEY.reveal() in ring.read_text()
    keys.delete("one")
    keys.delete("one")
    assert keys.read("one") is None


@pytest.mark.parametrize("name", ["Failing", "Forgetful", "InTheClear", "NoSuchBackend"])
def test_a_keyring_that_does_not_work_is_none(use: Callable[[str], Path], name: str) -> None:
    use(name)
    with pytest.raises(NoAnswerError, match=r"[Kk]eyring") as caught:
        KeyringKeys().write("one", KEY)
    assert KEY.reveal() not in str(caught.value)


def test_no_keyring_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    for backend in ("keyring.backends.null.Keyring", "keyring.backends.fail.Keyring"):
        monkeypatch.setenv("PYTHON_KEYRING_BACKEND", backend)
        with pytest.raises(NoAnswerError, match="no keyring that works"):
            KeyringKeys().write("one", KEY)


def test_a_keyring_that_hangs_is_left_with_all_it_started(use: Callable[[str], Path], tmp_path: Path) -> None:
    use("Hanging")
    keys = KeyringKeys(answer_s=2.0)
    asked = threading.Event()
    seen: list[str] = []

    def look() -> None:
        while not asked.is_set():
            seen.extend(processes(str(tmp_path)))
            time.sleep(0.02)

    thread = threading.Thread(target=look)
    thread.start()
    try:
        with pytest.raises(NoAnswerError, match="did not answer within 2 s"):
            keys.write("one", KEY)
    finally:
        asked.set()
        thread.join()
    assert seen, "the process that was asked was seen"
    assert not [command for command in seen if KEY.reveal() in command]
    assert processes(str(tmp_path)) == []
    # It is not waited for again and again.
    with pytest.raises(NoAnswerError, match="a moment ago"):
        keys.read("one")


def test_a_service_that_a_keyring_left_behind_is_not_waited_for(use: Callable[[str], Path]) -> None:
    ring = use("Daemon")
    try:
        with pytest.raises(NoAnswerError, match="did not answer within 2 s"):
            KeyringKeys(answer_s=2.0).write("one", KEY)
    finally:
        os.kill(int(ring.read_text()), signal.SIGKILL)


def test_secrets_go_to_a_file_where_the_keyring_hangs(use: Callable[[str], Path], store: Store, tmp_path: Path) -> None:
    use("Hanging")
    places = {"keyring": KeyringKeys(answer_s=1.0), "file": FileKeys(tmp_path / "home" / "keys")}
    secrets = Secrets(store._database, tmp_path / "home", places)
    secrets.put("host:box", "password", Secret("planted"))
    assert secrets.get("host:box", "password") == Secret("planted")
    (file,) = (tmp_path / "home" / "keys").iterdir()
    assert re.fullmatch(r"[0-9a-f]{16}\.key", file.name)


def test_secrets_use_the_keyring_where_it_works(use: Callable[[str], Path], store: Store, tmp_path: Path) -> None:
    ring = use("Working")
    secrets = store.secrets(tmp_path / "home")
    secrets.put("host:box", "password", Secret("planted"))
    assert store.secrets(tmp_path / "home").get("host:box", "password") == Secret("planted")
    assert not (tmp_path / "home").exists()
    before = ring.read_text()
    assert secrets.rotate().place == "keyring"
    assert before.count("verl-lab/") == ring.read_text().count("verl-lab/") == 1
    assert ring.read_text() != before


def test_a_module_beside_the_notebook_is_not_taken_for_the_keyring(
    use: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use("Working")
    (tmp_path / "keyring.py").write_text("raise SystemExit('taken')")
    (tmp_path / "json.py").write_text("raise SystemExit('taken')")
    monkeypatch.chdir(tmp_path)
    KeyringKeys().write("one", KEY)
    assert KeyringKeys().read("one") == KEY
