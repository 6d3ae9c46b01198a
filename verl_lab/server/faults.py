"""What is answered when something goes wrong: one place from errors to status and body."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from verl_lab.errors import (
    EnvironmentMismatchError,
    InvalidConfigurationError,
    InvalidInputError,
    LaunchError,
    NotFoundError,
    StoreError,
    TransportError,
    VerlLabError,
)

if TYPE_CHECKING:
    from pydantic import ValidationError


class TooManyError(VerlLabError):
    """More was asked than is answered at once."""


class ConflictError(InvalidInputError):
    """What was asked is well formed, and does not fit what is there by now."""


_STATUS: tuple[tuple[type[VerlLabError], int], ...] = (
    (TooManyError, 429),
    (NotFoundError, 404),
    (ConflictError, 409),
    (LaunchError, 409),
    (EnvironmentMismatchError, 409),
    (TransportError, 502),
    (StoreError, 503),
)
_FIELD = re.compile(r"([A-Za-z_][\w.\[\]-]*): ")
_PATH = re.compile(r"(?<![\w/.~:])/(?:[^\s/'\"`:,;()<>]+/)*[^\s/'\"`:,;()<>]+")


def status_of(error: VerlLabError) -> int:
    """Return the HTTP status that an error is answered with."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 400)


def body_of(error: VerlLabError, given: str) -> dict[str, Any]:
    """Return what is said of an error.

    Parameters
    ----------
    given
        All that the request held: paths that are not in it are shortened to their last part.
    """
    match = _FIELD.match(error.message)
    found: dict[str, Any] = {
        "message": without_paths(error.message, given),
        "hint": None if error.hint is None else without_paths(error.hint, given),
        "field": match[1] if match and isinstance(error, InvalidInputError) else None,
    }
    if isinstance(error, InvalidConfigurationError):
        found["problems"] = [_problem(without_paths(problem, given)) for problem in error.problems]
    return found


def body_of_input(error: ValidationError) -> dict[str, Any]:
    """Return what is said of an input that is not as it should be; no value is repeated, since one may be a secret."""
    problems = [
        {"field": ".".join(map(str, one["loc"])) or "body", "message": one["msg"]}
        for one in error.errors(include_url=False, include_context=False, include_input=False)
    ]
    first = problems[0]
    return {
        "message": f"{first['field']}: {first['message']}.",
        "hint": "GET openapi.json has the schema of every request.",
        "field": first["field"],
        "problems": problems,
    }


def without_paths(text: str, given: str) -> str:
    """Return a text in which paths of this machine are their last part, but for those that ``given`` holds."""
    return _PATH.sub(lambda match: match[0] if match[0] in given else f"…/{match[0].rpartition('/')[2]}", text)


def _problem(text: str) -> dict[str, str]:
    field, colon, message = text.partition(": ")
    return {"field": field, "message": message} if colon else {"field": "", "message": text}
