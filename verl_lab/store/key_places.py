"""Where the keys are that secrets are encrypted with: in the system's keyring, or in files only the user can read.

A key is written once, under an id of its own, and never changed; so no two processes can be of different
minds about what it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shlex
import signal
import stat
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Protocol

from verl_lab.domain.secret import Secret
from verl_lab.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Generator
    from pathlib import Path

_SERVICE = "verl-lab"
_ANSWER_S = 10.0
_REST_S = 60.0

# A keyring may wait for ever for a dialogue that nobody sees: it is asked in a process that can be ended. What
# is asked and answered goes through pipes, since everyone on the machine can read a command line. A backend of
# a lower priority than 1 is one that keeps things in the clear, or none at all.
_ASK = """
import sys
sys.path[:] = [place for place in sys.path if place]  # not the folder of the notebook
import json
asked = json.load(sys.stdin)
try:
    import keyring
    from keyring.backends.chainer import ChainerBackend
    from keyring.errors import PasswordDeleteError
    backend = keyring.get_keyring()
    if isinstance(backend, ChainerBackend):
        backend = list(backend.backends)[0]
    if backend.priority < 1:
        raise LookupError
    name = (asked["service"], asked["name"])
    if asked["do"] == "write":
        backend.set_password(*name, asked["value"])
    elif asked["do"] == "delete":
        try:
            backend.delete_password(*name)
        except PasswordDeleteError:
            pass
    answer = {"value": backend.get_password(*name)}
except Exception as error:  # never what it said: that may hold the key
    answer = {"failed": type(error).__name__}
json.dump(answer, sys.stdout)
"""


class NoAnswerError(StoreError):
    """A place for keys does not work, or not now."""


class KeyPlace(Protocol):
    """Somewhere keys are kept by their ids."""

    def read(self, key_id: str) -> Secret | None:
        """Return a key; None if it is not here."""
        ...

    def write(self, key_id: str, key: Secret) -> None:
        """Keep a key durably."""
        ...

    def delete(self, key_id: str) -> None:
        """Forget a key; one that is not here is fine."""
        ...


class KeyringKeys:
    """Keys in the keyring of the operating system.

    Parameters
    ----------
    answer_s
        How long it may take to answer, in seconds. One that took longer is not asked again for a minute.

    Raises
    ------
    NoAnswerError
        By every method, where there is no keyring, or it did not answer.
    """

    def __init__(self, *, answer_s: float = _ANSWER_S) -> None:
        self._answer_s = answer_s
        self._silent_until = 0.0

    def read(self, key_id: str) -> Secret | None:
        """Return a key; None if it is not there."""
        return self._ask("read", key_id)

    def write(self, key_id: str, key: Secret) -> None:
        """Keep a key, and see that it is there."""
        if self._ask("write", key_id, key) != key:
            raise NoAnswerError("The keyring did not keep what it was given.")

    def delete(self, key_id: str) -> None:
        """Forget a key."""
        self._ask("delete", key_id)

    def _ask(self, task: str, key_id: str, key: Secret | None = None) -> Secret | None:
        if time.monotonic() < self._silent_until:
            raise NoAnswerError("The keyring did not answer a moment ago.", "Unlock it.")
        asked = Secret(
            json.dumps(
                {"do": task, "service": _SERVICE, "name": key_id, "value": key.reveal() if key is not None else None}
            )
        )
        process = subprocess.Popen(
            [sys.executable, "-c", _ASK],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,  # so that what a backend started ends with it
        )
        try:
            return _answered(process.communicate(asked.reveal().encode(), timeout=self._answer_s)[0])
        except subprocess.TimeoutExpired:
            self._silent_until = time.monotonic() + _REST_S
            raise NoAnswerError(
                f"The keyring did not answer within {self._answer_s:g} s.", "Unlock it, and try again."
            ) from None
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    # Not read to its end: a service that a backend started may hold it open for ever.
                    with contextlib.suppress(OSError):
                        pipe.close()


class FileKeys:
    """Keys in files that only the user can read.

    Parameters
    ----------
    folder
        Made when the first key is written.

    Raises
    ------
    StoreError
        By every method, where a file is open to others, or the file system refuses.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, key_id: str) -> Secret | None:
        """Return a key; None if there is no such file."""
        file = self._file(key_id)
        with _translated(f"read {file}"):
            try:
                descriptor = os.open(file, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            except FileNotFoundError:
                return None
            with os.fdopen(descriptor) as opened:
                _check_private(os.fstat(descriptor), file)
                return Secret(opened.read(1024))

    def write(self, key_id: str, key: Secret) -> None:
        """Write a key's file; it is there with all its content, or not at all."""
        file = self._file(key_id)
        temporary = file.with_name(f".{key_id}.{secrets.token_hex(4)}")
        with _translated(f"write {file}"):
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w") as opened:
                    opened.write(key.reveal())
                    opened.flush()
                    os.fsync(descriptor)
                os.link(temporary, file)
            finally:
                temporary.unlink(missing_ok=True)
            self._sync()

    def delete(self, key_id: str) -> None:
        """Remove a key's file."""
        with _translated(f"remove {self._file(key_id)}"):
            for left_over in self._folder.glob(f".{key_id}.*"):  # by a process that was killed as it wrote
                left_over.unlink(missing_ok=True)
            self._file(key_id).unlink(missing_ok=True)

    def _file(self, key_id: str) -> Path:
        return self._folder / f"{key_id}.key"

    def _sync(self) -> None:
        descriptor = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _answered(answer: bytes) -> Secret | None:
    try:
        said: dict[str, str] = json.loads(answer)
    except ValueError:
        raise NoAnswerError("There is no keyring that works: it gave no answer.") from None
    if "failed" in said:
        raise NoAnswerError(f"There is no keyring that works: {said['failed']}.")
    return Secret(said["value"]) if said.get("value") else None


def _check_private(found: os.stat_result, file: Path) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise StoreError(f"The key {file} is no plain file.", "Put back the file that was there.")
    if found.st_uid != os.geteuid():
        raise StoreError(f"The key {file} belongs to another user.", "Remove it, and give the secrets again.")
    if found.st_mode & 0o077:
        raise StoreError(
            f"The key {file} can be read by other users of this machine (mode {stat.S_IMODE(found.st_mode):04o}).",
            f"Run: chmod 600 {shlex.quote(str(file))}, and rotate the key if someone may have read it.",
        )


@contextlib.contextmanager
def _translated(task: str) -> Generator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError(f"Could not {task}: {error.strerror}.") from error
