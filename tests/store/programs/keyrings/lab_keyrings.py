"""Keyrings as users have them: one that works, and some that do not."""

# ruff: noqa: ARG002  what is given follows from whose methods these are
from __future__ import annotations

import json
import os
import time
from pathlib import Path

from keyring.backend import KeyringBackend


class Working(KeyringBackend):
    """Keeps what it is given in the file that ``LAB_KEYRING_FILE`` names."""

    priority = 5  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]

    def _all(self) -> dict[str, str]:
        file = Path(os.environ["LAB_KEYRING_FILE"])
        return json.loads(file.read_text()) if file.exists() else {}

    def _keep(self, held: dict[str, str]) -> None:
        Path(os.environ["LAB_KEYRING_FILE"]).write_text(json.dumps(held))

    def get_password(self, service: str, username: str) -> str | None:
        return self._all().get(f"{service}/{username}")

    def set_password(self, service: str, username: str, password: str) -> None:
        self._keep({**self._all(), f"{service}/{username}": password})

    def delete_password(self, service: str, username: str) -> None:
        held = self._all()
        held.pop(f"{service}/{username}", None)
        self._keep(held)


class Hanging(Working):
    """Waits for someone who does not come, in a process of its own as a dialogue would."""

    def get_password(self, service: str, username: str) -> str | None:
        Path(os.environ["LAB_KEYRING_FILE"]).write_text(str(os.getpid()))
        if os.fork() == 0:
            time.sleep(600)
        time.sleep(600)
        return None

    def set_password(self, service: str, username: str, password: str) -> None:
        self.get_password(service, username)


class Daemon(Hanging):
    """Starts a service that outlives it and holds what it was given open, and waits for that."""

    def get_password(self, service: str, username: str) -> str | None:
        pid = os.fork()
        if pid == 0:
            os.setsid()
        else:
            Path(os.environ["LAB_KEYRING_FILE"]).write_text(str(pid))
        time.sleep(600)
        return None


class Failing(Working):
    """Says what it was given as it fails."""

    def set_password(self, service: str, username: str, password: str) -> None:
        raise RuntimeError(f"cannot keep {password}")


class Forgetful(Working):
    """Says nothing, and keeps nothing."""

    def set_password(self, service: str, username: str, password: str) -> None:
        pass


class InTheClear(Working):
    """What a keyring that does not encrypt says of itself."""

    priority = 0.5  # pyright: ignore[reportAssignmentType, reportIncompatibleMethodOverride]
