"""Which format a path is in, from its content; names and endings say nothing."""

from __future__ import annotations

from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from verl_lab.domain.wire import MetricRecord, RunLayout
from verl_lab.errors import FormatError, NotFoundError
from verl_lab.stream.formats import ours, verl_console, verl_file

if TYPE_CHECKING:
    from verl_lab.stream.formats.base import LogFormat
    from verl_lab.transport.base import Host

EXPECTED = (
    "Expected a run folder of verl-lab, the log of verl's file logger "
    '(lines of {"step": …, "data": {…}}) or verl\'s console log (lines of \'step:N - key:value - …\').'
)

_FORMATS: dict[str, LogFormat] = {
    "metrics": ours.parse_metrics,
    "verl_file": verl_file.parse,
    "verl_console": verl_console.parse,
}
_FIRST_BYTES = 2**20
_MOST_BYTES = 2**26
_TRIED_LINES = 100


def format_named(name: str) -> LogFormat:
    """Return the parser of a format that ``recognise`` named."""
    return _FORMATS[name]


def recognise(content: bytes) -> str | None:
    """Return which format a file beginning with ``content`` is in; None if it is none, or not clear yet.

    Returns
    -------
    str or None
        ``metrics`` (a run's metrics.jsonl), ``verl_file`` or ``verl_console``.
    """
    lines = content[: content.rfind(b"\n") + 1].splitlines()
    if lines and lines[0].startswith(b'{"verl_lab":'):
        return "metrics"
    if any(isinstance(verl_file.decode(0, line), MetricRecord) for line in lines[:_TRIED_LINES]):
        return "verl_file"
    if any(verl_console.decode(0, line) is not None for line in lines):
        return "verl_console"
    if verl_console.looks_like_verl(content.decode("utf-8", "replace")):
        return "verl_console"
    return None


def detect_source(host: Host, path: str) -> str:
    """Say what lies at ``path``.

    Returns
    -------
    str
        ``run`` for a run folder, else the format as ``recognise`` names it.

    Raises
    ------
    NotFoundError
        If nothing lies there.
    FormatError
        If it is no format that is known.
    """
    found = host.stat(path)
    if found is None:
        raise NotFoundError(f"path: there is nothing at {path}.", EXPECTED)
    if found.is_dir:
        names = host.list_folder(path)
        layout = RunLayout(PurePosixPath(path))
        if layout.record.name in names or layout.attempts.name in names:
            return "run"
        raise FormatError(f"The folder {path} is no run folder: it has no run.json and no attempts.", EXPECTED)
    limit = _FIRST_BYTES
    while True:
        content = host.read(path, 0, limit)
        name = recognise(content)
        if name is not None:
            return name
        if len(content) < limit or limit >= _MOST_BYTES or b"\0" in content:
            break
        limit *= 8
    said = "is empty" if not content else "is none of verl's logs"
    raise FormatError(f"The file {path} {said}.", EXPECTED)
