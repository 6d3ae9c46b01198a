"""The run folder's layout and record format, version 1: the one place that knows them.

::

    <run>/run.json  config.yaml  command.txt  checks.json  reward.py  code/  checkpoints/
    <run>/attempts/<n>/status.json  progress.json  metrics.jsonl  events.jsonl  system.jsonl
    <run>/attempts/<n>/train.log  command.txt  samples/  stop.json

``metrics.jsonl``, ``events.jsonl`` and ``system.jsonl`` hold one JSON object a line. The first line is a header
(``{"verl_lab": 1, "run": …, "attempt": …, "pid": …, "process_start": …, "boot_id": …}``), each
later one a record. A metric record is ``{"seq", "step", "time", "data": {name: number}}``; JSON has
no NaN or Infinity, so these three travel as the strings ``"NaN"``, ``"Infinity"``, ``"-Infinity"``.
A value that is no number is left out and named in ``"rejected": {name: why}``, so that one bad
value never costs the rest of its step. An event is ``{"seq", "time", "kind", "step", "source",
"data"}``; ``seq`` counts up in each source.

``system.jsonl`` holds what the training host was measured to do: metric records by time, any number of them a
step. Their ``step`` is the one in work, 0 while none is, and their names begin with ``system/``. It may be
absent, and who does not know it misses nothing of the training.

This module is imported inside verl's own processes: it needs orjson and nothing else.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Generic, TypeGuard, TypeVar, cast

import orjson

from verl_lab.errors import FormatError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import PurePath

FORMAT_VERSION = 1
SYSTEM = "system/"  # how the names of what the training host was measured to do begin

_FLOAT = frozenset({float})
_PLAIN = frozenset({float, int})
_PLAIN_OPTIONS = orjson.OPT_APPEND_NEWLINE | orjson.OPT_SERIALIZE_NUMPY
_LARGEST = 2**62  # steps and sequence numbers are kept, and counted on, as 64-bit integers
_LONGEST_LABEL = 200

_NON_FINITE = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}

P = TypeVar("P", bound="PurePath")


@dataclass(frozen=True)
class RunLayout(Generic[P]):
    """Where the files of a run lie, below its folder."""

    folder: P

    @property
    def record(self) -> P:
        """The launch record, written once."""
        return self.folder / "run.json"

    @property
    def config(self) -> P:
        """verl's resolved configuration."""
        return self.folder / "config.yaml"

    @property
    def command(self) -> P:
        """The exact command, to copy."""
        return self.folder / "command.txt"

    @property
    def checks(self) -> P:
        """How the training process judges the run, and whom it tells."""
        return self.folder / "checks.json"

    @property
    def reward(self) -> P:
        """The reward function's file as it was at launch; absent where the run has none."""
        return self.folder / "reward.py"

    @property
    def code(self) -> P:
        """The user's modules as they were at launch, and where training runs; absent on the machine of the launch."""
        return self.folder / "code"

    @property
    def checkpoints(self) -> P:
        """verl's checkpoints, shared by the attempts."""
        return self.folder / "checkpoints"

    @property
    def attempts(self) -> P:
        """One folder for each start of the run."""
        return self.folder / "attempts"

    def attempt(self, number: int) -> AttemptLayout[P]:
        """Return the layout of attempt ``number``, counted from 1."""
        return AttemptLayout(self.attempts / str(number))


@dataclass(frozen=True)
class AttemptLayout(Generic[P]):
    """Where the files of one attempt lie."""

    folder: P

    @property
    def status(self) -> P:
        """State, exit code and heartbeat; the supervisor writes it."""
        return self.folder / "status.json"

    @property
    def progress(self) -> P:
        """Phase, step and total; the trainer writes it."""
        return self.folder / "progress.json"

    @property
    def metrics(self) -> P:
        """One record a logged step."""
        return self.folder / "metrics.jsonl"

    @property
    def events(self) -> P:
        """Lifecycle, validation, checkpoints, trouble."""
        return self.folder / "events.jsonl"

    @property
    def system(self) -> P:
        """What the training host was measured to do, by time; the sampler writes it."""
        return self.folder / "system.jsonl"

    @property
    def log(self) -> P:
        """What training printed."""
        return self.folder / "train.log"

    @property
    def samples(self) -> P:
        """Prompts, responses and scores, as verl dumps them."""
        return self.folder / "samples"

    @property
    def stop_request(self) -> P:
        """Present when someone asked the attempt to stop."""
        return self.folder / "stop.json"


@dataclass(frozen=True)
class Header:
    """First line of a metrics, events or system file: who writes it."""

    run: str
    attempt: int
    pid: int
    process_start: int
    boot_id: str
    version: int = FORMAT_VERSION


@dataclass(frozen=True)
class MetricRecord:
    """What the trainer logged at one step.

    Attributes
    ----------
    seq
        Position in the writer's own order; clocks may jump, this does not.
    step
        The trainer's global step.
    time
        Unix time in seconds; None where the log does not carry it.
    data
        Every scalar, by metric name.
    rejected
        Names whose value was no number, with the reason.
    """

    seq: int
    step: int
    time: float | None
    data: dict[str, float]
    rejected: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True)
class EventRecord:
    """Something that happened to the run, other than a step."""

    seq: int
    time: float | None
    kind: str
    step: int | None = None
    source: str = "trainer"
    data: dict[str, Any] = field(default_factory=dict[str, Any])


def encode_header(header: Header) -> bytes:
    """Return the header as one line."""
    return orjson.dumps(
        {
            "verl_lab": header.version,
            "run": header.run,
            "attempt": header.attempt,
            "pid": header.pid,
            "process_start": header.process_start,
            "boot_id": header.boot_id,
        },
        option=orjson.OPT_APPEND_NEWLINE,
    )


def encode_metrics(seq: int, step: int, time: float | None, data: Mapping[Any, object]) -> bytes:
    """Return one metric record as a line; values that are no numbers go to ``rejected``."""
    if line := _encode_plain(seq, step, time, data):
        return line
    numbers: dict[str, float | str] = {}
    rejected: dict[str, str] = {}
    for key, value in data.items():
        name = key if isinstance(key, str) else str(key)
        number = value if type(value) is float else _as_float(value)
        if number is None:
            rejected[name] = _why_no_number(value)
        elif math.isfinite(number):
            numbers[name] = number
        else:
            numbers[name] = "NaN" if math.isnan(number) else "Infinity" if number > 0 else "-Infinity"
    record: dict[str, Any] = {"seq": seq, "step": step, "time": time, "data": numbers}
    if rejected:
        record["rejected"] = rejected
    return _dump(record)


def encode_event(event: EventRecord) -> bytes:
    """Return one event as a line; what JSON cannot hold travels as text."""
    return _dump(
        {
            "seq": event.seq,
            "time": event.time,
            "kind": event.kind,
            "step": event.step,
            "source": event.source,
            "data": event.data,
        }
    )


def decode_header(line: bytes) -> Header:
    """Read a header line.

    Raises
    ------
    FormatError
        If the line is no header, or of a version newer than this code.
    """
    found = _load(line)
    version = found.get("verl_lab")
    if not isinstance(version, int):
        raise FormatError("The file does not begin with a verl-lab header.", "Expected a first line with 'verl_lab'.")
    if version > FORMAT_VERSION:
        raise FormatError(
            f"The file is in format {version}; this verl-lab reads up to {FORMAT_VERSION}.", "Upgrade verl-lab."
        )
    try:
        return Header(
            run=str(found["run"]),
            attempt=int(found["attempt"]),
            pid=int(found["pid"]),
            process_start=int(found["process_start"]),
            boot_id=str(found["boot_id"]),
            version=version,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise FormatError(f"The header lacks or garbles a field: {error}.") from error


def decode_metrics(line: bytes) -> MetricRecord:
    """Read one metric record; a value that is no number is moved to ``rejected``.

    Raises
    ------
    FormatError
        If the line as a whole is no metric record.
    """
    found = _load(line)
    data, step, seq, time = found.get("data"), found.get("step"), found.get("seq"), found.get("time")
    if not isinstance(data, dict) or not _is_count(step) or not _is_count(seq):
        raise FormatError("The line is no metric record.", "Expected 'seq', 'step' and 'data'.")
    numbers, rejected = numbers_of(cast("dict[str, object]", data))
    named = found.get("rejected")
    if isinstance(named, dict):
        rejected.update({str(k): str(v) for k, v in cast("dict[object, object]", named).items()})
    return MetricRecord(seq, step, float(time) if isinstance(time, (int, float)) else None, numbers, rejected)


def decode_event(line: bytes) -> EventRecord:
    """Read one event.

    Raises
    ------
    FormatError
        If the line is no event.
    """
    found = _load(line)
    kind, seq, time, step, data = (found.get(k) for k in ("kind", "seq", "time", "step", "data"))
    source = found.get("source", "trainer")
    if not _is_label(kind) or not _is_label(source) or not _is_count(seq):
        raise FormatError("The line is no event.", "Expected 'seq', 'kind' and 'source'.")
    return EventRecord(
        seq=seq,
        time=float(time) if isinstance(time, (int, float)) else None,
        kind=kind,
        step=step if _is_count(step) else None,
        source=source,
        data=cast("dict[str, Any]", data) if isinstance(data, dict) else {},
    )


def numbers_of(data: dict[str, object]) -> tuple[dict[str, float], dict[str, str]]:
    """Split decoded values into numbers and, by name, why the others are none.

    ``None`` is what verl's own file logger writes for NaN and both infinities; it is read as NaN.
    """
    if _FLOAT.issuperset(map(type, data.values())):
        return cast("dict[str, float]", data), {}
    numbers: dict[str, float] = {}
    rejected: dict[str, str] = {}
    for name, value in data.items():
        if type(value) is float:
            numbers[name] = value
        elif value is None:
            numbers[name] = math.nan
        elif isinstance(value, str) and value in _NON_FINITE:
            numbers[name] = _NON_FINITE[value]
        elif isinstance(value, (int, float)):
            numbers[name] = float(value)
        else:
            rejected[name] = _why_no_number(value)
    return numbers, rejected


def _is_count(value: object) -> TypeGuard[int]:
    return type(value) is int and -_LARGEST <= value < _LARGEST


def _is_label(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and 0 < len(value) <= _LONGEST_LABEL and "\0" not in value


def _encode_plain(seq: int, step: int, time: float | None, data: Mapping[Any, object]) -> bytes | None:
    """Return the line if all values are finite and of types that orjson writes exactly; else None."""
    unusual = set(map(type, data.values())) - _PLAIN
    # numpy's float64 is what verl's reductions give. It is told by name, so that numpy need not be imported here.
    if any(kind.__name__ != "float64" or kind.__module__ != "numpy" for kind in unusual):
        return None
    try:
        line = orjson.dumps({"seq": seq, "step": step, "time": time, "data": data}, option=_PLAIN_OPTIONS)
    except orjson.JSONEncodeError:
        return None
    if unusual:
        # orjson writes NaN and both infinities as null.
        return None if b":null" in line else line
    # A sum is finite only if all its parts are; adding up takes a fifth of the time of searching the line.
    return line if math.isfinite(sum(cast("Mapping[Any, float]", data).values())) else None


def _as_float(value: object) -> float | None:
    """Turn what trainers log (ints, bools, numpy and torch scalars) into a float, else None."""
    if isinstance(value, (str, bytes)) or value is None:
        return None
    try:
        return float(cast("Any", value))
    except Exception:  # noqa: BLE001  a foreign object's __float__ may raise anything; the step must survive it
        return None


def _why_no_number(value: object) -> str:
    return f"{type(value).__name__} is no number"


def _dump(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record, option=orjson.OPT_APPEND_NEWLINE, default=str)
    except orjson.JSONEncodeError:
        # Lone surrogates, integers past 64 bits, odd keys: keep the record, spell those parts as text.
        return orjson.dumps(_plain(record), option=orjson.OPT_APPEND_NEWLINE)


def _plain(value: object) -> Any:
    if isinstance(value, dict):
        return {_plain(str(k)): _plain(v) for k, v in cast("dict[object, object]", value).items()}
    if isinstance(value, (list, tuple)):
        return [_plain(v) for v in cast("list[object]", value)]
    if value is None or isinstance(value, (bool, float)):
        return value
    if isinstance(value, int) and -(2**63) <= value < 2**63:
        return value
    return str(value).encode("utf-8", "backslashreplace").decode("utf-8")


def _load(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise FormatError(f"The line is no JSON: {error}.") from error
    if not isinstance(found, dict):
        raise FormatError("The line is JSON, but no object.")
    return cast("dict[str, Any]", found)
