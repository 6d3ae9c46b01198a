from __future__ import annotations

import copy
import dataclasses
import json
import logging
import pickle
import traceback
from typing import TYPE_CHECKING

import orjson
import pytest

from verl_lab.domain.secret import Secret
from verl_lab.errors import InvalidInputError

if TYPE_CHECKING:
    from collections.abc import Callable

PLANTED = "planted-9c41-secret"


@dataclasses.dataclass
class Login:
    user: str
    password: Secret


def test_no_way_of_showing_it_shows_it(caplog: pytest.LogCaptureFixture) -> None:
    secret = Secret(PLANTED)
    logging.getLogger("test").warning("%s %r %s", secret, secret, [secret])
    login = Login("me", secret)
    texts = [repr(secret), str(secret), f"{secret}", f"{secret!r:>80}", f"{secret:>80}", repr([secret]), repr(login),
              str(dir(secret)), caplog.text]  # fmt: skip
    assert not [text for text in texts if PLANTED in text]
    assert not hasattr(secret, "__dict__")


def test_a_traceback_with_all_variables_does_not_show_it() -> None:
    def connect(password: Secret) -> None:
        login = Login("me", password)
        raise OSError(f"refused: {login}")

    with pytest.raises(OSError, match="refused") as caught:
        connect(Secret(PLANTED))
    lines = list(traceback.TracebackException.from_exception(caught.value, capture_locals=True).format())
    assert any("password = Secret(…)" in line for line in lines)
    # The line of this file that makes it is quoted, with the name of the constant and not its value.
    assert PLANTED not in "".join(lines)


@pytest.mark.parametrize(
    "write",
    [
        json.dumps,
        orjson.dumps,
        pickle.dumps,
        lambda secret: pickle.dumps(secret, 0),
        lambda secret: secret.__getstate__(),
        lambda secret: secret.__reduce__(),
        lambda secret: orjson.dumps(Login("me", secret)),
    ],
)
def test_it_cannot_be_written_down(write: Callable[[Secret], object]) -> None:
    with pytest.raises(TypeError) as caught:
        write(Secret(PLANTED))
    assert PLANTED not in str(caught.value)


def test_a_copy_is_as_closed_as_the_secret() -> None:
    secret = Secret(PLANTED)
    assert copy.copy(secret) is secret
    assert dataclasses.replace(Login("me", secret)).password is secret
    assert copy.deepcopy([secret]) == [secret]
    assert dataclasses.asdict(Login("me", secret))["password"] == secret


def test_it_is_told_apart_without_a_hash() -> None:
    assert Secret("a") == Secret("a")
    assert Secret("a") != Secret("b")
    assert Secret("a") != "a"
    with pytest.raises(TypeError):
        hash(Secret("a"))


@pytest.mark.parametrize("value", ["", None, 7, b"bytes", f"{PLANTED}\0", PLANTED * 1000])
def test_what_cannot_be_one_is_refused_without_being_shown(value: object) -> None:
    with pytest.raises(InvalidInputError, match=r"^secret: ") as caught:
        Secret(value)  # pyright: ignore[reportArgumentType]
    assert PLANTED not in str(caught.value)
