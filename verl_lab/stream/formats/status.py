"""A run's ``status.json``."""

from __future__ import annotations

from typing import Any, cast

import orjson

from verl_lab.domain.run import RunState, Status
from verl_lab.errors import FormatError


def decode_status(content: bytes) -> Status:
    """Read a status file.

    Raises
    ------
    FormatError
        If it is none.
    """
    try:
        found: Any = orjson.loads(content)
        fields = cast("dict[str, Any]", found)
        return Status(
            run=str(fields["run"]),
            attempt=int(fields["attempt"]),
            state=RunState(fields["state"]),
            step=_whole(fields.get("step")),
            total=_whole(fields.get("total")),
            phase=_text(fields.get("phase")),
            exit_code=_whole(fields.get("exit_code")),
            reason=_text(fields.get("reason")),
            started=_time(fields.get("started")),
            updated=_time(fields.get("updated")),
            ended=_time(fields.get("ended")),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise FormatError(f"status.json is no status: {type(error).__name__}: {error}.") from error


def _whole(value: object) -> int | None:
    return value if type(value) is int and abs(value) < 2**62 else None


def _text(value: object) -> str | None:
    return value.replace("\0", "�") if isinstance(value, str) else None


def _time(value: object) -> float | None:
    return float(value) if type(value) in (int, float) else None  # type: ignore[arg-type]
