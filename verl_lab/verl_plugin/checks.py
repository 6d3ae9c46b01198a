"""How this run is to be judged, as ``checks.json`` in the run folder says."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, cast

import orjson

from verl_lab.domain.wire import RunLayout
from verl_lab.errors import FormatError

if TYPE_CHECKING:
    from pathlib import Path

    from verl_lab.verl_plugin.attempt import Attempt

_ANSWERS = ("stop", "mark", "ignore")


@dataclass(frozen=True)
class Checks:
    """What follows from a critical finding, the changed thresholds, and who is told.

    Attributes
    ----------
    on_critical
        ``stop``, ``mark`` or ``ignore``.
    thresholds
        As ``diagnostics.resolve_thresholds`` takes them.
    command, webhook
        Whom to tell of grave findings; empty and None for nobody.
    """

    on_critical: str = "mark"
    thresholds: dict[str, Any] = field(default_factory=dict[str, Any])
    command: tuple[str, ...] = ()
    webhook: str | None = None


def run_layout(attempt: Attempt) -> RunLayout[Path]:
    """Return where the files of the attempt's run lie."""
    return RunLayout(attempt.layout.folder.parent.parent)


def read_checks(attempt: Attempt) -> Checks:
    """Return the run's checks; the usual ones where the run folder has none.

    Raises
    ------
    FormatError
        The file is there, and is not what it should be.
    """
    path = run_layout(attempt).checks
    try:
        found: Any = orjson.loads(path.read_bytes())
    except FileNotFoundError:
        return Checks()
    except orjson.JSONDecodeError as error:
        raise FormatError(f"{path}: what it holds is no JSON: {error}.") from error
    try:
        on_critical, alerts = found["on_critical"], found["alerts"]
        checks = Checks(
            on_critical=on_critical,
            thresholds=dict(found["thresholds"]),
            command=tuple(str(item) for item in alerts["command"]),
            webhook=alerts["webhook"],
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{path}: a field is missing or garbled: {error!r}.") from error
    if on_critical not in _ANSWERS:
        raise FormatError(f"{path}: on_critical: {on_critical!r} is none of {', '.join(_ANSWERS)}.")
    return checks


def read_config(attempt: Attempt) -> dict[str, Any] | None:
    """Return verl's configuration as the run folder holds it; None where it does not."""
    import yaml

    try:
        found = yaml.load(run_layout(attempt).config.read_bytes(), Loader=yaml.CSafeLoader)
    except (OSError, yaml.YAMLError):
        return None
    return cast("dict[str, Any]", found) if isinstance(found, dict) else None
