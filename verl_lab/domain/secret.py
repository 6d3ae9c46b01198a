"""A password or passphrase on its way to where it is needed."""

from __future__ import annotations

import hmac
from typing import NoReturn

from verl_lab.errors import InvalidInputError

_LONGEST = 4096


class Secret:
    """A text that shows itself to nobody who does not ask: not in messages, logs, tracebacks, JSON or pickles.

    Parameters
    ----------
    value
        At least one character, without null characters.

    Raises
    ------
    InvalidInputError
        It is empty, too long, or no text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        # The value itself is never part of the message.
        if not isinstance(value, str) or not value:  # pyright: ignore[reportUnnecessaryIsInstance]  comes from users
            raise InvalidInputError("secret: it is empty.", "Give the password or passphrase as text.")
        if len(value) > _LONGEST or "\0" in value:
            raise InvalidInputError(f"secret: it is longer than {_LONGEST:,} characters, or holds a null character.")
        self._value = value

    def reveal(self) -> str:
        """Return the text; hand it on directly, in no variable that a traceback could show."""
        return self._value

    def __repr__(self) -> str:
        return "Secret(…)"

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and hmac.compare_digest(self._value.encode(), other._value.encode())

    __hash__ = None  # pyright: ignore[reportAssignmentType]  a hash says something about the value

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __getstate__(self) -> NoReturn:
        raise TypeError("A secret cannot be written down.")

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("A secret cannot be written down.")
