"""Which format a file is in, from its content; names and endings say nothing."""

from __future__ import annotations

from verl_lab.domain.wire import MetricRecord
from verl_lab.stream.formats import ours, tensorboard, verl_console, verl_file
from verl_lab.stream.formats.base import LogFormat
from verl_lab.stream.tfrecord import read_records

_FORMATS: dict[str, LogFormat] = {
    "metrics": ours.METRICS,
    "verl_file": LogFormat(lambda: verl_file.parse),
    "verl_console": LogFormat(verl_console.ConsoleParser, context_bytes=verl_console.CONTEXT_BYTES),
    "tensorboard": LogFormat(lambda: tensorboard.parse, split=read_records),
}
_TRIED_LINES = 100


def format_named(name: str) -> LogFormat:
    """Return the parser of a format that ``recognise`` named."""
    return _FORMATS[name]


def recognise(content: bytes) -> str | None:
    """Return which format a file beginning with ``content`` is in; None if it is none, or not clear yet.

    Returns
    -------
    str or None
        ``metrics`` (a run's metrics.jsonl), ``verl_file``, ``verl_console`` or ``tensorboard``.
    """
    if tensorboard.begins(content):
        return "tensorboard"
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
